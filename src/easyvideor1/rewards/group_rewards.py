"""Built-in further rewards: of one response, and of the responses of a group among each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import MappingProxyType

from easyvideor1.types import Sample, Score

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
    """1 for the shortest judged response of a group, 0 for the longest, linear between; 1 where all are as long.

    The length penalty of Kimi k1.5 (Kimi Team 2025), ``0.5 - (length - shortest) / (longest - shortest)``, moved from
    [-0.5, 0.5] to [0, 1]. There a wrong answer gets at most 0: here the gate ``accuracy > 0`` gives it nothing.
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
    """How unlike the others of its group a response is: 1 - mean Jaccard similarity of the sets of word pairs.

    Does not apply where fewer than two responses are judged. Meant for a small weight and the gate ``accuracy > 0``:
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
    {"length_bonus": length_bonus, "brevity": brevity, "diversity": diversity}
)
