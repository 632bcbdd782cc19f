"""What an advantage is given, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from easyvideor1.algorithms.needs import needs_of
from easyvideor1.options import own_options
from easyvideor1.registry import Registry

#: ``(rewards_N, group_N) -> advantages``, or the same with an ``AdvantageContext`` as the third argument.
Advantage = Callable[..., torch.Tensor]

ADVANTAGES: Registry[Advantage] = Registry("advantage")


@dataclass(frozen=True, slots=True)
class AdvantageContext:
    """What an advantage may need beyond rewards and groups; fields that nobody needs are ``None``.

    ``options`` are its own: the section ``advantage`` of the stage, or an instance of the model that it declares.

    Per sequence, ``(N,)``: ``parts`` of the score by name, ``lengths`` in tokens that the policy wrote, trained on or
    not, ``baseline_rewards`` (the reward of a greedy response to the same prompt). For rows that are turns:
    ``trajectory`` numbers the trajectory and ``turn`` the turn within it, int64 ``(N,)``. Per token, ``(T,)``:
    ``sequence``, ``trained`` (bool), ``values`` of the critic and ``rewards`` (``token_rewards``). ``step`` is the
    1-based step of the stage.
    """

    options: Any
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    lengths: torch.Tensor | None = None
    baseline_rewards: torch.Tensor | None = None
    trajectory: torch.Tensor | None = None
    turn: torch.Tensor | None = None
    sequence: torch.Tensor | None = None
    trained: torch.Tensor | None = None
    values: torch.Tensor | None = None
    rewards: torch.Tensor | None = None
    step: int = 1


def wants_context(advantage: Advantage) -> bool:
    """Whether a function takes a context: its third parameter is named so, or must be given."""
    try:
        parameters = list(inspect.signature(advantage).parameters.values())
    except (TypeError, ValueError):
        return False  # built in: no signature, and so none that names a context
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 3:
        return False
    return positional[2].name == "context" or positional[2].default is inspect.Parameter.empty


def call_advantage(
    advantage: Advantage, rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext
) -> torch.Tensor:
    """The advantages, clipped to ``advantage.clip``: ``(N,)``, or ``(T,)`` from one that ``is_per_token``.

    A function of two parameters gets rewards and groups, one of three the context as well. ``context.options`` is the
    section ``advantage`` of the stage.
    """
    arguments: tuple[Any, ...] = (rewards_N, group_N)
    if wants_context(advantage):
        arguments = (*arguments, replace(context, options=own_options(advantage, context.options)))
    found = advantage(*arguments)
    clip = context.options.clip
    return found if clip is None or not isinstance(found, torch.Tensor) else found.clamp(-clip, clip)


def is_per_token(advantage: Advantage) -> bool:
    """Whether an advantage returns one value per token: those that need ``values`` or ``token_rewards`` do."""
    return not needs_of(advantage).isdisjoint({"values", "token_rewards"})
