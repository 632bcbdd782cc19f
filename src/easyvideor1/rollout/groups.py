"""What happens to groups between rollout and loss: scoring, selection, advantages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES, Advantage, is_group_centred
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.selection import groups_within, soft_overlong_penalty
from easyvideor1.config import StageConfig
from easyvideor1.config.stage_sections import SelectionConfig
from easyvideor1.records.trajectories import prompt_tokens_by_kind
from easyvideor1.types import Completion, EasyVideoError, Group, Sample, Score, Trajectory

#: Characters of a reason in the name of a metric.
_REASON = 120
#: Characters of a source in the name of a metric.
_NAME = 60

#: Of all samples of a step their responses, those to one sample together, so that rewards can compare them:
#: ``rewards.Scorer.score_groups``.
GroupScorer = Callable[[Sequence[tuple[Sample, Sequence[Completion]]]], Sequence[Sequence[Score]]]


def attach_scores(groups: Sequence[Group], scorer: GroupScorer) -> list[Group]:
    """Every trajectory scored by the scorer that evaluation uses too.

    Raises:
        EasyVideoError: the scorer returned another number of scores than there are responses.
    """
    asked = [(group.sample, [trajectory.completion for trajectory in group.trajectories]) for group in groups]
    scored = []
    for group, scores in zip(groups, scorer(asked), strict=True):
        if len(scores) != len(group.trajectories):
            raise EasyVideoError(
                f"the scorer returned {len(scores)} scores for {len(group.trajectories)} responses to "
                f"{group.sample.id!r}; it must return one for each"
            )
        scored.append(replace(group, scores=tuple(scores)))
    return scored


def response_rewards(group: Group, options: StageConfig, max_new_tokens: int) -> list[float]:
    """The totals of a group's scores, less the penalty of responses that come near the length limit."""
    totals = [score.total for score in group.scores]
    if options.overlong.cache == 0:
        return totals
    lengths = torch.tensor([len(trajectory.last.response_ids) for trajectory in group.trajectories])
    penalties = soft_overlong_penalty(lengths, max_new_tokens, options.overlong.cache).tolist()
    return [total + options.overlong.penalty * each for total, each in zip(totals, penalties, strict=True)]


def score_parts(groups: Sequence[Group]) -> dict[str, torch.Tensor]:
    """``accuracy``, ``format`` and all named parts of the scores, ``(N,)`` each; 0 where a score lacks a part."""
    rows = [{"accuracy": s.accuracy, "format": s.format, **s.parts} for group in groups for s in group.scores]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: torch.tensor([row.get(name, 0.0) for row in rows], dtype=torch.float32) for name in names}


#: What the responses of a group differ in, if they teach: one value per response.
Signal = Callable[[Group], Sequence[object]]


def totals(group: Group) -> Sequence[object]:
    """The totals of a group's scores."""
    return [score.total for score in group.scores]


def is_trained_on(trajectory: Trajectory, *, overlong_filter: bool) -> bool:
    """Whether a trajectory has tokens to learn from; with ``overlong_filter`` one that was cut has none (DAPO)."""
    if overlong_filter and trajectory.finish == "length":
        return False
    return any(bool(turn.response_mask.any()) for turn in trajectory.turns)


def flat_rule(options: StageConfig, advantage: Advantage) -> Callable[[Group], bool]:
    """Whether a group is left out if its responses all score the same.

    ``drop_flat_groups`` decides where it is set. Else a flat group goes where it has no pair (``dpo``), or its
    advantages are 0 and nothing else teaches: ``reward_weighted_sft`` gives an advantage of 0 the weight 1, under
    ``off_policy: sft`` offline members are imitated whatever their advantage, and a KL in the reward tells responses
    apart that score the same.
    """
    chosen = options.selection.drop_flat_groups
    if chosen is not None:
        return lambda group: chosen
    objective = options.objective
    if objective.pairs_responses:
        return lambda group: True
    if not is_group_centred(advantage) or objective.trains_flat_groups or options.kl.placement == "reward":
        return lambda group: False
    if options.off_policy.name == "sft":
        return lambda group: all(trajectory.origin != "offline" for trajectory in group.trajectories)
    return lambda group: True


