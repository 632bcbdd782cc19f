"""Many requests to a judge's endpoint: cached, tried again within a budget, and read into verdicts.

Where there is no verdict there is a ``NoVerdict`` with a short reason: the judge is down, its budget is spent, or its
reply cannot be read. Only a configuration that can never work (address, key, model) stops the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from easyvideor1.config.schema import JudgeConfig
from easyvideor1.files import is_sealed, json_bytes, seal, write_atomic
from easyvideor1.rewards.judge.client import ChatClient, Message, RefusedError, TransientError
from easyvideor1.rewards.judge.prompts import Ask, UnreadableVerdictError
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError

V = TypeVar("V")

#: Part of every key: raised when a reply would be read in another way.
_VERSION = 1


def cache_key(request: Mapping[str, Any]) -> str:
    """The name of a request: SHA-256 of everything that decides its reply."""
    text = json.dumps({"version": _VERSION, "request": request}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ReplyCache:
    """Maps keys of ``cache_key`` to replies. Without a directory it keeps nothing."""

    def __init__(self, directory: str | None) -> None:
        self._root = None if directory is None else Path(directory)

    def get(self, key: str) -> str | None:
        """The reply; ``None`` if there is none or its file is damaged (it is written again later)."""
        if self._root is None:
            return None
        try:
            entry = json.loads(self._path(self._root, key).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        whole = is_sealed(entry) and entry.get("key") == key
        found = entry.get("reply") if whole else None
        return found if isinstance(found, str) else None

    def put(self, key: str, reply: str, model: str) -> None:
        """Keep a reply. The last writer wins; a reader sees one whole reply.

        Raises:
            OSError: the directory cannot be written.
        """
        if self._root is not None:
            write_atomic(self._path(self._root, key), json_bytes(seal({"key": key, "model": model, "reply": reply})))

    @staticmethod
    def _path(root: Path, key: str) -> Path:
        return root / key[:2] / f"{key}.json"


#: So many failed requests in a row mean that the judge is down.
_FAILURES = 3
#: Seconds without requests to a judge that is down.
REST = 30.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests sent (further attempts included), their tokens, and verdicts found in the cache."""

    requests: int = 0
    tokens: int = 0
    cached: int = 0


