"""Filters of rows: which questions about a row are asked of a model, and what its answers say of the row.

A filter that needs a model is a class with ``views`` and ``verdict``. A view is a sample of its own that is made of the
row; its responses are sampled, scored, kept and resumed like those of any other (``collect_responses``). A filter that
needs none is a function of the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from easyvideor1.benchmarks.probes import one_frame, with_video, without_video
from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.curation.responses import CollectedResponses
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.records.trajectories import TrajectoryRecord
from easyvideor1.registry import Registry
from easyvideor1.rewards.tag_contents import tag_texts
from easyvideor1.rewards.tags import tags_before
from easyvideor1.types import ConfigError, MediaPlan, OfflineTrajectory, Sample


@dataclass(frozen=True, slots=True)
class View:
    """One question about a row: ``name`` is unique for the row, ``plan`` changes which frames of a video are shown."""

    name: str
    sample: Sample
    plan: Callable[[MediaPlan], MediaPlan] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a row.

    ``keep`` is ``None`` if it could not be judged, and ``reason`` says why it is not kept, in the same words for all
    rows of one kind: they are counted by it. ``columns`` are added to a row that is kept; ``traces`` replace its traces
    if given.
    """

    keep: bool | None
    reason: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    traces: tuple[OfflineTrajectory, ...] | None = None


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """What the command line says; every filter reads what concerns it.

    Attributes:
        above, below: bounds of the pass rate.
        answered: a view counts as answered if more than this share of its readable responses pass.
        tries: traces of a row that are looked at, in order.
        tags: tags of a trace that hold its notes; those of ``rewards.grammar`` but ``think`` if empty.
    """

    above: float = 0.0
    below: float = 1.0
    answered: float = 0.5
    tries: int = 3
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passing:
    """How many of the responses to a view pass.

    Attributes:
        passed: responses that pass.
        judged: responses that could be scored.
        unreadable: of these, the ones with no answer that could be read. They do not pass, and say neither yes nor no.
        needed: fewer judged responses than this give no rate: they are those that happened to arrive.
    """

    passed: int = 0
    judged: int = 0
    unreadable: int = 0
    needed: int = 1

    @property
    def rate(self) -> float | None:
        """Share of the judged responses that pass, in which an unreadable one is a failure, as in training."""
        return self.passed / self.judged if self.judged >= max(self.needed, 1) else None

    @property
    def readable(self) -> int:
        """Responses with an answer that could be read."""
        return self.judged - self.unreadable

    @property
    def readable_rate(self) -> float | None:
        """Share of the readable responses that pass: what the model says where it says something. ``None`` also if
        fewer than half of the judged responses are readable."""
        return None if self.rate is None or 2 * self.readable < self.judged else self.passed / self.readable


class RowFilter(Protocol):
    """A filter that asks a model. One of your own is a class ``(options, configuration) -> RowFilter``."""

    @property
    def config(self) -> RunConfig:
        """The configuration whose prompts and rewards its views are asked with."""

    def views(self, sample: Sample) -> Sequence[View]:
        """The questions about a row; none for a row that is judged without any."""

    def verdict(self, sample: Sample, found: Mapping[str, Passing]) -> Verdict:
        """The verdict by what passed of every view."""


#: ``(options, configuration) -> filter``.
FilterFactory = Callable[[FilterOptions, RunConfig], RowFilter]

#: A filter of one's own that asks nothing: ``(sample) -> keep``, with ``None`` for "cannot be judged".
RowFunction = Callable[[Sample], "Verdict | bool | None"]

FILTERS: Registry[FilterFactory] = Registry("filter")


