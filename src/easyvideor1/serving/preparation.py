"""From the body of a request to a request of the engine, with its media decoded: in threads beside the engine's."""

from __future__ import annotations

import copy
import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.engines.engine import Request
from easyvideor1.families.family import Family
from easyvideor1.serving.chat_messages import MediaPart, Message
from easyvideor1.serving.chat_requests import LARGEST_SEED, ChatRequest, read_chat_request
from easyvideor1.serving.components import AnsweringComponents
from easyvideor1.serving.conversations import UserTurn, conversation_prompt, worded
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.request_media import MediaLimits, RequestMedia
from easyvideor1.types import DataError, EasyVideoError, MediaError, MediaPlan, MediaRef, Prompt

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A chat completion and the request that the engine is given for it."""

    chat: ChatRequest
    request: Request
    media: RequestMedia


class Preparation:
    """Makes requests of the engine. Thread-safe.

    Args:
        components: plan and read media.
        model: the name of the model, as requests write it.
        roots: directories that paths of requests may lie in.
        limits: of the media of a request.
    """

    def __init__(self, components: AnsweringComponents, model: str, roots: Sequence[Path], limits: MediaLimits) -> None:
        self._components = components
        self._model = model
        self._roots = [root.resolve() for root in roots]
        self._limits = limits
        # The engine's thread uses the tokenizer of the components at the same time.
        self._family: Family = copy.deepcopy(components.family)
        self._lock = threading.Lock()

    def __call__(self, body: bytes, directory: Path) -> Prepared:
        """The request of the engine for the body of a chat completion.

        Args:
            body: as it came.
            directory: where uploads are written; it stays until the request is answered.

        Raises:
            RequestError: it cannot be answered.
        """
        config = self._components.config
        chat = read_chat_request(body, config.rollout)
        if chat.model not in ("", self._model):
            what = f"there is no model {chat.model[:80]!r}; this server has {self._model!r}"
            raise RequestError(what, status=404, param="model", code="model_not_found")
        media = RequestMedia(self._roots, directory, self._limits, config.data)
        refs = media.refs(chat.media)
        try:
            prompt = self._prompt(chat, refs)
            self._check_fits(chat, prompt)
            for ref, plan in dict(zip(prompt.media, prompt.plans, strict=True)).items():
                self._components.load(ref, plan)  # the engine finds the frames decoded
        except EasyVideoError as error:
            raise refusal(error, media) from error
        seed = secrets.randbelow(LARGEST_SEED) if chat.seed is None else chat.seed
        return Prepared(chat, Request("chat completion", prompt, chat.n, chat.sampling, seed), media)

    def _prompt(self, chat: ChatRequest, refs: Sequence[MediaRef]) -> Prompt:
        waiting = iter([(ref, self._components.plan(ref)) for ref in refs])
        turns = [_turn(message, waiting) for message in chat.messages if message.role == "user"]
        answers = [
            "".join(part for part in message.parts if isinstance(part, str))
            for message in chat.messages
            if message.role == "assistant"
        ]
        config = self._components.config
        if chat.problem_type:
            turns[-1] = worded(turns[-1], chat.problem_type, config, chat.options)
        with self._lock:
            return conversation_prompt(self._family, config, chat.system, turns, answers)

    def _check_fits(self, chat: ChatRequest, prompt: Prompt) -> None:
        limit = self._components.config.rollout.batch_tokens
        copies = 1 if self._family.shares_prefix else chat.n
        wanted = copies * len(prompt) + chat.n * chat.sampling.max_new_tokens
        if wanted > limit:
            what = (
                f"{len(prompt)} tokens of the prompt and {chat.n} x {chat.sampling.max_new_tokens} new ones are more "
                f"than the {limit} tokens that this server keeps (rollout.batch_tokens); lower max_tokens or n"
            )
            raise RequestError(what, param="max_tokens", code="context_length_exceeded")


def _turn(message: Message, planned: Iterator[tuple[MediaRef, MediaPlan]]) -> UserTurn:
    """A message of the user; it takes as many of the media as it has."""
    pieces: list[str] = []
    own: list[tuple[MediaRef, MediaPlan]] = []
    for part in message.parts:
        if isinstance(part, MediaPart):
            own.append(next(planned))
            pieces.append(f"<{part.kind}>")
        else:
            pieces.append(part)
    return UserTurn("".join(pieces), tuple(ref for ref, _ in own), tuple(plan for _, plan in own))


def refusal(error: EasyVideoError, media: RequestMedia) -> RequestError:
    """What a client is told of an error: faults of its own request in full, others are for the log."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, MediaError | DataError):
        code = "invalid_media" if isinstance(error, MediaError) else "invalid_value"
        return RequestError(media.named(str(error)), param="messages", code=code)
    _LOG.error("a request failed: %s", error, exc_info=error)
    return RequestError("the server cannot answer at present; its log says why", status=503, code="failed")
