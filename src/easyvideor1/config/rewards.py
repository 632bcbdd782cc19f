"""Scoring."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.judge import JudgeConfig
from easyvideor1.config.section import CHANGEABLE, PositiveInt, Probability, Section

#: ``accuracy > 0``, several joined by ``and``: what a part of the reward may depend on.
GATE = re.compile(r"([A-Za-z_][\w.]*)\s*(>=|<=|==|!=|>|<)\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))")

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

#: A tag, or a list of tags that may come several times over.
Block = str | tuple[str, ...]


class RewardPart(Section):
    """One more term of the total."""

    name: str
    """Its name in ``Score.parts`` and in the metrics."""
    reward: str
    """A built-in (``length_bonus``, ``brevity``, ``diversity``) or ``module:attr``: ``(sample, response) -> float |
    Score | None`` or, for a whole group, ``(sample, responses, scores) -> list[float | None]``, all in [0, 1]."""
    weight: Annotated[float, Field(ge=-10, le=10)] = 0.1
    """Weight in the total; a negative one makes it a penalty."""
    gate: str = ""
    """Counts only where this holds, else the part is 0: ``accuracy > 0``, ``format >= 1 and accuracy > 0.5``; names are
    ``accuracy``, ``format`` and earlier parts."""
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Further keyword arguments of the reward."""

    @model_validator(mode="after")
    def _is_readable(self) -> RewardPart:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name) or self.name in {"accuracy", "format", "total"}:
            raise ValueError(f"name {self.name!r}: use letters, digits and _, and none of accuracy, format, total")
        if self.weight == 0:
            raise ValueError(f"part {self.name!r} has weight 0; leave it out, or give it a weight")
        for condition in re.split(r"\s+and\s+", self.gate.strip()) if self.gate.strip() else ():
            if not GATE.fullmatch(condition.strip()):
                raise ValueError(f"gate {self.gate!r}: write conditions as 'accuracy > 0', joined by 'and'")
        return self


class RewardConfig(Section):
    """How responses are scored."""

    profile: Literal["strict", "easyvideor1-video", "easyvideor1-unified"] = "strict"
    """``strict`` is this library's own; the others restate what the two published packages do, for comparison."""
    grammar: Literal["answer", "think-answer"] | tuple[Block, ...] = "answer"
    """Tags of a well-formed response. ``answer``: an answer tag, whatever stands before it. ``think-answer``: thinking,
    then the answer, and nothing else. A list names the tags before the answer in order, such as ``[time, caption,
    think]``; a list inside it may repeat (``[[time, caption], think]``), and ``think/plan`` stands inside ``think``."""
    require_tag: bool | None = None
    """Whether accuracy counts only for an answer in the closed answer tag. Null: in training where the prompt asks for
    the tag, and not in evaluation, where a model may never have seen the prompt; how many answers came without the tag
    is reported there. ``true`` asks for it everywhere, ``false`` nowhere."""
    reading: Literal["any", "asked"] = "any"
    """``any``: accuracy reads every unambiguous form of an answer, and the format part pays the form that the prompt
    asks for. ``asked``: an answer in another form (``B. blue car`` is one, ``the blue car`` is not) is no answer."""
    coordinates: Literal["normalized", "thousand", "pixel"] | None = None
    """Scale that the prompt asks boxes and points in: 0-1, 0-1000 or pixels. A row's column ``coordinates`` says on
    which scale its reference is (this one if it does not), and the answer is converted to it."""
    scale_mismatch: Literal["mask", "zero"] = "mask"
    """An answer that is plainly on another scale is left out of the score and counted, or is worth 0. ``zero`` keeps a
    policy from leaving hard questions out on purpose."""
    forms: dict[str, str] = Field(default_factory=dict)
    """Task type -> named form of its accuracy, such as ``regression: relative``; a row's column ``reward_form`` goes
    before it."""

    accuracy_weight: Probability = 0.9
    """Weight of accuracy in the total."""
    format_weight: Probability = 0.1
    """Weight of the format reward in the total."""
    custom: dict[str, str] = Field(default_factory=dict)
    """Task type -> ``module:attr`` of your own reward ``(sample, response) -> Score | float | None``; ``*`` for all. A
    number in [0, 1] is accuracy and total; ``None`` is "does not apply". It is tried on one sample before anything is
    built."""
    parts: tuple[RewardPart, ...] = ()
    """Further terms of the total. With them the total is the weighted sum, moved and scaled linearly into [0, 1]."""
    on_error: Literal["stop", "mask"] = "stop"
    """A reward that raises stops the run, or masks the sample and is counted."""
    timeout: Annotated[float, Field(gt=0)] | None = 300.0
    """Seconds that one call of a reward of your own may take; more is an error like any other (``on_error``). Null
    waits for ever."""
    workers: Annotated[PositiveInt | None, CHANGEABLE] = None
    """Programs, expressions of mathematics and pictures that are compared side by side, each in a process of its own;
    null for one per processor, 16 at most."""
    overlap: Annotated[bool | None, CHANGEABLE] = None
    """Whether comparisons of a step begin while its other responses are still being generated. Null: where the model is
    on another device than the processors, which comparisons would take away from it."""
    step_seconds: Annotated[float, Field(gt=0)] | None = 900.0
    """Seconds that a step may wait for its comparisons together. What has not begun by then is masked and counted; null
    waits for all."""
    judge: JudgeConfig = JudgeConfig()
    """The language model that judges free text."""
    render: Literal["auto", "chromium", "off"] = "auto"
    """Whether SVG and HTML are judged by their looks as well: ``auto`` if a Chromium is found, ``chromium`` demands
    one, ``off`` compares the structure alone."""
    chromium: str | None = None
    """Path of the Chromium to render with; looked for under its usual names if not set."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardConfig:
        if abs(self.accuracy_weight + self.format_weight - 1) > 1e-9:
            raise ValueError("accuracy_weight and format_weight must sum to 1")
        return self

    @model_validator(mode="after")
    def _part_names_differ(self) -> RewardConfig:
        names = [part.name for part in self.parts]
        if len(set(names)) != len(names):
            raise ValueError(f"names of parts must differ, got {names}")
        return self
