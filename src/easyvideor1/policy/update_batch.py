"""The data of one update: what is decided about all its turns before any part is computed, and what comes back.

Everything here is plain data over the whole update. Where several ranks share it, they cut the plan of micro-batches,
and what they return adds up: gradients and metrics are sums, observations are rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from easyvideor1.algorithms.objectives import token_weights
from easyvideor1.config import StageConfig
from easyvideor1.config.algorithms import FixedAggregation
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.types import Turn


@dataclass(frozen=True, slots=True, eq=False)
class UpdateBatch:
    """M turns with their targets; what an update does not have is ``None``.

    Attributes:
        turns: those that answer the same prompt object share its computation.
        weights: per turn, the share of each of its tokens in the whole update.
        total_weight: their sum over the whole update.
        advantages: float ``(M,)``, or per turn one number for each of its tokens.
        temperature: of the rollout.
        group: int64 ``(M,)``, the group of every turn; it stays in one micro-batch if the stage needs that.
        offline: bool ``(M,)``, turns of another policy.
        trajectory: int64 ``(M,)``, the trajectory of every turn: the sequence of objectives. Each turn is one if
            ``None``.
        pairs: int64 ``(K, 2)``, better and worse trajectories.
        kl_coef: an adaptive weight of the KL.
        rollout_logprobs: per turn, of the policy as it was when the turns were made, where it has moved since; else
            those of the update's own pass stand for them.
        values: per turn, the critic's before the step.
        returns: per turn, what the critic is trained towards.
    """

    turns: Sequence[Turn]
    weights: Sequence[torch.Tensor]
    total_weight: float
    advantages: torch.Tensor | Sequence[torch.Tensor]
    temperature: float = 1.0
    group: torch.Tensor | None = None
    offline: torch.Tensor | None = None
    trajectory: torch.Tensor | None = None
    pairs: torch.Tensor | None = None
    kl_coef: float | None = None
    rollout_logprobs: Sequence[torch.Tensor] | None = None
    values: Sequence[torch.Tensor] | None = None
    returns: Sequence[torch.Tensor] | None = None

    @classmethod
    def of(
        cls,
        turns: Sequence[Turn],
        advantages: torch.Tensor | Sequence[torch.Tensor],
        options: StageConfig,
        *,
        trajectory: torch.Tensor | None = None,
        **fields: Any,
    ) -> UpdateBatch:
        """The turns of a whole update, weighted by the stage's aggregation; ``fields`` are further attributes."""
        weights = turn_weights(turns, options, trajectory)
        total = float(sum(each.sum() for each in weights))
        return cls(turns, weights, total, advantages, trajectory=trajectory, **fields)

    def part(self, numbers: Sequence[int]) -> UpdateBatch:
        """Some of its turns, numbered anew in this order, with what belongs to them; they may be none.

        What is decided over the whole update stays: weights of tokens and their sum, numbers of trajectories and
        groups, and all pairs, whose count is the weight of each.
        """
        index = torch.tensor(numbers, dtype=torch.int64)

        def rows(table: torch.Tensor | None) -> torch.Tensor | None:
            return None if table is None else table[index]

        def parts(table: Sequence[torch.Tensor] | None) -> list[torch.Tensor] | None:
            return None if table is None else [table[number] for number in numbers]

        per_turn = isinstance(self.advantages, torch.Tensor)
        return replace(
            self,
            turns=[self.turns[number] for number in numbers],
            weights=[self.weights[number] for number in numbers],
            advantages=rows(self.advantages) if per_turn else parts(self.advantages),  # type: ignore[arg-type]
            group=rows(self.group),
            offline=rows(self.offline),
            trajectory=index if self.trajectory is None else self.trajectory[index],
            rollout_logprobs=parts(self.rollout_logprobs),
            values=parts(self.values),
            returns=parts(self.returns),
        )

    def token_targets(self, order: Sequence[int], batch: MicroBatch) -> dict[str, Any]:
        """Arguments of ``algorithms.token_batch.token_batch``, on the batch's device; ``order`` are its turns.

        An idle micro-batch (``packing.micro_batch.idle_batch``) has no turns; its token counts as one of the first
        turn, if there is one, with weight 0.
        """
        if isinstance(self.advantages, torch.Tensor):
            advantages = _spread(self.advantages, batch)
        else:
            advantages = joined(self.advantages, order, batch)
        return {
            "weights": joined(self.weights, order, batch),
            "total_weight": self.total_weight,
            "advantages": advantages.to(torch.float32),
            "sequence": batch.sequence.clamp_min(0) if self.trajectory is None else _spread(self.trajectory, batch),
            "group": None if self.group is None else _spread(self.group, batch),
            "offline": None if self.offline is None else _spread(self.offline, batch),
            # An idle token must not stand for a sequence whose pair is elsewhere.
            "step_pairs": None if self.pairs is None else self.pairs[: None if order else 0].to(batch.sequence.device),
            "kl_coef": self.kl_coef,
            "rollout_logprobs": None if self.rollout_logprobs is None else joined(self.rollout_logprobs, order, batch),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Tokens as trainer and engine see them, each ``(T,)`` on the CPU.

    ``turn`` is the number of a token's turn in the update; ``trainer`` and ``engine`` are its log-probs, NaN where the
    engine gave none; ``trained`` says whether it is trained on.
    """

    turn: torch.Tensor
    trainer: torch.Tensor
    engine: torch.Tensor
    trained: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Observations]) -> Observations:
        """Those of several micro-batches or ranks, one after the other."""
        none = torch.zeros(0)
        parts = [cls(none.long(), none, none, none.bool()), *parts]
        fields = ((p.turn, p.trainer, p.engine, p.trained) for p in parts)
        return cls(*(torch.cat(each) for each in zip(*fields, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class BackwardResult:
    """What a share of an update's micro-batches leaves beside gradients. ``sums`` add up over shares."""

    observations: Observations
    sums: Mapping[str, float]


def update_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Metrics of an update from the sums of all its shares; empty without any micro-batch."""
    found = dict(sums)
    known = found.pop("mismatch/known", 0.0)
    if known > 0:
        found["mismatch/logprob_abs"] /= known
    else:
        found.pop("mismatch/logprob_abs", None)
    return found


def turn_weights(
    turns: Sequence[Turn], options: StageConfig, trajectory_M: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """The weight of every response token in the whole update, turn by turn; a turn is a sequence of its own if no
    trajectories are given."""
    lengths = torch.tensor([len(turn.response_ids) for turn in turns])
    trained = torch.cat([torch.from_numpy(turn.response_mask) for turn in turns])
    turn_T = torch.repeat_interleave(torch.arange(len(turns)), lengths)
    sequence_T = turn_T if trajectory_M is None else trajectory_M[turn_T]
    mean = options.aggregation
    length = mean.length if isinstance(mean, FixedAggregation) else None
    weights = token_weights(trained, sequence_T, mean.name, turn_T=turn_T, length=length)
    return list(torch.split(weights, lengths.tolist()))


def joined(values: Sequence[torch.Tensor], order: Sequence[int], batch: MicroBatch) -> torch.Tensor:
    """Values of tokens, turn by turn, in the batch's order and on its device; 0 for an idle micro-batch."""
    if not order:
        return torch.zeros(len(batch.sequence), device=batch.sequence.device)
    return torch.cat([values[n] for n in order]).to(batch.sequence.device)


def _spread(values_M: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """One value per turn, given to each of its tokens; 0 to the token of a share without turns."""
    if not len(values_M):
        return torch.zeros(len(batch.sequence), dtype=values_M.dtype, device=batch.sequence.device)
    return values_M.to(batch.sequence.device)[batch.sequence.clamp_min(0)]