@FILTERS.register("pass_rate")
@dataclass(frozen=True, slots=True)
class PassRate:
    """Keeps rows whose share of passing responses lies strictly between two bounds, as DAPO and LongVILA-R1 do."""

    options: FilterOptions
    config: RunConfig

    def views(self, sample: Sample) -> Sequence[View]:
        return [View("", sample)]

    def verdict(self, sample: Sample, found: Mapping[str, Passing]) -> Verdict:
        rate, low, high = found[""].rate, self.options.above, self.options.below
        if rate is None:
            return Verdict(None)
        if low < rate < high:
            return Verdict(True, columns={"pass_rate": rate, "pass_responses": found[""].judged})
        return Verdict(
            False, f"with a pass rate of at most {low:g}" if rate <= low else f"with a pass rate of at least {high:g}"
        )


@FILTERS.register("temporal_necessity")
@dataclass(frozen=True, slots=True)
class TemporalNecessity:
    """Drops rows that are answered without the video, or from the frame in its middle alone.

    What is left needs what happens over time, as far as this model can tell. Rows without a video are kept. Where most
    responses have no answer that can be read ("I see no video"), the model does not answer without it.
    """

    options: FilterOptions
    config: RunConfig

    def views(self, sample: Sample) -> Sequence[View]:
        blind = without_video(sample)
        if blind is None:
            return []
        return [View("no_video", blind), View("one_frame", with_video(sample) or sample, one_frame)]

    def verdict(self, sample: Sample, found: Mapping[str, Passing]) -> Verdict:
        rates = {name: _answered(one) for name, one in found.items()}
        for name, words in (("no_video", "answered without the video"), ("one_frame", "answered from one frame")):
            rate = rates.get(name)
            if rate is not None and rate > self.options.answered:
                return Verdict(False, words)
        if None in rates.values():
            return Verdict(None)
        counts = {f"{name}_responses": one.judged for name, one in found.items()}
        return Verdict(True, columns={**{f"{name}_rate": rate for name, rate in rates.items()}, **counts})


def _answered(passing: Passing) -> float | None:
    """Share of the readable responses that pass; of all, if most are unreadable: one lucky guess is no answer."""
    return passing.rate if passing.readable_rate is None else passing.readable_rate


@FILTERS.register("derivable")
@dataclass(frozen=True, slots=True)
class Derivable:
    """Keeps the first trace of a row from whose notes alone the question is answered.

    The hindsight filter of Video-Thinker.
    The model sees the question and the notes, not the video: what the trace says stands in its tags (``time`` and
    ``caption``, say), what it concludes does not. A row may bring several traces, which are tried in order; a row
    without a derivable one is dropped. Video-Thinker writes a new trace after each failure, at most three.
    """

    options: FilterOptions
    run: RunConfig

    def __post_init__(self) -> None:
        if not self.tags():
            raise ConfigError(
                "the filter derivable reads the notes of a trace from tags, and rewards.grammar has none but think: "
                "set it to a list such as [[time, caption], think], or name the tags with --tags"
            )

    @property
    def config(self) -> RunConfig:
        """The run's, with a prompt that asks for the answer alone: the notes are there already."""
        plain = self.run.rewards.model_copy(update={"grammar": "answer", "tags": {}})
        return self.run.model_copy(update={"rewards": plain})

    def tags(self) -> list[str]:
        """The tags whose content is shown."""
        paths = [path for run in tags_before(self.run.rewards.grammar) for path in run.paths]
        inner = [path.rpartition("/")[2].lower() for path in paths]
        return list(dict.fromkeys(self.options.tags or [name for name in inner if name != "think"]))

    def views(self, sample: Sample) -> Sequence[View]:
        found = []
        for number, trace in enumerate(sample.offline[: self.options.tries]):
            if notes := self._notes(trace.text):
                question = PLACEHOLDER.sub("", sample.question).strip()
                text = f"{question}\nNotes on the video:\n{notes}"
                found.append(View(f"trace{number}", replace(sample, question=text, media=(), offline=())))
        return found

    def _notes(self, trace: str) -> str:
        return "\n".join(f"{found.name}: {found.text.strip()}" for found in tag_texts(trace, self.tags()))

    def verdict(self, sample: Sample, found: Mapping[str, Passing]) -> Verdict:
        if not sample.offline:
            return Verdict(False, "without a trace")
        if not found:
            return Verdict(False, "whose traces have no notes")
        for name, passing in found.items():
            rate = passing.readable_rate
            if rate is None:  # a later trace must not be taken because an earlier one could not be judged
                return Verdict(None)
            if rate > self.options.answered:
                number = int(name.removeprefix("trace"))
                columns = {"derivable_rate": rate, "derivable_responses": passing.readable}
                return Verdict(True, columns=columns, traces=(sample.offline[number],))
        return Verdict(False, "that no trace gives the answer to")


