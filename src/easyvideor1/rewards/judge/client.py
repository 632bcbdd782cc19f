"""One request to an OpenAI-compatible endpoint: sent, answered or refused within a deadline, never repeated.

The protocol needs one POST of a small JSON object, so the standard library does; attempts, pauses and the budget are
counted in ``judge``, which could not see what a client library repeats by itself.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from easyvideor1.config.schema import JudgeConfig
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError

#: Statuses that a further attempt may cure, beside all of 5xx.
_PASSING = frozenset((408, 409, 425, 429))
#: Statuses that say that the configuration is wrong: address, key or model.
_MISTAKES = frozenset((401, 403, 404, 405))
#: Longer replies are no chat completion.
_LONGEST_BODY = 4 << 20
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_SHOWN = 300

Message = Mapping[str, str]


#: Seconds before the second attempt, where the endpoint does not ask for a pause.
_FIRST_PAUSE = 0.5


class TransientError(Exception):
    """A further attempt may succeed; ``wait`` is the pause in seconds that the endpoint asked for, if it did, and
    ``replied`` says that it answered, with something that is of no use."""

    def __init__(self, what: str, wait: float | None = None, *, replied: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.replied = replied

    def pause(self, attempt: int, most: float) -> float:
        """Seconds to wait before the next attempt: as long as was asked for, else twice as long each time, spread a
        little; at most ``most``."""
        grown = _FIRST_PAUSE * 2**attempt * random.SystemRandom().uniform(0.5, 1.5)
        return min(grown if self.wait is None else self.wait, most)


class RefusedError(Exception):
    """The endpoint will not answer this request, however often it is asked; ``status`` is HTTP's."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, whether it was cut off, and the tokens of prompt and reply together."""

    text: str
    cut_off: bool
    tokens: int


class ChatClient:
    """Speaks ``POST {url}/chat/completions``. Holds no connection, so any thread and any fork may use it.

    Raises:
        ConfigError: ``api_key_env`` names a variable that is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self._key = os.environ.get(config.api_key_env, "") if config.api_key_env else ""
        if config.api_key_env and not self._key:
            raise ConfigError(
                f"rewards.judge.api_key_env: the environment variable {config.api_key_env} is not set - set it to the "
                "endpoint's key, or leave the setting empty for an endpoint without one"
            )

    def settings(self) -> dict[str, object]:
        """The fields of a request beside its messages: they and the messages decide the reply."""
        config = self.config
        fields: dict[str, object] = {"model": config.model, "temperature": config.temperature}
        if "max_completion_tokens" not in config.extra_body:
            fields["max_tokens"] = config.reply_tokens
        return fields | config.extra_body

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Send one request and return the reply.

        Raises:
            TransientError: no usable reply this time.
            RefusedError: the endpoint does not take this request.
            RewardError: address, key or model are wrong.
        """
        body = json.dumps(self.settings() | {"messages": list(messages)}).encode()
        until = time.monotonic() + self.config.timeout
        try:
            status, headers, content = self._post(body, until)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= until:
                raise TransientError(f"no reply within {self.config.timeout:g} s") from error
            raise TransientError(f"{type(error).__name__}: {error}") from error
        if status == 200:
            return _reply(content)
        said = " ".join(content[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]
        if status in _PASSING or status >= 500:
            raise TransientError(f"HTTP {status} {said}", _asked_pause(headers))
        if status in _MISTAKES or status < 400:
            raise RewardError(
                f"the judge at {self.config.url} answered HTTP {status}: {said!r} - correct rewards.judge: url "
                "(it usually ends in /v1), model, api_key_env"
            )
        raise RefusedError(status, said)

    def _post(self, body: bytes, until: float) -> tuple[int, Mapping[str, str], bytes]:
        parts = urlsplit(self.config.url)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection, target, extra = _connection(parts, self.config.timeout)
        try:
            connection.connect()
            with _cut_at(connection.sock, until):
                connection.request("POST", f"{target}/chat/completions", body, headers | extra)
                response = connection.getresponse()
                content = response.read(_LONGEST_BODY + 1)
                if len(content) > _LONGEST_BODY:
                    raise ValueError(f"a reply of more than {_LONGEST_BODY} bytes")
                if time.monotonic() >= until:  # what was cut may look complete
                    raise TimeoutError("the reply took too long")
                return response.status, dict(response.headers.items()), content
        finally:
            connection.close()


def _connection(parts: SplitResult, timeout: float) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """A connection, the target to ask it for and further headers; through the environment's proxy, if it names one."""
    host, secure, path = parts.hostname or "", parts.scheme == "https", parts.path.rstrip("/")
    port = parts.port or (443 if secure else 80)
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    direct = host in _LOOPBACK or urllib.request.proxy_bypass(host)
    address = "" if direct else urllib.request.getproxies().get(parts.scheme, "")
    if not address:
        return kind(host, port, timeout=timeout), path, {}
    proxy = urlsplit(address if "//" in address else f"//{address}")
    pass_on: dict[str, str] = {}
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        pass_on["Proxy-Authorization"] = "Basic " + base64.b64encode(login).decode()
    connection = kind(proxy.hostname or "", proxy.port or 80, timeout=timeout)
    if secure:
        connection.set_tunnel(host, port, pass_on)
        return connection, path, {}
    return connection, f"http://{parts.netloc}{path}", pass_on


@contextmanager
def _cut_at(connected: socket.socket, until: float) -> Iterator[None]:
    """Break the connection at the deadline: the timeout of a socket only limits the time between two bytes."""

    def cut() -> None:
        with suppress(OSError):  # it has ended by itself
            # The plain socket's method: that of a TLS socket drops what the reading thread still uses.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reply(content: bytes) -> Reply:
    """The first choice of a chat completion.

    Raises:
        TransientError: it is none.
    """
    try:
        data = json.loads(content)
        choice = data["choices"][0]
        text = choice["message"]["content"]
        usage = data.get("usage") or {}
        tokens = usage.get("total_tokens")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise TransientError(f"the reply is no chat completion ({type(error).__name__})", replied=True) from error
    if not isinstance(text, str):
        raise TransientError("the reply has no text", replied=True)
    if type(tokens) is not int or tokens < 0:
        tokens = len(content) // 4  # not told: about four bytes a token
    return Reply(text, choice.get("finish_reason") == "length", tokens)


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header; its other form, a date, is not used by these endpoints."""
    try:
        seconds = float(next((value for name, value in headers.items() if name.lower() == "retry-after"), ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
