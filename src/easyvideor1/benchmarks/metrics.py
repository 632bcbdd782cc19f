"""The numbers that a benchmark is quoted by, as functions of records.

Every metric is a weighted mean over items (questions, or groups of questions), a mean of such means, or a formula of
them, such as an F1. Weights are how often an item's cluster was drawn, so that an interval resamples the very number
that is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord

#: Parts of a score that a judge gave, of the rewards or with a rubric.
_JUDGED = ("judge", "judge_right")
_OF_RECORD = ("task", "modality", "source")


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and one response to it; ``response`` is ``None`` if there is none."""

    record: SampleRecord
    response: TrajectoryRecord | None

    @property
    def failed(self) -> bool:
        """Whether there is no response, or one that could not be scored."""
        return self.response is None or not self.response.score.applicable

    @property
    def accuracy(self) -> float:
        """That of the score; a failed question has 0, so that it stays in the denominator."""
        return 0.0 if self.response is None or self.failed else self.response.score.accuracy

    def facet(self, name: str) -> str:
        """The value of a facet; ``task``, ``modality`` and ``source`` are those of the record where no facet is called
        so. Empty if the question has none of this name."""
        found = self.record.facets.get(name)
        return getattr(self.record, name) if found is None and name in _OF_RECORD else found or ""


def greedy_answers(records: Sequence[SampleRecord]) -> list[Answered]:
    """The questions with their greedy responses."""
    return [Answered(record, record.greedy) for record in records]


def accuracy(answered: Answered) -> float:
    """The accuracy of the score."""
    return answered.accuracy


def compared_by_words(answered: Answered) -> bool:
    """Whether free text was scored by the words that it shares with the reference (ROUGE), as no judge was asked."""
    if answered.response is None or answered.failed:
        return False
    parts = answered.response.score.parts
    return "rougeL" in parts and parts.keys().isdisjoint(_JUDGED) and answered.accuracy < 1.0


def right(answered: Answered) -> float:
    """Whether the answer is right as a whole: it is the reference, or the judge says so.

    For open questions: how similar two texts are is no accuracy. A judge with grades has to give the best one.
    """
    return float(answered.accuracy >= 1.0)


def at_least(threshold: float) -> Callable[[Answered], float]:
    """Whether the accuracy, such as an IoU, is ``threshold`` or more: R@1 at an IoU."""

    def passed(answered: Answered) -> float:
        return float(answered.accuracy >= threshold)

    return passed


def part(*names: str) -> Callable[[Answered], float]:
    """The sum of these parts of the score, each on its own scale.

    A failed question has 0; so has a part that the score does not have, as when no answer could be read.
    """

    def value(answered: Answered) -> float:
        parts = {} if answered.response is None or answered.failed else answered.response.score.parts
        return math.fsum(parts.get(name, 0.0) for name in names)

    return value


def part_at_least(name: str, threshold: float) -> Callable[[Answered], float]:
    """Whether a part of the score is ``threshold`` or more."""
    of = part(name)

    def passed(answered: Answered) -> float:
        return float(of(answered) >= threshold)

    return passed


def part_above(name: str, threshold: float) -> Callable[[Answered], float]:
    """Whether a part of the score is more than ``threshold``."""
    of = part(name)

    def passed(answered: Answered) -> float:
        return float(of(answered) > threshold)

    return passed


def has_part(name: str) -> Callable[[Answered], float]:
    """1 if the score has this part, or if there is none: a failed question stays in the mean; else 0."""

    def counts(answered: Answered) -> float:
        return float(answered.response is None or answered.failed or name in answered.response.score.parts)

    return counts


