"""An engine that asks an OpenAI-compatible server; it is shown what the model of the run would see."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from easyvideor1.config import JudgeConfig
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.engines.engine import Request, Result, Sampling
from easyvideor1.families.family import Family
from easyvideor1.families.inputs import LoadFrames, load_checked
from easyvideor1.rewards.judge.client import ChatClient, RefusedError, Reply, TransientError
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError, Prompt, Trajectory, Turn

if TYPE_CHECKING:
    import torch

#: The endpoint is down once requests with so many different ids have failed one after the other. A prompt may fail by
#: itself, however often it is sent: all requests with one id count as one.
DOWN_AFTER = 5

Messages = list[dict[str, Any]]


class ReplyError(EasyVideoError):
    """An endpoint gave no response to a request: it ``refused`` it, or failed in every attempt."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(slots=True, eq=False)
class _Asked:
    """A request under way and its responses so far."""

    ticket: int
    request: Request
    missing: int
    responses: list[Trajectory | None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    fault: ReplyError | None = None


class EndpointEngine:
    """Sends ``n`` chat completions for a request; frames go along as JPEG pictures, each in its place.

    It differs from an engine with a model in what a server cannot keep: responses are not reproducible from a seed,
    ``logprobs`` and ``versions`` are unknown, token ids are those of the family's tokenizer for the text, the text does
    not hold the stop string that ended it, and weights cannot be updated.

    A response that is refused, or that fails ``endpoint.retries`` more times, is the fault of its request
    (``ReplyError``); the responses that came are in the result all the same. ``results`` raises ``ConfigError`` when
    address, key or model are wrong, and ``EasyVideoError`` when the endpoint is down (``DOWN_AFTER``).

    Requests that are submitted while others run join them (``joins_running``).

    Args:
        family: whose tokenizer makes token ids of the responses.
        load: reads the frames.
        endpoint: address, model, key, concurrency, timeout and retries; sampling comes with each request.
        system: the system message, if any.

    Raises:
        ConfigError: the key is not in the environment.
    """

    joins_running = True

    def __init__(self, family: Family, load: LoadFrames, endpoint: JudgeConfig, *, system: str = "") -> None:
        if endpoint.api_key_env and not os.environ.get(endpoint.api_key_env):
            raise ConfigError(
                f"--api-key-env {endpoint.api_key_env}: this environment variable is not set; set it to the endpoint's "
                "key, or leave the option (rollout.endpoint.api_key_env) out for an endpoint without one"
            )
        self.version = 0
        self._family = family
        self._load = load
        self._endpoint = endpoint
        self._system = system
        self._clients: dict[Sampling, ChatClient] = {}
        self._pool = ThreadPoolExecutor(endpoint.concurrency, thread_name_prefix="endpoint")
        self._closed = threading.Event()
        self._tickets = 0
        self._queue: deque[tuple[int, Request]] = deque()
        self._asked: dict[int, _Asked] = {}
        self._waiting: dict[Future[tuple[Reply | ReplyError, bool]], tuple[_Asked, int]] = {}
        self._failing: dict[str, str] = {}
        self._last_messages: tuple[Prompt, Messages] | None = None

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``. Requests are sent while ``results`` is read."""
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        self._queue.extend(zip(tickets, requests, strict=True))
        return tickets

    def results(self) -> Iterator[Result]:
        """See ``Engine``.

        Raises:
            ConfigError: address, key or model are wrong.
            EasyVideoError: the endpoint is down.
        """
        try:
            self._check_down()
            while self._queue or self._waiting:
                yield from self._send()
                yield from self._receive()
        except Exception:
            self._forget()
            raise

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``. A request that is under way ends with its present attempt, unheard."""
        gone = set(tickets)
        self._queue = deque(entry for entry in self._queue if entry[0] not in gone)
        for ticket in gone & set(self._asked):
            self._asked.pop(ticket).cancelled.set()
        for future, (asked, _) in list(self._waiting.items()):
            if asked.cancelled.is_set():
                future.cancel()
                del self._waiting[future]

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Raises ``ConfigError``: the weights are the server's."""
        raise ConfigError(
            f"the endpoint {self._endpoint.url} keeps its own weights: it can be asked for responses, but not serve "
            "the rollouts of training"
        )

    def sleep(self) -> None:
        """Nothing to release."""

    def wake(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Drop what is pending; what is under way ends with its present attempt."""
        self._closed.set()
        self._forget()
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _forget(self) -> None:
        self.cancel([*(ticket for ticket, _ in self._queue), *self._asked])
        self._failing.clear()

    def _send(self) -> Iterator[Result]:
        """Send twice as many as may be under way: some wait while the pictures of the next are made."""
        while self._queue and len(self._waiting) < 2 * self._endpoint.concurrency:
            ticket, request = self._queue.popleft()
            try:
                messages = self._messages(request.prompt)
            except (MediaError, DataError) as error:
                yield Result(ticket, request, fault=error)
                continue
            asked = _Asked(ticket, request, request.n, [None] * request.n)
            self._asked[ticket] = asked
            client = self._client(request.sampling)
            for index in range(request.n):
                self._waiting[self._pool.submit(self._one, client, asked, messages)] = asked, index

    def _receive(self) -> Iterator[Result]:
        """Wait for the next responses; yields the requests that have all of theirs."""
        for future in wait(self._waiting, return_when=FIRST_COMPLETED).done:
            if future not in self._waiting:  # cancelled since
                continue
            asked, index = self._waiting.pop(future)
            try:
                reply, reached = future.result()
            except RewardError as error:
                raise ConfigError(_mistake(self._endpoint.url, error)) from error
            if reached:
                self._failing.clear()
            if isinstance(reply, ReplyError):
                asked.fault = asked.fault or reply
                if not reached:
                    self._failing[asked.request.id] = str(reply)
            else:  # tokenised here, for tokenizers belong to one thread
                asked.responses[index] = self._trajectory(asked.request.prompt, reply)
            asked.missing -= 1
            if not asked.missing:
                del self._asked[asked.ticket]
                came = tuple(response for response in asked.responses if response is not None)
                yield Result(asked.ticket, asked.request, came, asked.fault)
            self._check_down()

    def _check_down(self) -> None:
        if len(self._failing) >= DOWN_AFTER:
            last = list(self._failing.values())[-1]
            raise EasyVideoError(
                f"{self._endpoint.url} failed for {DOWN_AFTER} rows one after the other, the last time with: {last} - "
                "what was collected is kept: start again when it answers, and what failed is asked again"
            )

    def _one(self, client: ChatClient, asked: _Asked, messages: Messages) -> tuple[Reply | ReplyError, bool]:
        """A reply, and whether the endpoint said anything: a reply without text is no sign that it is down."""
        config = client.config
        for attempt in range(config.retries + 1):
            try:
                reply = client.complete(messages)
            except RefusedError as error:
                return ReplyError(f"HTTP {error.status}: {error}", refused=True), True
            except TransientError as error:
                said, reached = str(error), error.replied
                # A pause is for those that are busy; who answers without a text can be asked again at once.
                pause = 0.0 if reached else error.pause(attempt, config.max_wait)
                if attempt == config.retries or asked.cancelled.wait(pause) or self._closed.is_set():
                    break
            else:
                return reply, True
        return ReplyError(f"{said}, in {attempt + 1} attempts", refused=False), reached

    def _trajectory(self, prompt: Prompt, reply: Reply) -> Trajectory:
        tokenizer: Any = self._family.tokenizer
        stop = [] if reply.cut_off else [self._family.stop_token_ids[0]]
        ids = np.array([*tokenizer(reply.text, add_special_tokens=False)["input_ids"], *stop], dtype=np.int64)
        # The server has a chat template of its own, and what it returns is the whole message.
        prompt = replace(prompt, opens_thinking=False) if prompt.opens_thinking else prompt
        mask = np.ones(len(ids), dtype=bool)
        return Trajectory((Turn(prompt, ids, mask, None, "length" if reply.cut_off else "stop", reply.text),))

    def _client(self, sampling: Sampling) -> ChatClient:
        if sampling not in self._clients:
            fields = {
                "temperature": 0.0 if sampling.greedy else sampling.temperature,
                "reply_tokens": sampling.max_new_tokens,
                "extra_body": {**self._endpoint.extra_body, **_further_fields(sampling)},
            }
            self._clients[sampling] = ChatClient(self._endpoint.model_copy(update=fields))
        return self._clients[sampling]

    def _messages(self, prompt: Prompt) -> Messages:
        if self._last_messages is None or self._last_messages[0] is not prompt:  # several requests for one prompt
            self._last_messages = prompt, chat_messages(prompt, self._load, self._system)
        return self._last_messages[1]


def _further_fields(sampling: Sampling) -> dict[str, Any]:
    """Fields of a chat completion beside temperature and length.

    ``top_k`` and ``repetition_penalty`` are no fields of OpenAI's own, but of servers such as vLLM and SGLang; they are
    sent only where they are wanted.
    """
    fields: dict[str, Any] = {"stop": list(sampling.stop)} if sampling.stop else {}
    if sampling.greedy:
        return fields
    fields["top_p"] = sampling.top_p
    wanted = {
        "top_k": (sampling.top_k, 0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
    }
    return fields | {name: value for name, (value, neutral) in wanted.items() if value != neutral}


def _mistake(url: str, error: RewardError) -> str:
    """The client speaks of the judge's settings, which is what it was written for; here there are options."""
    said = str(error).partition(" - correct rewards.judge")[0].removeprefix(f"the judge at {url} ")
    return f"the endpoint {url} {said} - correct --endpoint (it usually ends in /v1), --model or --api-key-env"


def chat_messages(prompt: Prompt, load: LoadFrames, system: str = "") -> Messages:
    """A prompt in the OpenAI format: system message if there is one, text, and the planned frames.

    Raises:
        DataError: the text does not have one placeholder for each medium.
        MediaError: a medium cannot be read.
    """
    from PIL import Image

    places = list(PLACEHOLDER.finditer(prompt.text))
    if len(places) != len(prompt.media):
        raise DataError(
            f"the text of the prompt has {len(places)} placeholders for {len(prompt.media)} media, so the pictures "
            "cannot be put in their places"
        )
    parts: list[dict[str, Any]] = []
    at = 0
    for match, ref, plan in zip(places, prompt.media, prompt.plans, strict=True):
        parts += _words(prompt.text[at : match.start()])
        for pixels, seconds in zip(load_checked(ref, plan, load).pixels, plan.timestamps, strict=False):
            if ref.kind == "video":
                parts += _words(f"<{seconds:.1f} seconds>")
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
            parts.append({"type": "image_url", "image_url": {"url": url}})
        at = match.end()
    asked: Messages = [{"role": "system", "content": system}] if system else []
    return [*asked, {"role": "user", "content": [*parts, *_words(prompt.text[at:])]}]


def _words(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text.strip() else []
