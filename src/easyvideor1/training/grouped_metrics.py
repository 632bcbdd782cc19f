"""Metrics of a step told apart by where its samples come from and what they show."""

from __future__ import annotations

from collections.abc import Sequence

from easyvideor1.records.trajectories import prompt_tokens_by_kind
from easyvideor1.types import Group, Sample

#: Characters of a source in the name of a metric.
_NAME = 60


def breakdown_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over the judged trajectories of each source, modality and task type, and what the prompts are made of.

    ``reward/source/<name>`` and ``accuracy/source/<name>``, the same for ``modality``, and ``reward/task/<task>``
    (accuracy by task type is ``accuracy/<task>`` in ``score_metrics``); ``groups/source/<name>`` and
    ``groups/modality/<modality>`` count samples. ``tokens/text``, ``tokens/image`` and ``tokens/video`` are the prompt
    tokens of the step of each kind, every group counted once; ``response/tokens/modality/<modality>`` is a mean.
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
