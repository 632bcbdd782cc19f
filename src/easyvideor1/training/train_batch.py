"""The training batch of a step: the turns of its groups, with their advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.algorithms.advantages import (
    Advantage,
    AdvantageContext,
    call_advantage,
    generalized_advantages,
    is_per_token,
)
from easyvideor1.algorithms.kl import reward_with_kl, token_rewards
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import pairs_of
from easyvideor1.config import StageConfig
from easyvideor1.config.algorithms import GAEOptions
from easyvideor1.rollout.groups import checked_advantages, is_trained_on, response_rewards, score_parts
from easyvideor1.types import Group, Sample, Trajectory, Turn


@dataclass(frozen=True, slots=True, eq=False)
class BatchRows:
    """The N trajectories of some groups and their M turns, in order; numbers are positions in the step.

    The masks of ``turns`` are of the tokens that are trained on. ``owner``, int64 ``(M,)``, is the trajectory of a
    turn; ``group``, int64 ``(N,)``, the group of a trajectory, and ``offline``, bool ``(N,)``, whether another policy
    wrote it; ``sequence``, int64 ``(T,)``, the trajectory of every response token, and ``trained``, bool ``(T,)``,
    whether it is trained on.
    """

    groups: tuple[Group, ...]
    turns: tuple[Turn, ...]
    owner: torch.Tensor
    group: torch.Tensor
    offline: torch.Tensor
    sequence: torch.Tensor
    trained: torch.Tensor

    @property
    def trajectories(self) -> list[Trajectory]:
        return [trajectory for group in self.groups for trajectory in group.trajectories]

    def sample(self, turn: int) -> Sample:
        """Of a turn."""
        return self.groups[int(self.group[self.owner[turn]])].sample

    def split(self, values_T: torch.Tensor) -> list[torch.Tensor]:
        """Values of tokens, turn by turn."""
        return list(torch.split(values_T, [len(turn.response_ids) for turn in self.turns]))


@dataclass(frozen=True, slots=True, eq=False)
class TrainBatch:
    """The rows of a step, or of a part of it, with their advantages.

    ``trajectory_advantages``, ``(N,)``, is one number per trajectory, for the records. ``advantages`` are a number per
    turn, or one for each of its tokens. ``values`` and ``returns`` are the critic's, per turn, where there is one;
    ``rollout_logprobs`` the policy's own at the tokens of every turn, where it will have moved before all of them
    are trained on.
    """

    rows: BatchRows
    trajectory_advantages: torch.Tensor
    advantages: torch.Tensor | list[torch.Tensor]
    pairs: torch.Tensor | None = None
    values: list[torch.Tensor] | None = None
    returns: list[torch.Tensor] | None = None
    rollout_logprobs: list[torch.Tensor] | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def token_advantages(self) -> list[NDArray[np.float32]]:
        """The advantages of every response token, turn by turn, ``(T,)`` each; for the records."""
        return [
            np.broadcast_to(np.asarray(values, dtype=np.float32), len(turn.response_ids))
            for turn, values in zip(self.rows.turns, self.advantages, strict=True)
        ]

    @property
    def has_trained_tokens(self) -> bool:
        """Whether there is any token to train on."""
        return bool(self.rows.trained.any())

    def part(self, groups: Sequence[int], *, overlong_filter: bool) -> TrainBatch:
        """The batch of some of its groups, given by their places in ascending order, with the advantages of the whole.

        ``overlong_filter`` is that of the whole batch (``flatten_groups``). Metrics stay with the whole.
        """
        rows = self.rows
        mine_N = torch.isin(rows.group, torch.tensor(groups))
        turns = torch.nonzero(mine_N[rows.owner]).squeeze(1)
        place_N = torch.cumsum(mine_N, 0) - 1

        def of_turns(values: list[torch.Tensor] | None) -> list[torch.Tensor] | None:
            return None if values is None else [values[n] for n in turns.tolist()]

        advantages: torch.Tensor | list[torch.Tensor]
        if isinstance(self.advantages, torch.Tensor):
            advantages = self.advantages[turns]
        else:
            advantages = [self.advantages[n] for n in turns.tolist()]
        return TrainBatch(
            flatten_groups([rows.groups[g] for g in groups], overlong_filter=overlong_filter),
            self.trajectory_advantages[mine_N],
            advantages,
            None if self.pairs is None else place_N[self.pairs[mine_N[self.pairs[:, 0]]]],
            of_turns(self.values),
            of_turns(self.returns),
            of_turns(self.rollout_logprobs),
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """What a training batch needs beside scores; each is called only if the stage needs it."""

    kl: Callable[[Sequence[Turn]], list[torch.Tensor]]
    values: Callable[[Sequence[Turn]], list[torch.Tensor]]
    kl_coefficient: Callable[[], float]


def flatten_groups(groups: Sequence[Group], *, overlong_filter: bool = False) -> BatchRows:
    """The rows of some groups; trajectories that are not ``is_trained_on`` have no token to train on."""
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    turns, owner = [], []
    for number, trajectory in enumerate(trajectories):
        trained = is_trained_on(trajectory, overlong_filter=overlong_filter)
        for turn in trajectory.turns:
            turns.append(turn if trained else replace(turn, response_mask=turn.response_mask & False))
            owner.append(number)
    owner_M = torch.tensor(owner, dtype=torch.int64)
    lengths_M = torch.tensor([len(turn.response_ids) for turn in turns], dtype=torch.int64)
    masks = [torch.from_numpy(turn.response_mask) for turn in turns]
    sizes = torch.tensor([len(group.trajectories) for group in groups], dtype=torch.int64)
    return BatchRows(
        tuple(groups),
        tuple(turns),
        owner_M,
        torch.repeat_interleave(torch.arange(len(groups)), sizes),
        torch.tensor([trajectory.origin == "offline" for trajectory in trajectories], dtype=torch.bool),
        torch.repeat_interleave(owner_M, lengths_M),
        torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool),
    )


def make_train_batch(
    groups: Sequence[Group],
    advantage: Advantage,
    options: StageConfig,
    max_new_tokens: int,
    needs: frozenset[str],
    sources: Sources,
    step: int,
) -> TrainBatch:
    """Rewards, what they lose to length and KL, and the advantages of all that.

    Args:
        groups: the groups to train on.
        advantage: the stage's function.
        options: of the stage.
        max_new_tokens: the length limit of responses.
        needs: ``algorithms.token_batch.stage_needs`` of the stage.
        sources: of what is not in the groups.
        step: 1-based step of the stage.

    Raises:
        EasyVideoError: the advantage function returned another shape, or a value that is not finite.
    """
    rows = flatten_groups(groups, overlong_filter=options.overlong.filter)
    rewards_N = torch.tensor([r for group in groups for r in response_rewards(group, options, max_new_tokens)])
    if not rows.turns:
        return TrainBatch(rows, rewards_N, rewards_N)
    metrics: dict[str, float] = {}
    greedy = None
    if "greedy" in needs:
        of_group = torch.tensor([_baseline(group, options, max_new_tokens) for group in groups])
        greedy = of_group[rows.group]
        metrics["reward/greedy"] = float(of_group.mean())
    values_T = torch.cat(sources.values(rows.turns)) if "values" in needs else None
    rewards_T, rewards_N = _with_kl(rows, rewards_N, advantage, options, sources, metrics)
    written = [sum(int(turn.response_mask.sum()) for turn in each.turns) for each in rows.trajectories]
    context = AdvantageContext(
        options=options.advantage,
        parts=score_parts(groups),
        lengths=torch.tensor(written, dtype=torch.float32),
        baseline_rewards=greedy,
        sequence=rows.sequence,
        trained=rows.trained,
        values=values_T,
        rewards=rewards_T,
        step=step,
    )
    advantages_N, advantages = _advantages(rows, advantage, rewards_N, context)
    returns = None
    if values_T is not None and rewards_T is not None:
        gae = options.advantage if isinstance(options.advantage, GAEOptions) else GAEOptions(name="gae")
        returns = generalized_advantages(rewards_T, values_T, rows.sequence, rows.trained, gae.gamma, gae.lam)[1]
    return TrainBatch(
        rows,
        advantages_N,
        advantages,
        _pairs(groups, rewards_N, rows) if "pairs" in needs else None,
        None if values_T is None else rows.split(values_T),
        None if returns is None else rows.split(returns),
        metrics=metrics,
    )


def _baseline(group: Group, options: StageConfig, max_new_tokens: int) -> float:
    """The reward of the greedy response; where that could not be judged, the mean of the group."""
    if group.baseline is not None:
        return group.baseline
    rewards = response_rewards(group, options, max_new_tokens)
    return sum(rewards) / len(rewards)


def _pairs(groups: Sequence[Group], rewards_N: torch.Tensor, rows: BatchRows) -> torch.Tensor:
    """The pairs of the step, int64 ``(K, 2)``: those that groups come with, and those that rewards make of others."""
    trained_N = _with_trained_tokens(rows)
    given: list[tuple[int, int]] = []
    first = 0
    free_N = torch.ones(len(rewards_N), dtype=torch.bool)
    for group in groups:
        last = first + len(group.trajectories)
        if group.pairs is not None:
            free_N[first:last] = False
            given += [(first + better, first + worse) for better, worse in group.pairs]
        first = last
    kept = [pair for pair in given if bool(trained_N[list(pair)].all())]
    made_K2 = pairs_of(rewards_N, rows.group, trained_N & free_N)
    return torch.cat([torch.tensor(kept, dtype=torch.int64).reshape(-1, 2), made_K2]) if given else made_K2


def _with_trained_tokens(rows: BatchRows) -> torch.Tensor:
    """Which trajectories have a token that is trained on, bool ``(N,)``."""
    trained_N = torch.zeros(len(rows.group), dtype=torch.bool)
    trained_N[rows.sequence[rows.trained]] = True
    return trained_N


def _with_kl(
    rows: BatchRows,
    rewards_N: torch.Tensor,
    advantage: Advantage,
    options: StageConfig,
    sources: Sources,
    metrics: dict[str, float],
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Rewards of tokens, where the advantage is of tokens, and of responses, less the KL if that goes off them."""
    kl_T, coefficient = None, 0.0
    if options.kl.placement == "reward":
        kl_T, coefficient = torch.cat(sources.kl(rows.turns)), sources.kl_coefficient()
        metrics["policy/kl"] = float(kl_T[rows.trained].mean()) if bool(rows.trained.any()) else 0.0
    if is_per_token(advantage):
        return token_rewards(rewards_N, rows.sequence, rows.trained, kl_T, coefficient), rewards_N
    if kl_T is not None:
        rewards_N = reward_with_kl(rewards_N, kl_T, rows.sequence, rows.trained, coefficient)
    return None, rewards_N


