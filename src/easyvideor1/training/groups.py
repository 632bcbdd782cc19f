"""What happens to groups between rollout and loss: scoring, selection, advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from easyvideor1.algorithms.advantages import Advantage
from easyvideor1.rollout.records import response_tokens
from easyvideor1.types import EasyVideoError, Group, Sample, Score

#: Characters of a reason in the name of a metric.
_REASON = 120

#: All responses to one sample at once, so that rewards can compare them: ``rewards.Scorer.score_group``.
GroupScorer = Callable[[Sample, Sequence[str]], Sequence[Score]]


def score_groups(groups: Sequence[Group], scorer: GroupScorer) -> list[Group]:
    """Every trajectory scored by the scorer that evaluation uses too.

    Raises:
        EasyVideoError: the scorer returned another number of scores than there are responses.
    """
    scored = []
    for group in groups:
        scores = tuple(scorer(group.sample, [trajectory.text for trajectory in group.trajectories]))
        if len(scores) != len(group.trajectories):
            raise EasyVideoError(
                f"the scorer returned {len(scores)} scores for {len(group.trajectories)} responses to "
                f"{group.sample.id!r}; it must return one for each"
            )
        scored.append(replace(group, scores=scores))
    return scored


def flat_groups_teach(advantage: Advantage) -> bool:
    """Whether responses that all score the same are learnt from.

    Not with a group's own mean as the baseline, but with one over the whole batch, and with advantages that compare
    nothing, such as ``ones`` of supervised learning.
    """
    rewards_N, group_N = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    return bool(torch.as_tensor(advantage(rewards_N, group_N)).any())


def select_groups(groups: Sequence[Group], *, drop_flat: bool) -> list[Group]:
    """The groups that are learnt from.

    Trajectories whose score is not applicable are taken out. With ``drop_flat``, groups whose totals are all equal go:
    their advantages are 0 (DAPO's dynamic sampling, Yu et al. 2025, sec. 3.2, without the refill). So does a group
    without any trajectory, which is one whose media could not be read.
    """
    used = []
    for group in groups:
        judged = [i for i, score in enumerate(group.scores) if score.applicable]
        totals = {group.scores[i].total for i in judged}
        if not judged or (drop_flat and len(totals) == 1):
            continue
        if len(judged) < len(group.scores):
            group = replace(
                group,
                trajectories=tuple(group.trajectories[i] for i in judged),
                scores=tuple(group.scores[i] for i in judged),
            )
        used.append(group)
    return used


def group_advantages(groups: Sequence[Group], advantage: Advantage) -> torch.Tensor:
    """Advantages ``(N,)`` of all trajectories, group by group.

    Raises:
        EasyVideoError: the advantage function returned another shape, or a value that is not finite.
    """
    rewards_N = torch.tensor([score.total for group in groups for score in group.scores], dtype=torch.float32)
    sizes = torch.tensor([len(group.scores) for group in groups], dtype=torch.int64)
    group_N = torch.repeat_interleave(torch.arange(len(groups)), sizes)
    if not len(rewards_N):
        return rewards_N
    advantages_N = advantage(rewards_N, group_N)
    name = getattr(advantage, "__name__", repr(advantage))
    if not isinstance(advantages_N, torch.Tensor):
        raise EasyVideoError(f"the advantage function {name} returned {type(advantages_N).__name__}, not a tensor")
    if advantages_N.shape != rewards_N.shape:
        raise EasyVideoError(
            f"the advantage function {name} returned values of shape {tuple(advantages_N.shape)} for "
            f"{len(rewards_N)} rewards; it must return one value per reward"
        )
    if not bool(advantages_N.isfinite().all()):
        raise EasyVideoError(
            f"the advantage function {name} returned {int((~advantages_N.isfinite()).sum())} values of "
            f"{len(rewards_N)} that are not finite, for rewards {rewards_N.tolist()[:16]}"
        )
    return advantages_N


def score_metrics(groups: Sequence[Group], used: Sequence[Group]) -> dict[str, float]:
    """Means over all judged trajectories of a step, and counts of what was left out, by task type and reason.

    ``part/<name>`` is the mean of a part over the judged trajectories that have it.
    """
    values: dict[str, list[float]] = {}
    masked = 0
    reasons: dict[str, float] = {}
    for group in groups:
        for trajectory, score in zip(group.trajectories, group.scores, strict=True):
            masked += not score.applicable
            if not score.applicable:
                why = f"not_applicable/{group.sample.task}/{score.reason[:_REASON]}"
                reasons[why] = reasons.get(why, 0.0) + 1.0
                continue
            row = {"total": score.total, "accuracy": score.accuracy, "format": score.format}
            for name, value in row.items():
                values.setdefault(f"reward/{name}", []).append(value)
            values.setdefault(f"accuracy/{group.sample.task}", []).append(score.accuracy)
            for name, value in score.parts.items():
                values.setdefault(f"part/{name}", []).append(value)
            values.setdefault("response/tokens", []).append(float(response_tokens(trajectory)))
            values.setdefault("response/cut_at_limit", []).append(float(trajectory.turns[-1].finish == "length"))
    metrics = {name: sum(column) / len(column) for name, column in sorted(values.items())}
    return (
        metrics
        | dict(sorted(reasons.items()))
        | {
            "groups/all": float(len(groups)),
            "groups/used": float(len(used)),
            "groups/media_failed": float(sum(not group.trajectories for group in groups)),
            "response/not_applicable": float(masked),
        }
    )
