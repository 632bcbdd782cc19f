"""One request to an OpenAI-compatible endpoint: sent, answered or refused within a deadline, never repeated.

httpx keeps the connections and knows the environment's proxies. ``judge`` counts attempts, pauses and the budget: it
could not count what a client repeats by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from easyvideor1.config.schema import JudgeConfig
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError

#: Statuses after which another attempt may succeed, beside all of 5xx.
_TRANSIENT = frozenset((408, 409, 425, 429))
#: Statuses that say that the configuration is wrong: address, key or model.
_MISTAKES = frozenset((401, 403, 404, 405))
#: Longer replies are not chat completions.
_LONGEST_BODY = 4 << 20
#: Hosts that no proxy is used for.
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_SHOWN = 300
#: Seconds before the second attempt, where the endpoint does not ask for a pause.
_FIRST_PAUSE = 0.5

Message = Mapping[str, str]
R = TypeVar("R")


class TransientError(Exception):
    """Another attempt may succeed.

    ``wait`` is the pause in seconds that the endpoint asked for, if it did. ``replied`` says that the endpoint answered
    with something that cannot be used.
    """

    def __init__(self, what: str, wait: float | None = None, *, replied: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.replied = replied

    def pause(self, attempt: int, most: float) -> float:
        """Seconds to wait before the next attempt, at most ``most``.

        What the endpoint asked for; else twice as long after each attempt, with some jitter.
        """
        grown = _FIRST_PAUSE * 2**attempt * random.SystemRandom().uniform(0.5, 1.5)
        return min(grown if self.wait is None else self.wait, most)


class RefusedError(Exception):
    """The endpoint will not answer this request, however often it is sent; ``status`` is the HTTP status."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote, whether it was cut off, and the tokens of prompt and reply together."""

    text: str
    cut_off: bool
    tokens: int


class _EventLoop:
    """An event loop in a thread of its own, started when it is first used. A forked child starts another."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """The result of a coroutine; any number of threads may wait for theirs."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="judge requests", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


#: A deadline for a whole request takes asyncio: the timeouts of httpx limit the time between two bytes.
_LOOP = _EventLoop()


class ChatClient:
    """Speaks ``POST {url}/chat/completions``. Any thread and any forked child may use it.

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
        self._http: httpx.AsyncClient | None = None
        self._owner = 0

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
            RefusedError: the endpoint does not accept this request.
            RewardError: address, key or model are wrong.
        """
        body = json.dumps(self.settings() | {"messages": list(messages)}).encode()
        try:
            status, headers, content = _LOOP.run(self._post(body))
        except TimeoutError as error:
            raise TransientError(f"no reply within {self.config.timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        except ImportError as error:  # of a package that a SOCKS proxy needs
            raise RewardError(
                f"the judge at {self.config.url} cannot be asked through the proxy that the environment names: {error}"
            ) from error
        if status == 200:
            return _reply(content)
        said = " ".join(content[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]
        if status in _TRANSIENT or status >= 500:
            raise TransientError(f"HTTP {status} {said}", _requested_pause(headers))
        if status in _MISTAKES or status < 400:
            raise RewardError(
                f"the judge at {self.config.url} answered HTTP {status}: {said!r} - correct rewards.judge: url "
                "(it usually ends in /v1), model, api_key_env"
            )
        raise RefusedError(status, said)

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        _LOOP.run(self._closed())

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        http = self._open()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.config.url.rstrip('/')}/chat/completions"
        content = bytearray()
        async with (
            asyncio.timeout(self.config.timeout),
            http.stream("POST", url, content=body, headers=headers) as response,
        ):
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _LONGEST_BODY:
                    raise ValueError(f"a reply of more than {_LONGEST_BODY} bytes")
        return response.status_code, response.headers, bytes(content)

    def _open(self) -> httpx.AsyncClient:
        """The connections of this process; called on its event loop alone."""
        if self._http is None or self._owner != os.getpid():  # after a fork they are the parent's
            self._http = httpx.AsyncClient(
                verify=ssl.create_default_context(),  # the certificates of the system
                trust_env=urlsplit(self.config.url).hostname not in _LOOPBACK,
                timeout=None,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=self.config.concurrency),
            )
            self._owner = os.getpid()
        return self._http

    async def _closed(self) -> None:
        http, self._http = self._http, None
        if http is not None and self._owner == os.getpid():
            await http.aclose()


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
        raise TransientError(f"the reply is not a chat completion ({type(error).__name__})", replied=True) from error
    if not isinstance(text, str):
        raise TransientError("the reply has no text", replied=True)
    if type(tokens) is not int or tokens < 0:
        tokens = len(content) // 4  # not given: about four bytes a token
    return Reply(text, choice.get("finish_reason") == "length", tokens)


def _requested_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header; its other form, a date, is not used by these endpoints."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
