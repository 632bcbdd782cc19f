"""Two results side by side: the questions that moved between them, and single questions with both responses.

A result is the directory of ``evr1 eval run``, or an evaluation of a training run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.evaluation.benchmark_report.questions import Asked, Card, Pictures, browse
from easyvideor1.evaluation.certificate import RECORDS, Certificate, Result
from easyvideor1.evaluation.comparison import Difference, Pairs, differences_of, flips, make_pairs
from easyvideor1.evaluation.explanation import Change, Moved, certificate_changes, counted, explain
from easyvideor1.evaluation.gallery import FrameLookup
from easyvideor1.evaluation.history import RunHistory
from easyvideor1.evaluation.numbers import benchmark_note, benchmark_of
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.types import DataError

_COLOURS = ("s0", "s1")


@dataclass(frozen=True, slots=True)
class Side:
    """One of two results: its name for people, and the certificate that its benchmark and settings follow from."""

    label: str
    certificate: Certificate
    evaluation: Evaluation

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark, for its metrics and facets; that of the score, where this is a probe."""
        return benchmark_of(self.certificate.score)


@dataclass(frozen=True, slots=True)
class Flipped:
    """A question that moved: its place among all questions of the first side, and why it moved."""

    place: int
    moved: Moved

    @property
    def change(self) -> float:
        return self.moved.flip.change


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Everything that differs between two results.

    ``moved`` are the questions with another value of the first metric, losses first, ``differences`` the paired
    differences of all numbers, ``changes`` what their certificates say differs, ``causes`` what the moves are because
    of with (gained, lost). ``notes`` say what makes the comparison weaker.
    """

    before: Side
    after: Side
    pairs: Pairs
    differences: tuple[Difference, ...]
    changes: tuple[Change, ...]
    moved: tuple[Flipped, ...]
    causes: tuple[tuple[str, int, int], ...]
    notes: tuple[str, ...]


def side_of_result(directory: Path, label: str = "") -> Side:
    """A result of ``evr1 eval run``.

    Raises:
        DataError: it is not finished, or damaged.
    """
    if not (directory / f"{RECORDS}.json").exists():
        raise DataError(f"{directory}: its evaluation is not finished; run it again, which asks only what is missing")
    result = Result.load(directory)
    name = label or result.certificate.model
    probe = result.certificate.probe
    return Side(f"{name} ({probe})" if probe else name, result.certificate, result.evaluation)


def side_of_run(history: RunHistory, name: str, run: str = "", benchmark: str = "") -> Side:
    """An evaluation of a training run, by its name (``before``, ``02-grpo``); ``benchmark`` is the label of one.

    Its certificate has the settings of the run's rewards, which say how responses were read.

    Raises:
        DataError: it is missing or damaged.
    """
    directory = history.directory / "evaluations" / benchmark
    values: Any = yaml.safe_load(history.config) if history.config else {}
    settings = values if isinstance(values, dict) else {}
    asking = {key: settings[key] for key in ("model", "prompts", "rollout", "data", "evaluation") if key in settings}
    # The weights are those of the run at this point: they are what differs between its evaluations.
    asking["model"] = {**(asking.get("model") or {}), "weights of": f"{history.directory.name}, {name}"}
    scoring = {"rewards": settings.get("rewards") or {}, "benchmark": benchmark}
    shown = f"{run}, {name}" if run else name
    certificate = Certificate(benchmark or "held-out questions", "", shown, asking, scoring)
    return Side(shown, certificate, Evaluation.load(directory, name))


def side_by_side(before: Side, after: Side) -> SideBySide:
    """Compare two results question by question; questions of a probe are paired although their texts differ.

    Raises:
        DataError: they have no question in common.
    """
    changed = before.certificate.probe != after.certificate.probe
    answers = [greedy_answers(side.evaluation.records) for side in (before, after)]
    pairs = make_pairs(*answers, changed=changed)
    if not len(pairs):
        raise DataError(
            f"{before.label} and {after.label} have no question in common; choose two results of one benchmark"
        )
    benchmark = before.benchmark
    confidence, seed = after.evaluation.confidence, after.evaluation.seed
    changes = certificate_changes(before.certificate, after.certificate)
    moved = explain(flips(benchmark.metrics[0], pairs), changes)
    places = {id(record): place for place, record in enumerate(before.evaluation.records)}
    return SideBySide(
        before,
        after,
        pairs,
        tuple(differences_of(benchmark, pairs, confidence=confidence, seed=seed)),
        tuple(changes),
        tuple(Flipped(places[id(each.flip.before.record)], each) for each in moved),
        tuple(counted(moved)),
        tuple(_notes(before, after, pairs, benchmark)),
    )


def _notes(before: Side, after: Side, pairs: Pairs, benchmark: Benchmark) -> list[str]:
    notes = [note for side in (before, after) if (note := _note(side, benchmark))]
    counts = {
        f"only in {before.label}": len(pairs.only_before),
        f"only in {after.label}": len(pairs.only_after),
        "in both with another text, options or reference": len(pairs.changed),
    }
    notes += [f"{count:,} questions are {words}" for words, count in counts.items() if count]
    return list(dict.fromkeys(notes))


def _note(side: Side, benchmark: Benchmark) -> str:
    if not side.certificate.version and ":" not in side.certificate.benchmark:
        return ""  # a run's own questions or rows of a user, whose number is accuracy
    return benchmark_note(benchmark, side.certificate.score)


def question_card(before: Side, after: Side, place: int, frames: FrameLookup) -> Card:
    """A question with the frames that the models saw and both responses.

    Args:
        before: one result.
        after: the other.
        place: of the question among the records of ``before``.
        frames: finds frames by digest.

    Raises:
        DataError: there is no such question, or the other result does not have it.
    """
    records = before.evaluation.records
    if not 0 <= place < len(records):
        raise DataError(f"{before.label} has {len(records)} questions; there is no number {place}")
    own = records[place]
    nth = sum(record.sample == own.sample for record in records[:place])
    same = [record for record in after.evaluation.records if record.sample == own.sample]
    if nth >= len(same):
        raise DataError(f"{after.label} was not asked {own.sample!r}")
    found = (own, same[nth])
    if own.question != found[1].question:  # as of a probe; what is shown is the question as it is
        found = (own, replace(found[1], question=own.question))
    sides = zip((before, after), _COLOURS, found, strict=True)
    asked = [Asked(side.label, colour, side.certificate, [record]) for side, colour, record in sides]
    facet = next(iter(before.benchmark.breakdown), "")
    return browse(asked, facet, Pictures(frames), 1)[0].cards[0]
