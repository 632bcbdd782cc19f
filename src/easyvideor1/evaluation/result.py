"""The result of an evaluation: every response, and the aggregates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from easyvideor1.evaluation.metric_intervals import difference_interval, mean_interval
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.files import file_digest, is_sealed, read_json, seal, write_json
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord, evaluation_row
from easyvideor1.records.trajectory_files import read_trajectories, write_trajectories
from easyvideor1.types import DataError

_LIMITS = ("mean", "low", "high")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Aggregates of a set of records.

    ``count`` is the number of samples; ``failed`` of them got no response, and ``not_applicable`` a greedy response
    that could not be scored. Neither counts as right or wrong: ``greedy`` and ``sampled`` are accuracies over scored
    responses, ``None`` when there are none. ``format`` and ``parts`` are means over scored greedy responses,
    ``tokens`` means over prompts by kind (``text``, ``image``, ``video``). ``form`` are shares of the greedy
    responses: ``cut_off`` reached the length limit, ``no_answer`` contain no answer, and, among those with an answer,
    ``without_form`` do not have the format of the prompt (no closed tag, other words). Responses with a custom reward
    count only for ``cut_off``, because it is unknown how they were parsed.
    """

    count: int
    failed: int
    not_applicable: int
    greedy: Interval | None
    sampled: Interval | None
    format: float | None
    parts: Mapping[str, float]
    tokens: Mapping[str, float] = field(default_factory=dict)
    form: Mapping[str, float] = field(default_factory=dict)

    def form_with_format(self) -> dict[str, float]:
        """``form`` with the mean format reward before it."""
        return ({} if self.format is None else {"format": self.format}) | dict(self.form)

    def to_json(self) -> dict[str, Any]:
        """The value of one task in ``evaluations/NAME.json``."""
        return {
            "count": self.count,
            "failed": self.failed,
            "not_applicable": self.not_applicable,
            "greedy": self.greedy.to_json() if self.greedy else None,
            "sampled": self.sampled.to_json() if self.sampled else None,
            "format": self.format,
            "parts": dict(self.parts),
            "tokens": dict(self.tokens),
            "form": dict(self.form),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All records of one evaluation, in the order of the samples, with their aggregates.

    ``seed`` and ``confidence`` are those of the intervals, so that every number follows from the records.
    """

    name: str
    records: tuple[SampleRecord, ...]
    overall: Aggregate
    tasks: Mapping[str, Aggregate]
    seed: int
    confidence: float
    modalities: Mapping[str, Aggregate] = field(default_factory=dict)
    sources: Mapping[str, Aggregate] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.overall.count

    @property
    def failed(self) -> int:
        return self.overall.failed

    @property
    def greedy(self) -> Interval | None:
        return self.overall.greedy

    @property
    def sampled(self) -> Interval | None:
        return self.overall.sampled

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """``(sample id, reason)`` of every sample without a response."""
        return tuple((record.sample, record.error) for record in self.records if record.error is not None)

    def to_json(self) -> dict[str, Any]:
        """The content of ``evaluations/NAME.json``."""
        return {
            "name": self.name,
            **self.overall.to_json(),
            "tasks": {task: aggregate.to_json() for task, aggregate in self.tasks.items()},
            "modalities": {name: aggregate.to_json() for name, aggregate in self.modalities.items()},
            "sources": {name: aggregate.to_json() for name, aggregate in self.sources.items()},
            "failures": [{"sample": sample, "error": error} for sample, error in self.failures],
            "seed": self.seed,
            "confidence": self.confidence,
        }

    def write(self, directory: Path, numbers: Sequence[Mapping[str, Any]] = ()) -> Path:
        """Write ``NAME.jsonl``, then ``NAME.json``, each atomically: if the second exists, the first is complete.

        The second holds the SHA-256 of the first as ``records``, and a ``checksum`` of itself.

        Args:
            directory: where they are written.
            numbers: those of a benchmark (``Number.to_json``), which the second file then has as ``numbers``.

        Returns:
            The path of ``NAME.json``.
        """
        records = directory / f"{self.name}.jsonl"
        write_trajectories(records, self.records, evaluation_row)
        path = directory / f"{self.name}.json"
        more = {"numbers": list(numbers)} if numbers else {}
        write_json(path, seal({**self.to_json(), **more, "records": file_digest(records)}))
        return path

    @classmethod
    def load(cls, directory: Path, name: str) -> Evaluation:
        """Read an evaluation back; the aggregates are computed again from the records.

        Raises:
            DataError: a file is missing or damaged; the message names it.
        """
        records, seed, confidence = _read(directory, name)
        return summarise(name, records, seed=seed, confidence=confidence)


def _read(directory: Path, name: str) -> tuple[list[SampleRecord], int, float]:
    """The records of an evaluation, and the seed and confidence of its intervals.

    Raises:
        DataError: a file is missing or damaged; the message names it.
    """
    head = _read_head(directory, name)
    path = directory / f"{name}.jsonl"
    try:
        records = list(read_trajectories(path))
    except DataError as error:
        raise DataError(f"{error}; evaluate again") from error
    for number, record in enumerate(records, 1):
        if fault := _accuracy_fault(record):
            raise DataError(f"{path}:{number}: {fault}; evaluate again")
    if len(records) != head.get("count"):
        raise DataError(f"{path}: has {len(records)} rows where {name}.json says {head.get('count')}; evaluate again")
    if "records" in head and file_digest(path) != head["records"]:
        raise DataError(f"{path}: is not what was written (its SHA-256 differs); evaluate again")
    try:
        return records, int(head["seed"]), float(head["confidence"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory / name}.json: not an evaluation ({error!r}); evaluate again") from error


def _read_head(directory: Path, name: str) -> dict[str, Any]:
    """``NAME.json`` as it was written; one of an earlier version, which has no checksum, as it is.

    Raises:
        DataError: it is missing or damaged.
    """
    path = directory / f"{name}.json"
    head = read_json(path)
    if "checksum" in head and not is_sealed(head):
        raise DataError(f"{path}: is not what was written (its checksum differs); evaluate again")
    return head


def _accuracy_fault(record: SampleRecord) -> str:
    """That an accuracy is no number from 0 to 1, so that intervals cannot be made of it; else empty."""
    for response in (*([record.greedy] if record.greedy else []), *record.trajectories):
        accuracy = response.score.accuracy
        if response.score.applicable and not (isinstance(accuracy, int | float) and 0 <= accuracy <= 1):
            return f"not a record of an evaluation (an accuracy of {accuracy!r})"
    return ""


def evaluation_fault(directory: Path, name: str) -> str:
    """Why the files of an evaluation are not intact: one is missing or cannot be read; empty if they are.

    Whether ``NAME.json`` is what the rows come to is not computed; see ``Evaluation.load``.
    """
    if not (directory / f"{name}.json").exists():
        rows = (directory / f"{name}.jsonl").exists()
        return f"{name}.json is missing" if rows else f"neither {name}.json nor {name}.jsonl is there"
    try:
        _read(directory, name)
        EvaluationTotals.load(directory, name)
    except DataError as error:
        return str(error).removeprefix(f"{directory}/").partition("; ")[0]
    return ""


@dataclass(frozen=True, slots=True)
class EvaluationTotals:
    """The totals of ``NAME.json``: enough for a curve, without the records."""

    name: str
    count: int
    greedy: Interval | None
    sampled: Interval | None
    records: str = ""
    """SHA-256 of ``NAME.jsonl``; empty of an evaluation of an earlier version."""
    numbers: Mapping[str, Interval] = field(default_factory=dict)
    """The numbers of a benchmark by name, as they are shown (in points where the benchmark counts in points)."""

    @classmethod
    def load(cls, directory: Path, name: str) -> EvaluationTotals:
        """Read the totals that ``Evaluation.write`` left; nothing is computed again.

        Raises:
            DataError: the file is missing or damaged; the message names it.
        """
        path = directory / f"{name}.json"
        head = _read_head(directory, name)
        try:
            greedy, sampled = (
                None if head[kind] is None else Interval(**{key: float(head[kind][key]) for key in _LIMITS})
                for kind in ("greedy", "sampled")
            )
            numbers = {
                str(number["name"]): Interval(**{key: float(number["scaled"][key]) for key in _LIMITS})
                for number in head.get("numbers", ())
            }
            return cls(name, int(head["count"]), greedy, sampled, str(head.get("records", "")), numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not the totals of an evaluation ({error!r}); evaluate again") from error


def rows_fault(directory: Path, totals: EvaluationTotals) -> str:
    """Why the rows of an evaluation are missing or do not belong to its totals; empty if they do."""
    path = directory / f"{totals.name}.jsonl"
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    rows = content.count(b"\n")
    if content and not content.endswith(b"\n"):
        return f"{path.name} is cut off after {rows} of {totals.count} rows"
    if rows != totals.count:
        return f"{path.name} has {rows} rows where {totals.name}.json says {totals.count}"
    if totals.records and hashlib.sha256(content).hexdigest() != totals.records:
        return f"{path.name} is not what was written (its SHA-256 differs)"
    return ""


def summarise(name: str, records: Sequence[SampleRecord], *, seed: int, confidence: float) -> Evaluation:
    """Aggregate records into an evaluation; a pure function."""

    def by(label: Callable[[SampleRecord], str]) -> dict[str, Aggregate]:
        parts: dict[str, list[SampleRecord]] = {}
        for record in records:
            if name := label(record):
                parts.setdefault(name, []).append(record)
        return {name: aggregate(part, seed=seed, confidence=confidence) for name, part in parts.items()}

    return Evaluation(
        name=name,
        records=tuple(records),
        overall=aggregate(records, seed=seed, confidence=confidence),
        tasks=by(lambda record: record.task),
        seed=seed,
        confidence=confidence,
        modalities=by(lambda record: record.modality),
        sources=by(lambda record: record.source),
    )


def aggregate(records: Sequence[SampleRecord], *, seed: int, confidence: float) -> Aggregate:
    """Counts, accuracies with intervals, format and parts of a set of records."""
    greedy = [(record.cluster, record.greedy) for record in records if record.greedy is not None]
    sampled = [(record.cluster, response) for record in records for response in record.trajectories]
    judged = [response.score for _, response in greedy if response.score.applicable]
    asked = [record.tokens for record in records if record.tokens]
    names = sorted({name for score in judged for name in score.parts})
    return Aggregate(
        count=len(records),
        failed=sum(record.error is not None for record in records),
        not_applicable=len(greedy) - len(judged),
        greedy=_accuracy(greedy, confidence, seed),
        sampled=_accuracy(sampled, confidence, seed),
        format=float(np.mean([score.format for score in judged])) if judged else None,
        parts={name: float(np.mean([score.parts[name] for score in judged if name in score.parts])) for name in names},
        tokens={kind: float(np.mean([tokens[kind] for tokens in asked])) for kind in (asked[0] if asked else ())},
        form=_form([response for _, response in greedy]),
    )


def _form(responses: Sequence[TrajectoryRecord]) -> dict[str, float]:
    """See ``Aggregate.form``; shares of nothing are left out."""
    read = [response.score for response in responses if response.score.found]
    answered = [score for score in read if score.parsed]
    shares = {
        "cut_off": [response.finish == "length" for response in responses],
        "no_answer": [not score.parsed for score in read],
        "without_form": [score.format < 1.0 for score in answered],
    }
    return {name: float(np.mean(share)) for name, share in shares.items() if share}


def _accuracy(responses: Iterable[tuple[str, TrajectoryRecord]], confidence: float, seed: int) -> Interval | None:
    judged = [(cluster, response.score.accuracy) for cluster, response in responses if response.score.applicable]
    if not judged:
        return None
    return mean_interval([value for _, value in judged], [cluster for cluster, _ in judged], confidence, seed)


def paired_records(before: Evaluation, after: Evaluation) -> list[tuple[SampleRecord, SampleRecord]]:
    """The records of the samples that both evaluations answered, in the order of ``after``.

    Samples are matched by id; where several share one (sources merged by the user), by order of appearance.
    """
    waiting: dict[tuple[str, str], list[SampleRecord]] = {}
    for record in before.records:
        if record.greedy is not None:
            waiting.setdefault((record.sample, record.question), []).append(record)
    pairs = []
    for record in after.records:
        queue = waiting.get((record.sample, record.question))
        if record.greedy is not None and queue:
            pairs.append((queue.pop(0), record))
    return pairs


def greedy_difference(before: Evaluation, after: Evaluation) -> Interval | None:
    """Paired change of greedy accuracy over the samples scored in both; ``None`` when there are none."""
    old, new, clusters = [], [], []
    for first, second in paired_records(before, after):
        if first.greedy is None or second.greedy is None:
            continue
        if first.greedy.score.applicable and second.greedy.score.applicable:
            old.append(first.greedy.score.accuracy)
            new.append(second.greedy.score.accuracy)
            clusters.append(second.cluster)
    if not old:
        return None
    return difference_interval(old, new, clusters, after.confidence, after.seed)
