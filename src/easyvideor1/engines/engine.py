"""The contract of a generation engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from easyvideor1.types import ConfigError, Prompt, Trajectory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``greedy`` takes the likeliest token and ignores the rest but ``max_new_tokens``.

    Penalties change what is drawn from, before ``temperature``, ``top_k`` and ``top_p``, which follow in that order.
    ``repetition_penalty`` divides the positive logits of tokens that the prompt or the response so far holds, and
    multiplies the negative ones. ``presence_penalty`` is taken off the logits of tokens that the response holds, and
    ``frequency_penalty`` once for each time that it does.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    greedy: bool = False
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0 and self.max_new_tokens > 0
        penalties = (self.presence_penalty, self.frequency_penalty)
        if not (in_range and 0 < self.repetition_penalty < math.inf and all(map(math.isfinite, penalties))):
            raise ConfigError(
                f"{self}: temperature, max_new_tokens and repetition_penalty are above 0, top_p in (0, 1], top_k at "
                "least 0, and no penalty is infinite; the likeliest token is greedy=True, not temperature 0"
            )

    @property
    def penalises(self) -> bool:
        """Whether what was said before changes what is drawn."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return not self.greedy and penalties != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """``n`` responses to one prompt. All randomness comes from ``seed``, whatever else is in the batch."""

    id: str
    prompt: Prompt
    n: int
    sampling: Sampling
    seed: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"request {self.id!r} asks for {self.n} responses; ask for at least 1")


#: Called as ``(position of the request, its responses)``.
OnAnswer = Callable[[int, tuple[Trajectory, ...]], None]


class Engine(Protocol):
    """Generates trajectories, keeps its weights up to date, and sleeps and wakes by itself.

    Laws: responses come back in request order, ``n`` per request; visual special tokens are never sampled;
    ``logprobs`` are those of the sampled tokens under ``temperature``, after visual tokens are masked and before
    penalties, ``top_p`` and ``top_k``: the policy's own, whatever was drawn from; a response ends with its stop
    token, or has exactly ``max_new_tokens`` tokens. Where ``on_answer`` is given it is called once for each request,
    in any order, as soon as all its responses are there and before ``generate`` returns them.
    """

    def generate(
        self, requests: Sequence[Request], on_answer: OnAnswer | None = None
    ) -> list[tuple[Trajectory, ...]]: ...

    def load_weights(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None: ...

    def sleep(self) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...
