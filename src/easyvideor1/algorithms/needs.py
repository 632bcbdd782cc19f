"""What an algorithm asks of its caller, said by the algorithm itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

# Its place until 0.2; code of users imports it from here.
from easyvideor1.options import with_options as with_options

F = TypeVar("F", bound=Callable[..., Any])

#: Every need, and what it means. A name that is not here cannot be declared.
NEEDS = {
    "ref_logprobs": "log-probabilities of the reference policy at the sampled tokens",
    "full_kl": "KL over the whole vocabulary per token (`full_kl` of logits and reference logits)",
    "full_logits": "logits of a whole group at one position (`position_divergence`)",
    "entropy": "entropy per token; with its gradient if there is an entropy bonus",
    "values": "values of a critic per token",
    "token_rewards": "rewards of every token (`token_rewards` of the responses' own and of the KL)",
    "parts": "the parts of the score, by name",
    "greedy": "the reward of a greedy response to every prompt",
    "lengths": "the number of tokens that every response has",
    "pairs": "pairs of a better and a worse sequence, both in one micro-batch",
    "sequence_ids": "whole sequences in one micro-batch",
    "group_ids": "whole groups in one micro-batch, and the group of every token",
    "turns": "rewards of turns, numbered within their trajectories",
    "offline": "which tokens are of offline trajectories",
    "engine_logprobs": "log-probabilities of the engine at the sampled tokens",
}


def requires(*names: str) -> Callable[[F], F]:
    """Decorator that declares what a function needs (names of ``NEEDS``), as its attribute ``needs``."""
    if unknown := sorted(set(names) - set(NEEDS)):
        raise ValueError(f"unknown need {unknown[0]!r}; known: {', '.join(NEEDS)}")

    def declare(function: F) -> F:
        function.needs = frozenset(names)  # type: ignore[attr-defined]
        return function

    return declare


def group_centred(function: F) -> F:
    """Decorator that declares of an advantage that its baseline is the group's own mean.

    Its values are 0 where all responses of a group score the same, so that such groups are left out of a step, unless
    the stage says otherwise. What declares nothing is thought to learn from them.
    """
    function.group_centred = True  # type: ignore[attr-defined]
    return function


def is_group_centred(function: object) -> bool:
    """Whether ``function`` declared so."""
    return bool(getattr(function, "group_centred", False))


def needs_of(function: object) -> frozenset[str]:
    """What ``function`` declared; nothing if it declared nothing."""
    return frozenset(getattr(function, "needs", ()))
