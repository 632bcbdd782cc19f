"""What the rows of a data set say together: how long they are, what occurs twice, and which answers are frequent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from easyvideor1.evaluation.charts import nice_ticks
from easyvideor1.rewards.audit import TaskAudit
from easyvideor1.rewards.references import one_answer
from easyvideor1.types import MediaPlan, MediaRef
from easyvideor1.viewer.data_check import DataCheck, Row

_BINS = 40
_MODALITIES = ("text", "image", "video")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Rows that ask the same about the same media; ``answers`` are their different references."""

    rows: tuple[Row, ...]
    answers: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that they are in: a question of two splits is trained on and tested with."""
        return tuple(dict.fromkeys(row.split for row in self.rows))


@dataclass(frozen=True, slots=True)
class SameMedia:
    """Files with other names and the same content, and the splits whose rows use them."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One task type of a split-up data set.

    ``commonest`` is the most frequent reference and ``share`` the part of the rows that have it; ``audit`` says what
    the best constant answer earns by the real rules, once that is known.
    """

    task: str
    rows: int
    commonest: str
    share: float
    audit: TaskAudit | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of rows: their number, smallest, median, 95th percentile, largest, and how many are over the
    limit; ``chart`` is their histogram."""

    count: int
    low: int
    median: int
    high: int
    largest: int
    over: int
    chart: Markup


def duplicates(check: DataCheck) -> tuple[Duplicate, ...]:
    """Rows with the same question, options and media content, the largest groups first."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in check.rows:
        media = tuple(_content(ref, check.plans.get(ref)) for ref in row.sample.media)
        question = " ".join(row.sample.question.split())
        found.setdefault((question, row.sample.options, media), []).append(row)
    groups = [
        Duplicate(tuple(rows), tuple(dict.fromkeys(row.sample.answer for row in rows)))
        for rows in found.values()
        if len(rows) > 1
    ]
    return tuple(sorted(groups, key=lambda one: (-len(one.splits), -len(one.answers), -len(one.rows))))


def _content(ref: MediaRef, plan: MediaPlan | str | None) -> tuple[object, ...]:
    """What a row shows of a medium: its content, or its path as long as that is not known, and the clip."""
    known = plan.fingerprint if isinstance(plan, MediaPlan) else ref.path
    return known, ref.start, ref.end, ref.still


def same_media(check: DataCheck) -> tuple[SameMedia, ...]:
    """Media that have the same content under several names."""
    used: dict[str, dict[str, dict[str, None]]] = {}
    for row in check.rows:
        for ref in row.sample.media:
            plan = check.plans.get(ref)
            if isinstance(plan, MediaPlan):
                used.setdefault(plan.fingerprint, {}).setdefault(ref.path, {})[row.split] = None
    groups = [
        SameMedia(tuple(paths), tuple(dict.fromkeys(split for splits in paths.values() for split in splits)))
        for paths in used.values()
        if len(paths) > 1
    ]
    return tuple(sorted(groups, key=lambda one: (-len(one.splits), -len(one.paths))))


def task_facts(check: DataCheck) -> tuple[TaskFacts, ...]:
    """The task types, those with most rows first."""
    answers: dict[str, Counter[str]] = {}
    for row in check.rows:
        answers.setdefault(row.sample.task, Counter())[one_answer(row.sample.task, row.sample.answer)] += 1
    audits = {one.task: one for one in check.audits}
    found = []
    for task, counts in sorted(answers.items(), key=lambda item: -item[1].total()):
        commonest, count = counts.most_common(1)[0]
        found.append(TaskFacts(task, counts.total(), commonest, count / counts.total(), audits.get(task)))
    return tuple(found)


def lengths(rows: Iterable[Row], limit: int) -> Lengths | None:
    """Token counts of the rows whose length is known; ``None`` if none is."""
    known = [(row.length, row.sample.modality) for row in rows if row.length is not None]
    values = sorted(length for length, _ in known if length is not None)
    if not values:
        return None
    over = sum(value > limit for value in values)
    return Lengths(
        len(values),
        values[0],
        values[len(values) // 2],
        values[min(len(values) - 1, math.ceil(0.95 * len(values)) - 1)],
        values[-1],
        over,
        histogram([(length or 0, modality) for length, modality in known], limit),
    )


def histogram(values: Sequence[tuple[int, str]], limit: int, *, width: int = 1080, height: int = 200) -> Markup:
    """Rows by tokens, stacked by modality, with a line at the limit if that is near."""
    top = max(length for length, _ in values)
    end = float(max(1, limit if top <= limit <= 1.6 * top else top))
    size = end / _BINS
    bins = [Counter[str]() for _ in range(_BINS)]
    for length, modality in values:
        bins[min(_BINS - 1, int(length / size))][modality] += 1
    most = max(each.total() for each in bins)
    left, right, above, below = 48, 12, 12, 26
    room, across = height - above - below, (width - left - right) / end
    parts = []
    for tick in nice_ticks(0, most, 3):
        y = height - below - room * tick / most
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.6g}</text>'
        )
    for place, counts in enumerate(bins):
        if not counts:
            continue
        told = ", ".join(f"{counts[name]} {name}" for name in _MODALITIES if counts[name])
        words = f"{place * size:.0f} to {(place + 1) * size:.0f} tokens: {told}"
        parts.append(f"<g><title>{escape(words)}</title>")
        y = float(height - below)
        for number, name in enumerate(_MODALITIES):
            tall = room * counts[name] / most
            y -= tall
            if tall:
                x, wide = left + place * size * across, max(1.0, size * across - 1)
                parts.append(
                    f'<rect class="s{number}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'
                )
        parts.append("</g>")
    for tick in nice_ticks(0, end, 8):
        x = left + tick * across
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{tick:.6g}</text>')
    if limit <= end:
        x = left + limit * across
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{above}" y2="{height - below}"/>')
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {width} {height}" role="img" aria-label="rows by tokens">'
        f"{''.join(parts)}</svg>"
    )


def plan_strip(plan: MediaPlan, *, width: int = 1080, height: int = 34) -> Markup:
    """When the frames of a planned video are taken, on an axis of its seconds."""
    if not plan.timestamps:
        return Markup("")
    end = max(plan.timestamps[-1], 1e-9)
    start = min(0.0, plan.timestamps[0])
    across = (width - 24) / (end - start)
    places = [(12 + (at - start) * across, at) for at in plan.timestamps]
    ticks = "".join(
        f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="14"><title>{at:.2f} s</title></line>'
        for x, at in places
    )
    labels = "".join(
        f'<text class="tick" x="{12 + (at - start) * across:.1f}" y="30" text-anchor="middle">{at:.4g} s</text>'
        for at in nice_ticks(start, end, 8)
    )
    return Markup(
        f'<svg class="planstrip" viewBox="0 0 {width} {height}" role="img" aria-label="times of '
        f'{len(places)} frames"><line class="grid" x1="12" x2="{width - 12}" y1="8" y2="8"/>{ticks}{labels}</svg>'
    )
