"""Answers in the format of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from easyvideor1.serving.growing_text import before_stop
from easyvideor1.types import Prompt, Trajectory, Turn

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What all parts of one answer share: its id, the time in seconds since 1970, and the model's name."""

    id: str
    created: int
    model: str

    def completion(self, choices: Sequence[Fields], usage: Fields) -> Fields:
        """The whole answer."""
        return {**self._head("chat.completion"), "choices": list(choices), "usage": usage}

    def chunk(self, index: int, delta: Fields, *, finish: str | None = None, logprobs: Fields | None = None) -> Fields:
        """A part of a streamed answer: what response ``index`` has grown by."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, usage: Fields) -> Fields:
        """The last part of a streamed answer, for ``stream_options.include_usage``."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> Fields:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(prompt: Prompt, trajectories: Sequence[Trajectory]) -> Fields:
    """Tokens of the prompt, visual ones included, and of all responses."""
    new = sum(trajectory.response_tokens for trajectory in trajectories)
    visual = sum(plan.tokens for plan in prompt.plans)
    counts = {"prompt_tokens": len(prompt), "completion_tokens": new, "total_tokens": len(prompt) + new}
    return {**counts, "prompt_tokens_details": {"visual_tokens": visual}}


def choice(index: int, turn: Turn, stop: Sequence[str], logprobs: Fields | None) -> Fields:
    """A response as a choice of an answer; its text ends before the stop string."""
    message = {"role": "assistant", "content": before_stop(turn.text, stop), "refusal": None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": turn.finish}


def token_logprobs(tokenizer: Any, turn: Turn, stop: Sequence[str], stop_ids: Sequence[int]) -> Fields:
    """Log-probs of the tokens of a response's text; ``bytes`` is null where a token is no whole character.

    Raises:
        ValueError: the engine gave none.
    """
    if turn.logprobs is None:
        raise ValueError("no log-probs")
    ids = turn.response_ids.tolist()
    count = len(ids) - (bool(ids) and ids[-1] in stop_ids)
    text = before_stop(turn.text, stop)
    while count and len(text) < len(turn.text) and tokenizer.decode(ids[: count - 1]).startswith(text):
        count -= 1
    tokens = []
    for token, logprob in zip(ids[:count], turn.logprobs.tolist(), strict=False):
        said = tokenizer.decode([token])
        raw = None if "\ufffd" in said else list(said.encode())
        tokens.append({"token": said, "logprob": logprob, "bytes": raw, "top_logprobs": []})
    return {"content": tokens, "refusal": None}


def event(fields: Fields) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


#: The event that ends a stream.
DONE = b"data: [DONE]\n\n"