class Budget:
    """Counts requests and tokens, and refuses requests beyond the budget. Thread-safe. ``clock`` gives seconds."""

    def __init__(
        self, max_requests: int | None, max_tokens: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self._clock = clock
        self._requests = self._tokens = self._cached = 0
        self._failures, self._resting_until = 0, 0.0
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        with self._lock:
            return Usage(self._requests, self._tokens, self._cached)

    def take(self) -> bool:
        """Count one request, unless the budget is spent; false if it is.

        Tokens are known afterwards, so requests under way may exceed the budget.
        """
        with self._lock:
            if self.max_requests is not None and self._requests >= self.max_requests:
                return False
            if self.max_tokens is not None and self._tokens >= self.max_tokens:
                return False
            self._requests += 1
            return True

    def used(self, tokens: int) -> None:
        with self._lock:
            self._tokens += tokens

    def found(self) -> None:
        """A verdict came from the cache."""
        with self._lock:
            self._cached += 1

    def is_down(self) -> bool:
        """Whether the judge failed so often in a row that requests pause."""
        with self._lock:
            return self._clock() < self._resting_until

    def answered(self) -> None:
        with self._lock:
            self._failures, self._resting_until = 0, 0.0

    def failed(self) -> None:
        """A request failed, with all its attempts."""
        with self._lock:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._resting_until = self._clock() + REST


DOWN = "the judge cannot be reached"
SPENT = "the judge's budget is spent"
UNREADABLE = "the judge's reply is no verdict"


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """There is no verdict; ``reason`` is the same for the same cause."""

    reason: str


class Asker:
    """Asks the configured model. Thread-safe; ``concurrency`` is the limit of all threads together.

    Raises:
        ConfigError: the key is not in the environment.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self._client = ChatClient(config)
        self._cache = ReplyCache(config.cache_dir)
        self._budget = Budget(config.max_requests, config.max_tokens)
        self._lock = threading.Lock()
        self._said: set[str] = set()
        #: Whether any request was answered, here or in another process of the run.
        self.has_answered = False
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    @property
    def usage(self) -> Usage:
        """What this run has spent so far."""
        return self._budget.usage

    def ask_many(
        self, requests: Sequence[Ask], read: Callable[[Ask, str], V], remedy: str = "Reply with the JSON object alone."
    ) -> list[V | NoVerdict]:
        """Send requests at the same time; equal ones are sent once.

        Args:
            requests: what is asked.
            read: the verdict in a reply; raises ``UnreadableVerdictError`` for one that is none, which is asked again.
            remedy: what the judge is then told, behind what is wrong.

        Returns:
            One verdict per request.

        Raises:
            RewardError: the endpoint reports a wrong address, key or model, or refuses the first request.
        """
        pool = self._workers()
        waiting: dict[Ask, Future[V | NoVerdict]] = {}
        for request in requests:
            if request not in waiting:
                waiting[request] = pool.submit(self._verdict, request, read, remedy)
        try:
            found = {request: future.result() for request, future in waiting.items()}
        except BaseException:
            for future in waiting.values():
                future.cancel()
            raise
        return [found[request] for request in requests]

    def check(self) -> None:
        """Ask for a word in the way in which verdicts are asked for, before anything depends on them. It is not counted
        as usage.

        Raises:
            ConfigError: the judge does not answer in any attempt, or refuses the request.
        """
        try:
            for attempt in range(self.config.retries + 1):
                try:
                    self._client.complete([{"role": "user", "content": "Reply with the word: ready"}])
                except TransientError as error:
                    said, pause, over = str(error), error.pause(attempt, self.config.max_wait), error.replied
                except RefusedError as error:
                    said = f"HTTP {error.status} {error}"
                    break
                else:
                    over = True
                if over:  # whatever it said: it answers
                    return
                if attempt < self.config.retries:
                    time.sleep(pause)
        except RewardError as error:
            raise ConfigError(str(error)) from error
        finally:
            self._client.close()
        tried = f"{attempt + 1} attempt{'s' if attempt else ''}"
        raise ConfigError(
            f"the judge at {self.config.url} does not answer: {said}, in {tried} - start it, or "
            "correct rewards.judge: url, model, extra_body"
        )

    def close(self) -> None:
        """End the threads and close the connections; the next request starts others."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._owner == os.getpid():
            pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._owner != os.getpid():  # threads do not survive a fork
                self._pool = ThreadPoolExecutor(self.config.concurrency, thread_name_prefix="judge")
                self._owner = os.getpid()
            return self._pool

    def _verdict(self, request: Ask, read: Callable[[Ask, str], V], remedy: str) -> V | NoVerdict:
        """The verdict from the cache or from the judge."""
        messages = request.messages()
        key = cache_key({"url": self.config.url, **self._client.settings(), "messages": messages})
        kept = self._cache.get(key)
        if kept is not None:
            try:
                verdict = read(request, kept)
            except UnreadableVerdictError:
                pass  # the file holds something else: ask
            else:
                self._budget.found()
                return verdict
        if self._budget.is_down():
            return NoVerdict(DOWN)
        return self._asked(messages, key, lambda reply: read(request, reply), remedy)

    def _asked(self, messages: list[dict[str, str]], key: str, read: Callable[[str], V], remedy: str) -> V | NoVerdict:
        reason = DOWN
        correction: list[Message] = []
        for attempt in range(self.config.retries + 1):
            if not self._budget.take():
                self._say(SPENT, f"{self._budget.usage}; raise rewards.judge.max_requests or max_tokens")
                return NoVerdict(SPENT)
            try:
                reply = self._client.complete([*messages, *correction])
                self._budget.used(reply.tokens)
                self._budget.answered()
                self.has_answered = True
                verdict = read(reply.text)
            except TransientError as error:
                reason, detail, pause = DOWN, str(error), error.pause(attempt, self.config.max_wait)
                correction = []
            except UnreadableVerdictError as error:
                cut = " (cut off: raise rewards.judge.reply_tokens)" if reply.cut_off else ""
                reason, detail, pause = UNREADABLE, f"{error}{cut}", 0.0
                correction = _correction(reply.text, error, remedy)
            except RefusedError as error:
                return self._refused(error)
            else:
                self._cache.put(key, reply.text, self.config.model)
                return verdict
            if attempt < self.config.retries:
                time.sleep(pause)
        self._say(reason, f"{self.config.url}: {detail}")
        if reason == DOWN:
            self._budget.failed()
        return NoVerdict(reason)

    def _refused(self, error: RefusedError) -> NoVerdict:
        reason = f"the judge refused the request (HTTP {error.status})"
        if not self.has_answered:
            raise RewardError(
                f"the judge at {self.config.url} refused the first request with HTTP {error.status}: {error} - correct "
                "rewards.judge: the model, extra_body, reply_tokens or max_characters"
            ) from error
        self._say(reason, str(error))
        return NoVerdict(reason)

    def _say(self, reason: str, detail: str) -> None:
        """Warn once about each cause; further ones are counted with the scores."""
        with self._lock:
            if reason in self._said:
                return
            self._said.add(reason)
        warnings.warn(f"{reason}: {detail} - such responses are not scored", RuntimeWarning, stacklevel=2)


def _correction(reply: str, error: UnreadableVerdictError, remedy: str) -> list[Message]:
    """Messages that a further attempt adds: at temperature 0 the same request would get the same reply."""
    return [
        {"role": "assistant", "content": reply[-2000:]},
        {"role": "user", "content": f"That was no verdict: {error}. {remedy}"},
    ]
