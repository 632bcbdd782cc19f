"""Pair builders: which responses of a group are better and which are worse, for objectives over pairs.

A builder is a function ``(record, **options) -> [(better, worse), ...]`` of a scored group (``SampleRecord``); both
numbers are places among ``record.trajectories``. It gives all pairs that it finds, in any order; ``choose_pairs`` draws
from them. The kinds are those of VerIPO (arXiv 2505.19000); its thresholds are not published, so that the defaults here
are ours.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from easyvideor1.config.rollouts import PairConfig
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.registry import Registry, load_attribute
from easyvideor1.rollout.trace import follows_from_trace, thinking_of
from easyvideor1.seeds import derive_seed
from easyvideor1.types import ConfigError, EasyVideoError

#: ``(better, worse)``, places among the trajectories of a group.
Pair = tuple[int, int]
PairBuilder = Callable[..., Iterable[Pair]]
#: Whether the answer of a response follows from its reasoning: a share, a truth value, or None if nobody can tell.
TraceScorer = Callable[[SampleRecord, str], float | bool | None]

PAIRS: Registry[PairBuilder] = Registry("pair builder")


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """A pair of a group, and the builder that found it."""

    better: int
    worse: int
    builder: str


@PAIRS.register("accuracy")
def accuracy(record: SampleRecord, *, right: float = 1.0, wrong: float = 0.0) -> list[Pair]:
    """A right response over a wrong one: accuracy of at least ``right``, and of at most ``wrong``."""
    return _over(_right(record, right), _at_most(record, wrong))


@PAIRS.register("consistency")
def consistency(record: SampleRecord, *, right: float = 1.0, scorer: str = "", threshold: float = 0.5) -> list[Pair]:
    """A right response whose answer follows from its reasoning over a right one whose answer does not.

    ``scorer`` is ``module:attr`` of ``(record, response) -> share, truth value or None``; without one,
    ``follows_from_trace`` reads the reasoning. Where it is ``None`` the response is in no pair.
    """
    judge: TraceScorer = load_attribute(scorer, "scorer of a trace") if scorer else follows_from_trace
    found = {place: judge(record, record.trajectories[place].response) for place in _right(record, right)}
    known = {place: float(value) for place, value in found.items() if value is not None}
    return _over(
        [place for place, value in known.items() if value >= threshold],
        [place for place, value in known.items() if value < threshold],
    )


@PAIRS.register("reflection")
def reflection(
    record: SampleRecord,
    *,
    right: float = 1.0,
    wrong: float = 0.0,
    marker: str = r"\b(?:wait|let me (?:re)?check|on second thought|actually)\b",
) -> list[Pair]:
    """A right response that corrects itself over a wrong attempt: ``marker`` is found in its reasoning, in any case."""
    turned = re.compile(marker, re.IGNORECASE)
    corrected = [n for n in _right(record, right) if turned.search(thinking_of(record.trajectories[n].response))]
    return _over(corrected, _at_most(record, wrong))


@PAIRS.register("repetition")
def repetition(record: SampleRecord, *, right: float = 1.0, n: int = 4, limit: float = 0.2) -> list[Pair]:
    """A right response over a right one that repeats itself: whose ``repeated_share`` is above ``limit``."""
    shares = {place: repeated_share(record.trajectories[place].response, n) for place in _right(record, right)}
    return _over(
        [place for place, share in shares.items() if share <= limit],
        [place for place, share in shares.items() if share > limit],
    )


@PAIRS.register("length")
def length(record: SampleRecord, *, right: float = 1.0, ratio: float = 1.5) -> list[Pair]:
    """A right response over a right one that takes at least ``ratio`` times as many tokens."""
    places = _right(record, right)
    tokens = {place: record.trajectories[place].tokens for place in places}
    return [(one, other) for one, other in _over(places, places) if tokens[one] * ratio <= tokens[other]]


def repeated_share(text: str, n: int = 4) -> float:
    """Share of the ``n``-grams of words that came before in the text; 0 for a text of fewer words."""
    words = text.split()
    grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def load_builders(configured: Sequence[PairConfig]) -> list[tuple[PairConfig, PairBuilder]]:
    """The builders of a stage with their options.

    Raises:
        ConfigError: a builder does not exist, or does not take these options.
    """
    found: list[tuple[PairConfig, PairBuilder]] = []
    for entry in configured:
        builder = PAIRS.resolve(entry.builder)
        if not callable(builder):
            raise ConfigError(f"pair builder {entry.builder!r} is {type(builder).__name__}, not a function (record)")
        try:
            inspect.signature(builder).bind(None, **entry.options)
        except TypeError as error:
            known = [
                name for name, one in inspect.signature(builder).parameters.items() if one.kind is one.KEYWORD_ONLY
            ]
            raise ConfigError(
                f"pair builder {entry.builder!r} does not take these options {dict(entry.options)}: {error}; it has "
                f"{', '.join(known) or 'none'}"
            ) from error
        found.append((entry, partial(builder, **entry.options)))
    return found


def choose_pairs(
    record: SampleRecord, builders: Sequence[tuple[PairConfig, PairBuilder]], seed: Sequence[int | str]
) -> list[ChosenPair]:
    """The pairs of a group: of each builder at most ``per_prompt``, drawn without replacement. No pair comes twice.

    Args:
        record: of the group.
        builders: ``load_builders``.
        seed: what the draw follows from.

    Raises:
        EasyVideoError: a builder names a response that is not there, or twice the same.
    """
    chosen: dict[Pair, ChosenPair] = {}
    count = len(record.trajectories)
    for number, (entry, builder) in enumerate(builders):
        pairs = sorted({(int(better), int(worse)) for better, worse in builder(record)})
        if wrong := [pair for pair in pairs if pair[0] == pair[1] or not all(0 <= place < count for place in pair)]:
            raise EasyVideoError(
                f"the pair builder {entry.builder!r} made the pair {wrong[0]} of a group of {count} responses "
                f"({record.sample}); it must name two different places from 0"
            )
        rng = np.random.default_rng(derive_seed(*seed, "pairs", number))
        for place in rng.permutation(len(pairs))[: entry.per_prompt]:
            better, worse = pairs[place]
            chosen.setdefault((better, worse), ChosenPair(better, worse, entry.builder))
    return list(chosen.values())


def _judged(record: SampleRecord) -> list[tuple[int, TrajectoryRecord]]:
    """The policy's own responses that could be scored, by their places."""
    return [
        (place, one)
        for place, one in enumerate(record.trajectories)
        if one.score.applicable and not one.fault and one.origin == "online"
    ]


def _right(record: SampleRecord, least: float) -> list[int]:
    """Responses that are right and were not cut at the length limit."""
    return [place for place, one in _judged(record) if one.score.accuracy >= least and one.finish != "length"]


def _at_most(record: SampleRecord, most: float) -> list[int]:
    return [place for place, one in _judged(record) if one.score.accuracy <= most]


def _over(better: Sequence[int], worse: Sequence[int]) -> list[Pair]:
    return [(one, other) for one, other in product(better, worse) if one != other]