def f1(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean of a precision and a recall, ``(R, 2)`` -> ``(R,)``; 0 where both are 0."""
    total = means.sum(axis=1)
    result: NDArray[np.float64] = 2 * means.prod(axis=1) / np.where(total == 0, 1.0, total)
    return result


def all_right(group: Sequence[Answered]) -> float:
    """Whether every question of a group is right."""
    return float(all(answered.accuracy >= 1.0 for answered in group))


#: From the means of several metrics, ``(R, N)``, to a number, ``(R,)``; NaN where it is not defined.
Formula = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a benchmark.

    ``value`` gives the value of a question. With ``group``, the questions with equal value of this facet are one item,
    and ``of_group`` gives its value. ``where`` keeps the questions with these values of facets. ``macro`` names facets,
    the coarsest first: the number is the mean over the values of the first, of the means over the values of the
    second, ..., of the means over items; without it, the mean over items. If a question does not say a facet of
    ``macro``, there is no such number. Nor is there a ``judged`` number where free text was compared by its words, as
    no judge was asked, nor where a scored response lacks the part ``needs``. ``weight`` names a facet that holds a
    number, or is a function: an item then counts as often as that of its first question says, and not at all for 0.
    ``scale`` multiplies the number when it is shown; 100 shows percent.

    With ``of``, the number is the ``formula`` of these metrics, ``(R, len(of))`` -> ``(R,)``, NaN where it is not
    defined; ``where`` then restricts all of them, and questions with equal value of the facet ``group`` are resampled
    together. A formula is not compared between two results: its parts are, where they are metrics themselves.
    """

    name: str
    value: Callable[[Answered], float] = accuracy
    where: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    macro: tuple[str, ...] = ()
    group: str = ""
    of_group: Callable[[Sequence[Answered]], float] = all_right
    weight: str | Callable[[Answered], float] = ""
    scale: float = 100.0
    judged: bool = False
    needs: str = ""
    of: tuple[Metric, ...] = ()
    formula: Formula | None = None

    def __call__(self, answered: Sequence[Answered]) -> float | None:
        """The number, not scaled; ``None`` if no question belongs to it, or it is not defined."""
        items = self.items(answered)
        number = float(items.mean()[0]) if items else math.nan
        return None if math.isnan(number) else number

    @property
    def paired(self) -> bool:
        """Whether the number changes by the mean of its questions' changes: no formula, no weights by responses."""
        return not self.of and not callable(self.weight)

    def questions(self, answered: Sequence[Answered]) -> list[Answered]:
        """The questions that belong to it: those with the values of ``where``, and of any of the metrics in ``of``."""
        return list(filter(self._has, answered))

    def _has(self, answered: Answered) -> bool:
        mine = all(answered.facet(name) in _allowed(allowed) for name, allowed in self.where.items())
        return mine and (not self.of or any(each._has(answered) for each in self.of))

    def items(self, answered: Sequence[Answered]) -> Items:
        """What the mean goes over; nothing if there is no such number."""
        return self._items_of_parts(answered) if self.of else self._own_items(answered)

    def _items_of_parts(self, answered: Sequence[Answered]) -> Items:
        parts = [replace(each, where={**each.where, **self.where}) for each in self.of]
        found = [each.items(answered) for each in parts]
        if not all(found):
            return Items(np.zeros(0), (), ())
        depth = max(len(each.strata[0]) for each in found)
        keys, strata, sizes = [], [], []
        for at, (part, items) in enumerate(zip(parts, found, strict=True)):
            for group in part._groups(answered):
                own = {f"{self.group}: {group[0].facet(self.group)}"} if self.group else set()
                keys.append(own | {each.record.cluster for each in group})
            strata += [(str(at), *names, *[""] * (depth - len(names))) for names in items.strata]
            sizes.append(np.ones(len(items)) if items.sizes is None else items.sizes)
        values = np.concatenate([each.values for each in found])
        return Items(values, joined(keys), tuple(strata), np.concatenate(sizes), self.formula)

    def _own_items(self, answered: Sequence[Answered]) -> Items:
        found = self._groups(answered)
        if any(not each.facet(name) for name in self.macro for each in chain(*found)):
            found = []
        if self.judged and any(map(compared_by_words, chain(*found))):
            found = []
        if self.needs and not all(has_part(self.needs)(each) for each in chain(*found)):
            found = []
        values = [self.of_group(group) if self.group else self.value(group[0]) for group in found]
        if any(not math.isfinite(value) for value in values):
            raise ValueError(f"metric {self.name}: a value is not finite")
        return Items(
            np.array(values, dtype=np.float64),
            joined([{each.record.cluster for each in group} for group in found]),
            tuple(tuple(group[0].facet(name) for name in self.macro) for group in found),
            np.array([self._weight(group[0]) for group in found]) if self.weight else None,
        )

    def _groups(self, answered: Sequence[Answered]) -> list[list[Answered]]:
        groups: dict[object, list[Answered]] = {}
        for place, each in enumerate(self.questions(answered)):
            groups.setdefault(each.facet(self.group) or place if self.group else place, []).append(each)
        return list(groups.values())

    def _weight(self, answered: Answered) -> float:
        return self.weight(answered) if callable(self.weight) else float(answered.facet(self.weight))


def _allowed(allowed: str | tuple[str, ...]) -> tuple[str, ...]:
    return (allowed,) if isinstance(allowed, str) else allowed


def by_value(
    facet: str,
    values: Iterable[str],
    value: Callable[[Answered], float] = accuracy,
    *,
    group: str = "",
    judged: bool = False,
) -> tuple[Metric, ...]:
    """One metric for each of these values of a facet, named as the value."""
    return tuple(Metric(each, value, where={facet: each}, group=group, judged=judged) for each in values)


def joined(keys: Sequence[Collection[str]]) -> tuple[str, ...]:
    """A cluster for each item, such that items which share a key, also by way of others, are in the same one.

    A group of questions about several videos makes them one cluster, because they no longer vary independently.

    Args:
        keys: those of each item, at least one.

    Returns:
        One key of the cluster for each item.
    """
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = parents.setdefault(parent, parent)
            key = parent
        return key

    for own in keys:
        first, *others = sorted(own)
        for other in others:
            parents[root(other)] = root(first)
    return tuple(root(min(own)) for own in keys)


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """``values`` is float64 ``(N,)``; ``clusters`` and ``strata`` (the values of ``Metric.macro``) have N entries.

    ``sizes`` is how often each item counts by itself, float64 ``(N,)``; once if it is None. With ``formula``, the
    number is made of the means of the first facet's values instead of being their mean.
    """

    values: NDArray[np.float64]
    clusters: tuple[str, ...]
    strata: tuple[tuple[str, ...], ...]
    sizes: NDArray[np.float64] | None = None
    formula: Formula | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shares(self) -> NDArray[np.float64]:
        """How much each item counts in the metric, ``(N,)`` with sum 1: ``mean()`` is ``shares @ values``."""
        sizes = np.ones(len(self)) if self.sizes is None else self.sizes
        totals: dict[tuple[str, ...], float] = {}
        for stratum, size in zip(self.strata, sizes, strict=True):
            totals[stratum] = totals.get(stratum, 0.0) + float(size)
        known = [name for name, total in totals.items() if total > 0]
        prefixes = {name[:depth] for name in known for depth in range(1, len(name) + 1)}
        below = Counter(prefix[:-1] for prefix in prefixes)
        share = {
            name: 1 / math.prod(below[name[:depth]] for depth in range(len(name))) / totals[name] for name in known
        }
        return np.array([size * share.get(name, 0.0) for name, size in zip(self.strata, sizes, strict=True)])

    def mean(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The metric under each of R weightings of the items.

        Args:
            weights: ``(R, N)``, not negative; all 1 if None, with R = 1. A stratum without weight is left out of the
                means above it.

        Returns:
            float64 ``(R,)``; NaN where all weights are 0.
        """
        if weights is None:
            weights = np.ones((1, len(self)))
        if self.sizes is not None:
            weights = weights * self.sizes
        places: dict[tuple[str, ...], int] = {}
        place = np.array([places.setdefault(stratum, len(places)) for stratum in self.strata])
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(len(places)))
        weights = weights[:, order]
        totals = np.add.reduceat(weights, starts, axis=1)
        sums = np.add.reduceat(weights * self.values[order], starts, axis=1)
        return macro_mean(sums, totals, list(places), self.formula)


def macro_mean(
    sums: NDArray[np.float64],
    totals: NDArray[np.float64],
    strata: Sequence[tuple[str, ...]],
    formula: Formula | None = None,
) -> NDArray[np.float64]:
    """The mean over the first facets of the means over the second, ..., of the means of S strata, R times.

    Args:
        sums: ``(R, S)``, the weighted sum of the values of each stratum.
        totals: ``(R, S)``, the sum of their weights.
        strata: the S values of ``Metric.macro``.
        formula: makes the number of the means for the values of the first facet, in their order, in place of the mean.

    Returns:
        float64 ``(R,)``. Strata without weight are left out; NaN where none has any. A formula sees NaN for a value
        without weight.
    """
    names = list(strata)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / totals
    while names and names[0]:
        if formula is not None and len(names[0]) == 1:
            return formula(means)
        parents = {name: at for at, name in enumerate(dict.fromkeys(name[:-1] for name in names))}
        upper = np.full((len(means), len(parents)), np.nan)
        for parent, at in parents.items():
            below = means[:, [place for place, name in enumerate(names) if name[:-1] == parent]]
            known = ~np.isnan(below)
            with np.errstate(invalid="ignore", divide="ignore"):
                upper[:, at] = np.where(known, below, 0.0).sum(axis=1) / known.sum(axis=1)
        means, names = upper, list(parents)
    result: NDArray[np.float64] = means[:, 0]
    return result
