"""Further parts of the total: built-in ones, custom ones, their weights and their gates."""

from __future__ import annotations

import difflib
import inspect
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from easyvideor1.config.rewards import GATE, RewardPart
from easyvideor1.registry import load_attribute
from easyvideor1.rewards.custom import checked_share
from easyvideor1.rewards.tag_contents import trace_span_iou
from easyvideor1.rewards.types import RewardError
from easyvideor1.types import ConfigError, Sample, Score

_WORD = re.compile(r"\w+")
#: Words of a response that diversity looks at.
_WORD_LIMIT = 4000


def length_bonus(sample: Sample, response: str, *, shortest: float, longest: float) -> float:
    """1 for a response of ``shortest`` to ``longest`` characters, else 0.

    With the gate ``accuracy > 0`` this is the length control of Video-R1 (Feng et al. 2025), which counts tokens where
    this counts characters.
    """
    return float(shortest <= len(response) <= longest)


def brevity(sample: Sample, responses: Sequence[str], scores: Sequence[Score]) -> list[float | None]:
    """1 for the shortest scored response of a group, 0 for the longest, linear between; 1 where all have one length.

    The length penalty of Kimi k1.5 (Kimi Team 2025), ``0.5 - (length - shortest) / (longest - shortest)``, shifted from
    [-0.5, 0.5] to [0, 1]. There a wrong answer gets at most 0; here the gate ``accuracy > 0`` does the same.
    """
    lengths = [len(text) for text, score in zip(responses, scores, strict=True) if score.applicable]
    if not lengths:
        return [None] * len(responses)
    least, range_ = min(lengths), max(lengths) - min(lengths)
    return [
        (1.0 - (len(text) - least) / range_ if range_ else 1.0) if score.applicable else None
        for text, score in zip(responses, scores, strict=True)
    ]


def diversity(sample: Sample, responses: Sequence[str], scores: Sequence[Score]) -> list[float | None]:
    """How different a response is from the others of its group: 1 - mean Jaccard similarity of the sets of word pairs.

    Does not apply where fewer than two responses are scored. Meant for a small weight and the gate ``accuracy > 0``:
    nonsense is diverse.
    """
    pairs = [_pairs(text) if score.applicable else None for text, score in zip(responses, scores, strict=True)]
    judged = [found for found in pairs if found is not None]
    if len(judged) < 2:
        return [None] * len(responses)
    values: list[float | None] = []
    for mine in pairs:
        if mine is None:
            values.append(None)
            continue
        alike = sum(_jaccard(mine, other) for other in judged) - _jaccard(mine, mine)
        values.append(1.0 - alike / (len(judged) - 1))
    return values


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    words = ["", *_WORD.findall(text.casefold())[:_WORD_LIMIT], ""]
    return frozenset(pairwise(words))


def _jaccard(a: frozenset[tuple[str, str]], b: frozenset[tuple[str, str]]) -> float:
    common = len(a & b)
    return common / (len(a) + len(b) - common)


#: Names that ``rewards.parts`` may give as ``reward``.
BUILT_IN: MappingProxyType[str, Callable[..., object]] = MappingProxyType(
    {"length_bonus": length_bonus, "brevity": brevity, "diversity": diversity, "trace_span_iou": trace_span_iou}
)

