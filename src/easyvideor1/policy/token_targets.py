"""What an update knows of its turns beside their text, said of the tokens of a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from easyvideor1.algorithms.objectives import token_weights
from easyvideor1.config import StageConfig
from easyvideor1.config.algorithms import FixedAggregation
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.types import Turn


@dataclass(frozen=True, slots=True, eq=False)
class TokenTargets:
    """Of N turns; what there is none of is ``None``.

    ``group``, ``offline`` and ``trajectory`` are ``(N,)``; these and the others are arguments of ``Policy.update``.
    ``weights`` are of every turn's tokens in the whole update (``turn_weights``), ``total_weight`` is their sum;
    ``advantages`` are one number per turn, ``(N,)``, or per turn one for each of its tokens.
    """

    weights: Sequence[torch.Tensor]
    advantages: torch.Tensor | Sequence[torch.Tensor]
    group: torch.Tensor | None
    offline: torch.Tensor | None
    trajectory: torch.Tensor | None
    step_pairs: torch.Tensor | None
    kl_coef: float | None
    rollout_logprobs: Sequence[torch.Tensor] | None
    total_weight: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_weight", float(sum(each.sum() for each in self.weights)))

    def of_tokens(self, order: Sequence[int], batch: MicroBatch) -> dict[str, Any]:
        """Arguments of ``algorithms.assembly.token_batch``, on the batch's device; ``order`` are its turns."""
        if isinstance(self.advantages, torch.Tensor):
            advantages = _spread(self.advantages, batch)
        else:
            advantages = _joined(self.advantages, order, batch)
        return {
            "weights": _joined(self.weights, order, batch),
            "total_weight": self.total_weight,
            "advantages": advantages.to(torch.float32),
            "sequence": batch.sequence if self.trajectory is None else _spread(self.trajectory, batch),
            "group": None if self.group is None else _spread(self.group, batch),
            "offline": None if self.offline is None else _spread(self.offline, batch),
            "step_pairs": None if self.step_pairs is None else self.step_pairs.to(batch.sequence.device),
            "kl_coef": self.kl_coef,
            "rollout_logprobs": None if self.rollout_logprobs is None else _joined(self.rollout_logprobs, order, batch),
        }


def turn_weights(
    turns: Sequence[Turn], options: StageConfig, trajectory_N: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """The weight of every response token in the whole update, turn by turn; a turn is a sequence of its own if it is
    not said which trajectory it belongs to."""
    lengths = torch.tensor([len(turn.response_ids) for turn in turns])
    learn = torch.cat([torch.from_numpy(turn.response_mask) for turn in turns])
    turn_T = torch.repeat_interleave(torch.arange(len(turns)), lengths)
    sequence_T = turn_T if trajectory_N is None else trajectory_N[turn_T]
    mean = options.aggregation
    length = mean.length if isinstance(mean, FixedAggregation) else None
    weights = token_weights(learn, sequence_T, mean.name, turn_T=turn_T, length=length)
    return list(torch.split(weights, lengths.tolist()))


def _spread(values_N: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """One value per turn, said of its tokens."""
    return values_N.to(batch.sequence.device)[batch.sequence]


def _joined(values: Sequence[torch.Tensor], order: Sequence[int], batch: MicroBatch) -> torch.Tensor:
    """Values of tokens, turn by turn, in the batch's order."""
    return torch.cat([values[n] for n in order]).to(batch.sequence.device)