def _turn_rewards(rows: BatchRows, rewards_M: torch.Tensor, lasts: torch.Tensor) -> torch.Tensor:
    """Rewards of turns: those of scores that have such, else the trajectory's at its last turn.

    What a trajectory lost to length or KL stays with its last turn.

    Raises:
        ValueError: a score has another number of rewards of turns than its trajectory has turns.
    """
    scores = [score for group in rows.groups for score in group.scores]
    for trajectory, score in zip(rows.trajectories, scores, strict=True):
        if score.turns and len(score.turns) != len(trajectory.turns):
            raise ValueError(f"{len(score.turns)} rewards of turns for a trajectory of {len(trajectory.turns)}")
    if not any(score.turns for score in scores):
        return rewards_M
    given = [value for t, s in zip(rows.trajectories, scores, strict=True) for value in s.turns or [0.0] * len(t.turns)]
    paid = torch.tensor([score.total if score.turns else 0.0 for score in scores], dtype=rewards_M.dtype)
    return torch.tensor(given, dtype=rewards_M.dtype) + torch.where(lasts, rewards_M - paid[rows.owner], 0.0)


def _advantages(
    rows: BatchRows, advantage: Advantage, rewards_N: torch.Tensor, context: AdvantageContext
) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
    """Of trajectories, for the records, and of turns or their tokens, for the update."""
    if is_per_token(advantage):
        found_T = checked_advantages(
            call_advantage(advantage, rewards_N, rows.group, context), advantage, rewards_N, len(rows.sequence)
        )
        count_N = torch.zeros_like(rewards_N).index_add(0, rows.sequence, rows.trained.float())
        sum_N = torch.zeros_like(rewards_N).index_add(0, rows.sequence, torch.where(rows.trained, found_T, 0.0))
        return sum_N / count_N.clamp_min(1), rows.split(found_T)
    if "turns" in needs_of(advantage):
        firsts = torch.cat([torch.tensor([True]), rows.owner[1:] != rows.owner[:-1]])
        lasts = torch.cat([rows.owner[1:] != rows.owner[:-1], torch.tensor([True])])
        start_N = torch.nonzero(firsts).squeeze(1)
        turn_M = torch.arange(len(rows.owner)) - start_N[rows.owner]
        rewards_M = _turn_rewards(rows, torch.where(lasts, rewards_N[rows.owner], 0.0), lasts)
        group_M = rows.group[rows.owner]
        context = replace(context, trajectory=rows.owner, turn=turn_M)
        found_M = checked_advantages(
            call_advantage(advantage, rewards_M, group_M, context), advantage, rewards_N, len(rewards_M)
        )
        return found_M[firsts], found_M
    found_N = checked_advantages(
        call_advantage(advantage, rewards_N, rows.group, context), advantage, rewards_N, len(rewards_N)
    )
    return found_N, found_N[rows.owner]
