"""Options of stages that contradict other sections of a run; each with what to set instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easyvideor1.config.schema import RunConfig
    from easyvideor1.config.stages import StageConfig

#: Parts that the rules of the task types, the judge and the renderer put into scores (docs/rewards.md).
RULE_PARTS = frozenset(
    {
        "all_passed",
        "attributes",
        "beyond_limits",
        "beyond_video",
        "box_iou",
        "box_iou_common",
        "character_accuracy",
        "image",
        "judge",
        "judge_agreed",
        "mask_iou",
        "mean_relative_accuracy",
        "negative_points",
        "order",
        "positive_points",
        "relative_accuracy",
        "rouge1",
        "rouge2",
        "rougeL",
        "scale_mismatch",
        "structure",
        "tags",
        "temporal_iou",
        "time",
        "word_accuracy",
        "words",
    }
)


def run_faults(config: RunConfig) -> Iterator[str]:
    """A sentence for each stage that does not go with the rest of the run."""
    limit = config.rollout.max_new_tokens
    for stage in config.stages:
        if stage.overlong_cache > limit:
            yield (
                f"stages.{stage.name}.overlong_cache ({stage.overlong_cache}) is larger than rollout.max_new_tokens "
                f"({limit}), before which it begins: lower it"
            )
        # A reward of the user's own may put any part into its scores.
        if not config.rewards.custom:
            yield from _part_faults(config, stage)


def _part_faults(config: RunConfig, stage: StageConfig) -> Iterator[str]:
    parts = [part.name for part in config.rewards.parts]
    if stage.filter_low is not None or stage.filter_high is not None:
        yield from _unknown(stage, "filter_key", [stage.filter_key], ["accuracy", "format", "total", *parts])
    yield from _unknown(stage, "part_weights", stage.part_weights, ["accuracy", "format", *parts])


def _unknown(stage: StageConfig, key: str, wanted: Iterable[str], known: list[str]) -> Iterator[str]:
    for name in wanted:
        if name not in known and name not in RULE_PARTS:
            near = difflib.get_close_matches(name, [*known, *sorted(RULE_PARTS)], n=1)
            hint = f"did you mean {near[0]}?" if near else f"set one of {', '.join(known)}, or add it to rewards.parts"
            yield f"stages.{stage.name}.{key}: no score has a part {name!r}: {hint}"
