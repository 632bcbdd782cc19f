"""The contract of a generation engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from easyvideor1.types import ConfigError, Prompt, Trajectory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``greedy`` takes the likeliest token and ignores the rest but ``max_new_tokens``."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    greedy: bool = False

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0 and self.max_new_tokens > 0
        if not in_range:
            raise ConfigError(
                f"{self}: temperature and max_new_tokens are above 0, top_p in (0, 1], top_k at least 0; "
                "the likeliest token is greedy=True, not temperature 0"
            )


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
    ``top_p`` and ``top_k`` cut; a response ends with its stop token, or has exactly ``max_new_tokens`` tokens. Where
    ``on_answer`` is given it is called once for each request, in any order, as soon as all its responses are there and
    before ``generate`` returns them.
    """

    def generate(
        self, requests: Sequence[Request], on_answer: OnAnswer | None = None
    ) -> list[tuple[Trajectory, ...]]: ...

    def load_weights(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None: ...

    def sleep(self) -> None: ...

    def wake(self) -> None: ...
