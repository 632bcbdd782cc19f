"""The address that a server listens at."""

from __future__ import annotations

import errno
import ipaddress
import socket

from easyvideor1.types import ConfigError


def is_loopback(host: str) -> bool:
    """Whether an address, or a name without its port, is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet: a wrong address fails before anything is loaded.

    Raises:
        ConfigError: the address is taken, not allowed, or not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"--host {host}: {error}; give an address of this machine") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise address_error(host, port, error) from error
    return listener


def address_error(host: str, port: int, error: OSError) -> ConfigError:
    """Why an address cannot be listened at, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} of {host} is taken by another program; end it, or choose another --port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} may not be used without privileges; choose a --port above 1023")
    return ConfigError(f"{host}, port {port}: {error.strerror or error}; give an address of this machine")