def select_groups(
    groups: Sequence[Group],
    *,
    drop_flat: Callable[[Group], bool],
    signal: Signal = totals,
    within: Callable[[Group], bool] | None = None,
    trained: Callable[[Trajectory], bool] | None = None,
) -> list[Group]:
    """The groups to train on.

    Trajectories whose score is not applicable are taken out. Where ``drop_flat`` says so, groups whose signals are all
    equal go, unless they have pairs: their advantages are 0 (DAPO's dynamic sampling, Yu et al. 2025, sec. 3.2). So
    does a group without any trajectory, which is one with a fault, one none of whose trajectories is ``trained`` on,
    and one that is not ``within`` the bounds of an online filter.
    """
    used = []
    for group in groups:
        judged = [i for i, score in enumerate(group.scores) if score.applicable]
        if len(judged) < len(group.scores):
            group = replace(
                group,
                trajectories=tuple(group.trajectories[i] for i in judged),
                scores=tuple(group.scores[i] for i in judged),
                pairs=_pairs_among(group, judged),
            )
        if not judged or (within is not None and not within(group)):
            continue
        if trained is not None and not any(map(trained, group.trajectories)):
            continue
        if not group.pairs and len(set(signal(group))) == 1 and drop_flat(group):
            continue
        used.append(group)
    return used


