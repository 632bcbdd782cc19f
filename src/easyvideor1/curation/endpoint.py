"""Responses of a model behind an OpenAI-compatible endpoint, which is shown what the model of the run would see."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from easyvideor1.components import Components
from easyvideor1.config import JudgeConfig
from easyvideor1.curation.survey import Answer, Answers, Ask
from easyvideor1.data import prompt_text
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rewards.judge.client import ChatClient, RefusedError, TransientError
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError, EasyVideoError, MediaError, Sample

#: The endpoint is down once requests for so many samples have failed one after the other. One sample may fail by
#: itself, whatever is tried: all its requests count as one.
DOWN_AFTER = 5

Messages = list[dict[str, Any]]


def endpoint_ask(components: Components, endpoint: JudgeConfig, k: int) -> Ask:
    """Responses of an endpoint; frames go there as JPEG pictures, each in its place.

    A request that the endpoint does not take, or that fails ``endpoint.retries`` times more, is an answer with a fault.

    Raises:
        ConfigError: the key is not in the environment; or, when it is called, address, key or model are wrong.
        EasyVideoError: (when it is called) the endpoint is down.
    """
    if endpoint.api_key_env and not os.environ.get(endpoint.api_key_env):
        raise ConfigError(
            f"--api-key-env {endpoint.api_key_env}: this environment variable is not set; set it to the endpoint's "
            "key, or leave the option out for an endpoint without one"
        )
    client = ChatClient(endpoint)

    def ask(samples: Sequence[Sample], known: Collection[str]) -> Answers:
        todo = iter([sample for sample in samples if sample.id not in known])
        requests = _Requests(client)
        try:
            while True:
                # Twice as many as are sent at the same time: some wait while the pictures of the next are made.
                while len(requests.waiting) < 2 * endpoint.concurrency and (sample := next(todo, None)) is not None:
                    try:
                        messages = chat_messages(components, sample)
                    except MediaError as error:
                        yield sample, error
                    else:
                        requests.send(sample, messages, k)
                if not requests.waiting:
                    return
                yield from requests.complete()
        finally:
            requests.close()

    return ask


class _Requests:
    """Requests under way, and the answers to samples that are not complete yet."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(client.config.concurrency, thread_name_prefix="endpoint")
        self._closed = threading.Event()
        self._answers: dict[str, list[Answer | None]] = {}
        self._failing: set[str] = set()
        self.waiting: dict[Future[tuple[Answer, bool]], tuple[Sample, int]] = {}

    def send(self, sample: Sample, messages: Messages, k: int) -> None:
        self._answers[sample.id] = [None] * k
        for index in range(k):
            self.waiting[self._pool.submit(self._one, messages)] = sample, index

    def complete(self) -> Answers:
        """Wait for the next answers, and give those of samples that have all of theirs.

        Raises:
            ConfigError: address, key or model are wrong.
            EasyVideoError: the endpoint is down.
        """
        for future in wait(self.waiting, return_when=FIRST_COMPLETED).done:
            sample, index = self.waiting.pop(future)
            try:
                answer, reached = future.result()
            except RewardError as error:
                raise ConfigError(_mistake(self._client.config.url, error)) from error
            self._answers[sample.id][index] = answer
            found = [each for each in self._answers[sample.id] if each is not None]
            if len(found) == len(self._answers[sample.id]):
                del self._answers[sample.id]
                yield sample, found
            self._note(sample, answer, reached)

    def _note(self, sample: Sample, answer: Answer, reached: bool) -> None:
        if reached:
            self._failing.clear()
            return
        self._failing.add(sample.id)
        if len(self._failing) >= DOWN_AFTER:
            raise EasyVideoError(
                f"{self._client.config.url} failed for {DOWN_AFTER} rows one after the other, the last time with: "
                f"{answer.detail} - what was collected is kept: start again when it answers, and what failed is asked "
                "again"
            )

    def _one(self, messages: Messages) -> tuple[Answer, bool]:
        """An answer, and whether the endpoint said anything: a reply without text is no sign that it is down."""
        config = self._client.config
        for attempt in range(config.retries + 1):
            try:
                reply = self._client.complete(messages)
            except RefusedError as error:
                return Answer("", False, fault="refused", detail=f"HTTP {error.status}: {error}"), True
            except TransientError as error:
                said, reached = str(error), error.replied
                # A pause is for those that are busy; who answers without a text can be asked again at once.
                pause = 0.0 if reached else error.pause(attempt, config.max_wait)
                if attempt == config.retries or self._closed.wait(pause):
                    break
            else:
                return Answer(reply.text, not reply.cut_off), True
        return Answer("", False, fault="failed", detail=f"{said}, in {attempt + 1} attempts"), reached

    def close(self) -> None:
        """Let go of what waits; what is under way ends with its present attempt."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)


def _mistake(url: str, error: RewardError) -> str:
    """The client speaks of the judge's settings, which is what it was written for; here there are options."""
    said = str(error).partition(" - correct rewards.judge")[0].removeprefix(f"the judge at {url} ")
    return f"the endpoint {url} {said} - correct --endpoint (it usually ends in /v1), --model or --api-key-env"


def chat_messages(components: Components, sample: Sample) -> Messages:
    """The prompt of a sample in the OpenAI format: system message if there is one, text, and the planned frames.

    Raises:
        MediaError: a medium cannot be read.
    """
    from PIL import Image

    text = prompt_text(sample, components.config.prompts, components.config.rewards)
    parts: list[dict[str, Any]] = []
    at = 0
    for match, ref in zip(PLACEHOLDER.finditer(text), sample.media, strict=True):
        parts += _words(text[at : match.start()])
        plan = components.plan(ref)
        for pixels, seconds in zip(components.load(ref, plan).pixels, plan.timestamps, strict=False):
            if ref.kind == "video":
                parts += _words(f"<{seconds:.1f} seconds>")
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
            parts.append({"type": "image_url", "image_url": {"url": url}})
        at = match.end()
    system = components.config.prompts.system
    asked: Messages = [{"role": "system", "content": system}] if system else []
    return [*asked, {"role": "user", "content": [*parts, *_words(text[at:])]}]


def _words(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text.strip() else []
