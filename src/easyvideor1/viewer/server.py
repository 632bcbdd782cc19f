"""Serve the site until a signal comes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import uvicorn

from easyvideor1.serving.address import address_error, bound_socket
from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.guard import TOKEN
from easyvideor1.viewer.library import Library

#: Seconds that answers under way get when the server ends.
_GRACE_SECONDS = 2


def serve(
    library: Library, host: str, port: int, token: str, say: Callable[[str], None], data: tuple[Path, ...] = ()
) -> None:
    """Serve until SIGTERM or SIGINT comes.

    Args:
        library: what is shown.
        host: address to listen at.
        port: 0 takes a free one.
        token: that callers must have; empty for none.
        say: tells where the site is.
        data: configurations, or files of rows, whose rows are shown.

    Raises:
        ConfigError: the address cannot be used.
    """
    with closing(bound_socket(host, port)) as listener:
        try:
            listener.listen(128)
        except OSError as error:
            raise address_error(host, port, error) from error
        settings = uvicorn.Config(
            build_app(library, token=token, data=data),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        query = f"?{TOKEN}={quote(token, safe='')}" if token else ""
        say(f"look at {_address(listener, host)}{query} (Ctrl-C ends the viewer)")
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has ended
            uvicorn.Server(settings).run(sockets=[listener])
    say("the viewer has ended")


def _address(listener: socket.socket, host: str) -> str:
    """The address of the site; an address that stands for all of a machine becomes its name."""
    name, port = listener.getsockname()[:2]
    if host == "localhost":
        name = host
    elif name in ("0.0.0.0", "::"):
        name = socket.gethostname()
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