def _pairs_among(group: Group, kept: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """The pairs of a group of which the trajectories at these places are kept, by their new places."""
    if group.pairs is None:
        return None
    place = {old: new for new, old in enumerate(kept)}
    return tuple((place[one], place[other]) for one, other in group.pairs if one in place and other in place)


def selector(options: StageConfig, max_new_tokens: int) -> Callable[[Sequence[Group]], list[Group]]:
    """``select_groups`` as a stage configures it."""
    advantage = ADVANTAGES.resolve(options.advantage.name)
    by_parts, by_turns = "parts" in needs_of(advantage), "turns" in needs_of(advantage)

    def signal(group: Group) -> Sequence[object]:
        rewards = response_rewards(group, options, max_new_tokens)
        if by_turns:
            return [(reward, score.turns) for reward, score in zip(rewards, group.scores, strict=True)]
        if not by_parts:
            return rewards
        scores = zip(rewards, group.scores, strict=True)
        return [(reward, s.accuracy, s.format, *sorted(s.parts.items())) for reward, s in scores]

    return partial(
        select_groups,
        drop_flat=flat_rule(options, advantage),
        signal=signal,
        within=filter_by_mean(options.selection) if options.selection.filters else None,
        trained=partial(is_trained_on, overlong_filter=options.overlong.filter),
    )


def filter_by_mean(options: SelectionConfig) -> Callable[[Group], bool]:
    """Whether the mean of a group's ``filter_key`` lies strictly between the stage's bounds.

    It is the mean over the policy's own responses. A group that has no such part, or none of its own, is kept.
    """

    def within(group: Group) -> bool:
        pairs = zip(group.trajectories, group.scores, strict=True)
        own = [score for trajectory, score in pairs if trajectory.origin == "online"]
        rows = [{"accuracy": s.accuracy, "format": s.format, "total": s.total, **s.parts} for s in own]
        values = [row[options.filter_key] for row in rows if options.filter_key in row]
        if not values:
            return True
        together = torch.zeros(len(values), dtype=torch.int64)
        found = groups_within(torch.tensor(values), together, options.filter_low, options.filter_high)
        return bool(found.all())

    return within


def checked_advantages(found: object, advantage: Advantage, rewards_N: torch.Tensor, count: int) -> torch.Tensor:
    """What an advantage function returned.

    Raises:
        EasyVideoError: it is no tensor ``(count,)``, or a value is not finite.
    """
    name = getattr(advantage, "__name__", repr(advantage))
    if not isinstance(found, torch.Tensor):
        raise EasyVideoError(f"the advantage function {name} returned {type(found).__name__}, not a tensor")
    if found.shape != (count,):
        per = "reward" if count == len(rewards_N) else "token or turn"
        raise EasyVideoError(
            f"the advantage function {name} returned values of shape {tuple(found.shape)} for "
            f"{len(rewards_N)} rewards; it must return one value per {per}, {count}"
        )
    if not bool(found.isfinite().all()):
        raise EasyVideoError(
            f"the advantage function {name} returned {int((~found.isfinite()).sum())} values of "
            f"{count} that are not finite, for rewards {rewards_N.tolist()[:16]}"
        )
    return found


def split_offline(groups: Sequence[Group]) -> tuple[list[Group], list[Score]]:
    """Groups with the policy's own trajectories alone, and the scores of the offline ones among them.

    Where all trajectories are offline, as in supervised learning, nothing is taken apart.
    """
    origins = {trajectory.origin for group in groups for trajectory in group.trajectories}
    if origins != {"online", "offline"}:
        return list(groups), []
    own, offline = [], []
    for group in groups:
        pairs = list(zip(group.trajectories, group.scores, strict=True))
        kept = [(trajectory, score) for trajectory, score in pairs if trajectory.origin == "online"]
        offline += [score for trajectory, score in pairs if trajectory.origin == "offline"]
        own.append(replace(group, trajectories=tuple(t for t, _ in kept), scores=tuple(s for _, s in kept)))
    return own, offline


def score_metrics(groups: Sequence[Group], used: Sequence[Group]) -> dict[str, float]:
    """Means over all judged trajectories of a step, and counts of what was left out, by task type and reason.

    ``part/<name>`` is the mean of a part over the judged trajectories that have it, and ``reward/turn/<n>`` that of the
    rewards of turn ``n``, counted from 1, where scores have such. Where offline trajectories stand
    among the policy's own, they are not among those means; theirs are ``offline/<name>``, and
    ``offline/not_applicable`` counts those that could not be judged. ``groups/turn_failed`` counts groups without the
    prompt of a further turn, ``groups/request_failed`` those that the engine did not answer, and
    ``groups/stored_failed`` those of earlier stages that cannot be made again, where there are some.
    """
    groups, offline = split_offline(groups)
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
            for number, value in enumerate(score.turns, 1):
                values.setdefault(f"reward/turn/{number}", []).append(value)
            values.setdefault("response/tokens", []).append(float(trajectory.response_tokens))
            values.setdefault("response/cut_at_limit", []).append(float(trajectory.finish == "length"))
    metrics = {name: sum(column) / len(column) for name, column in sorted(values.items())}
    if offline:
        judged = [score for score in offline if score.applicable]
        for name in ("accuracy", "format", "total") if judged else ():
            metrics[f"offline/{name}"] = sum(getattr(score, name) for score in judged) / len(judged)
        metrics["offline/not_applicable"] = float(len(offline) - len(judged))
    return (
        metrics
        | dict(sorted(reasons.items()))
        | {
            "groups/all": float(len(groups)),
            "groups/used": float(len(used)),
            "groups/media_failed": float(sum(not (group.trajectories or group.fault) for group in groups)),
            "response/not_applicable": float(masked),
        }
        | _fault_counts(groups)
    )


def _fault_counts(groups: Sequence[Group]) -> dict[str, float]:
    faults = Counter(
        "request" if group.request_failed else "stored" if group.stored_failed else "turn"
        for group in groups
        if group.fault
    )
    counts = {f"groups/{kind}_failed": faults[kind] for kind in ("turn", "request", "stored")}
    return {name: float(count) for name, count in counts.items() if count}


def breakdown_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over the judged trajectories of each source, modality and task type, and what the prompts are made of.

    ``reward/source/<name>`` and ``accuracy/source/<name>``, the same for ``modality``, and ``reward/task/<task>``
    (accuracy by task type is ``accuracy/<task>`` in ``score_metrics``); ``groups/source/<name>`` and
    ``groups/modality/<modality>`` count samples. ``tokens/text``, ``tokens/image`` and ``tokens/video`` are the tokens
    of each kind in the step's prompts, every group counted once, and of several turns the first;
    ``response/tokens/modality/<modality>`` is a mean.
    """
    counts: dict[str, float] = dict.fromkeys(("tokens/text", "tokens/image", "tokens/video"), 0.0)
    values: dict[str, list[float]] = {}
    for group in groups:
        labels = _labels(group.sample)
        for label in labels:
            counts[f"groups/{label}"] = counts.get(f"groups/{label}", 0.0) + 1.0
        if group.trajectories:
            for kind, tokens in prompt_tokens_by_kind(group.trajectories[0].prompt).items():
                counts[f"tokens/{kind}"] += tokens
        for trajectory, score in zip(group.trajectories, group.scores, strict=True):
            if not score.applicable:
                continue
            for label in labels:
                values.setdefault(f"reward/{label}", []).append(score.total)
                values.setdefault(f"accuracy/{label}", []).append(score.accuracy)
            values.setdefault(f"reward/task/{group.sample.task}", []).append(score.total)
            tokens = trajectory.response_tokens
            values.setdefault(f"response/tokens/modality/{group.sample.modality}", []).append(float(tokens))
    means = {name: sum(column) / len(column) for name, column in sorted(values.items())}
    return means | dict(sorted(counts.items()))


def _labels(sample: Sample) -> tuple[str, ...]:
    modality = f"modality/{sample.modality}"
    return (modality, f"source/{sample.source[:_NAME]}") if sample.source else (modality,)