_COMPARISONS: MappingProxyType[str, Callable[[float, float], bool]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

#: A comparison of one named number of a score, ``accuracy`` say, with a constant.
Condition = tuple[str, str, float]
#: Values of a part for each response; ``None`` where it does not apply.
Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Part:
    """One further term of the total; with ``group``, its reward takes all responses of a sample at once."""

    name: str
    target: str
    reward: Callable[..., Any]
    weight: float
    gate: tuple[Condition, ...]
    options: Mapping[str, Any]
    group: bool


def load_parts(configured: Sequence[RewardPart]) -> tuple[Part, ...]:
    """The parts of a configuration, with their rewards found and their signatures checked.

    Raises:
        ConfigError: a reward does not exist or takes other arguments, or a gate names something unknown.
    """
    parts: list[Part] = []
    for entry in configured:
        where = f"rewards.parts {entry.name!r}"
        reward = _find(where, entry.reward)
        gate = _read_gate(where, entry.gate, {"accuracy", "format", *(part.name for part in parts)})
        group = _takes_group(where, entry.reward, reward, entry.options)
        parts.append(Part(entry.name, entry.reward, reward, entry.weight, gate, dict(entry.options), group))
    return tuple(parts)


def _find(where: str, target: str) -> Callable[..., Any]:
    if target in BUILT_IN:
        return BUILT_IN[target]
    if ":" not in target:
        near = difflib.get_close_matches(target, BUILT_IN, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(BUILT_IN)}."
        raise ConfigError(f"{where}: unknown reward {target!r}: {hint} Your own goes in as 'module:attr'.")
    reward = load_attribute(target, "reward")
    if not callable(reward):
        raise ConfigError(f"{where}: {target!r} is {reward!r}, which cannot be called")
    found: Callable[..., Any] = reward
    return found


def _takes_group(where: str, target: str, reward: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    signature = inspect.signature(reward)
    positional = [p for p in signature.parameters.values() if p.kind in _POSITIONAL and p.name not in options]
    count = sum(parameter.default is inspect.Parameter.empty for parameter in positional)
    if count not in (2, 3):
        raise ConfigError(
            f"{where}: {target!r} takes {count} arguments; a reward takes (sample, response), or (sample, responses, "
            "scores) for a whole group"
        )
    try:
        signature.bind(*[None] * count, **options)
    except TypeError as error:
        raise ConfigError(f"{where}: {target!r} does not take these options {dict(options)}: {error}") from error
    return count == 3


def _read_gate(where: str, gate: str, known: set[str]) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    for text in re.split(r"\s+and\s+", gate.strip()) if gate.strip() else ():
        match = GATE.fullmatch(text.strip())
        if match is None or match.group(1) not in known:
            raise ConfigError(
                f"{where}: the gate {text!r} must compare one of {', '.join(sorted(known))} with a number"
            )
        conditions.append((match.group(1), match.group(2), float(match.group(3))))
    return tuple(conditions)


def part_values(part: Part, sample: Sample, responses: Sequence[str], scores: Sequence[Score]) -> Values:
    """The value of a part for each response; ``None`` where it does not apply or the response could not be scored.

    Raises:
        RewardError: the reward returned something invalid.
        Exception: whatever the reward raises.
    """
    if part.group:
        found = part.reward(sample, list(responses), list(scores), **part.options)
        if isinstance(found, str | bytes | Mapping) or not hasattr(found, "__len__") or len(found) != len(responses):
            raise RewardError(
                f"reward {part.target!r} returned {found!r}; of a group it must return one number or None for each of "
                f"the {len(responses)} responses"
            )
        values = list(found)
    else:
        values = [
            part.reward(sample, text, **part.options) if score.applicable else None
            for text, score in zip(responses, scores, strict=True)
        ]
    return [_value(part, value) if score.applicable else None for value, score in zip(values, scores, strict=True)]


def _value(part: Part, value: object) -> float | None:
    if isinstance(value, Score):
        value = value.total if value.applicable else None
    return None if value is None else checked_share(part.target, part.name, value)


def is_open(gate: tuple[Condition, ...], score: Score) -> bool:
    """Whether all conditions hold; a condition on a part that does not apply is false."""
    named = {**score.parts, "accuracy": score.accuracy, "format": score.format}
    return all(name in named and _COMPARISONS[sign](named[name], bound) for name, sign, bound in gate)


def with_part(part: Part, score: Score, value: float | None) -> Score:
    """A score with one part added, 0 where the gate of the part is closed. The total does not change.

    Raises:
        RewardError: the score has a part of that name.
    """
    if value is None or not score.applicable:
        return score
    if part.name in score.parts:
        raise RewardError(f"rewards.parts {part.name!r}: the score has a part of that name; choose another")
    return replace(score, parts={**score.parts, part.name: value if is_open(part.gate, score) else 0.0})


def combined(score: Score, parts: Sequence[Part]) -> Score:
    """A score with its total over the parts that apply.

    ``(base + sum of w * value + sum of |w| of the penalties) / (1 + sum of |w|)``: the weighted sum, shifted and scaled
    linearly so that it stays in [0, 1] for all weights. ``base`` is the weighted sum of accuracy and format, or
    the total of a custom reward. A part that does not apply is left out of all sums. Where a score has rewards of
    turns, the last turn gets what the total changes by.
    """
    here = [part for part in parts if part.name in score.parts]
    if not score.applicable or not here:
        return score
    reached = score.total + sum(part.weight * score.parts[part.name] - min(0.0, part.weight) for part in here)
    total = reached / (1.0 + sum(abs(part.weight) for part in here))
    total = min(1.0, max(0.0, total))
    turns = (*score.turns[:-1], score.turns[-1] + total - score.total) if score.turns else ()
    return replace(score, total=total, turns=turns)