class Questions:
    """The views of all rows as samples to be asked, and what their responses say of the rows."""

    def __init__(
        self, row_filter: RowFilter, passing: float, identity: Mapping[str, Any], *, complete: float = 1.0
    ) -> None:
        """``passing`` is the lowest accuracy of a response that passes; ``identity`` says which filter this is.
        ``complete`` is the share of the responses to a view that must have come and been scored: with fewer, the view
        has no rate."""
        self.filter, self.passing, self.identity, self.complete = row_filter, passing, identity, complete
        self._plans: dict[str, Callable[[MediaPlan], MediaPlan]] = {}

    def components(self, components: Components) -> Components:
        """What renders and scores the views."""
        return components.variant(self.filter.config, self._shown)

    def of(self, samples: Sequence[Sample]) -> list[Sample]:
        """The views of these rows, each with an identifier of its own."""
        asked = []
        for sample in samples:
            for view in self.filter.views(sample):
                name = _view_id(sample, view.name)
                asked.append(replace(view.sample, id=name))
                if view.plan is not None:
                    self._plans[name] = view.plan
        return asked

    def verdicts(self, samples: Sequence[Sample], found: CollectedResponses) -> list[Verdict]:
        """The verdict of every row."""
        answered = {view.id: responses for view, responses in found.answered}
        verdicts = []
        for sample in samples:
            passing = {
                view.name: self._passing(answered.get(_view_id(sample, view.name), ()))
                for view in self.filter.views(sample)
            }
            verdicts.append(self.filter.verdict(sample, passing))
        return verdicts

    def unasked(self, samples: Sequence[Sample], found: CollectedResponses) -> set[str]:
        """Identifiers of the rows with a view whose media cannot be read, or that no response came to."""
        missing = {view.id for view, _ in (*found.unreadable, *found.unfinished)}
        return {
            sample.id
            for sample in samples
            if missing and any(_view_id(sample, view.name) in missing for view in self.filter.views(sample))
        }

    def _passing(self, responses: Sequence[TrajectoryRecord]) -> Passing:
        scores = [response.score for response in responses if response.score.applicable]
        passed = [score.accuracy >= self.passing for score in scores]
        # A scored response has a reason if no answer was found in it, or none that could be compared.
        unreadable = sum(bool(score.reason) and not fine for score, fine in zip(scores, passed, strict=True))
        needed = math.ceil(self.complete * len(responses) - 1e-9)  # 0.3 * 10 is a little more than 3
        return Passing(sum(passed), len(scores), unreadable, needed)

    def _shown(self, sample: Sample, plans: tuple[MediaPlan, ...]) -> tuple[Sample, tuple[MediaPlan, ...]]:
        change = self._plans.get(sample.id)
        if change is None:
            return sample, plans
        return sample, tuple(change(plan) if plan.kind == "video" else plan for plan in plans)


def _view_id(sample: Sample, name: str) -> str:
    return f"{sample.id}#{name}" if name else sample.id


def kept_sample(sample: Sample, verdict: Verdict) -> Sample:
    """A row that is kept, with the columns and traces of its verdict."""
    traces = sample.offline if verdict.traces is None else verdict.traces
    return replace(sample, extra={**sample.extra, **verdict.columns}, offline=traces)
