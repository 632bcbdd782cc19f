"""Columns of a row that change the budget of its own media."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from easyvideor1.config.media import changed, combine, require_one_rule
from easyvideor1.config.schema import DataConfig, ImageBudget, SourceConfig, VideoBudget
from easyvideor1.data.bad_rows import RowError
from easyvideor1.types import BudgetChange, MediaKind, MediaRef, Sample

#: Column -> (kind of media, field of ``BudgetChange``). If a field has two names, the first one is written.
COLUMNS: Mapping[str, tuple[MediaKind, str]] = {
    "image_rule": ("image", "rule"),
    "image_min_pixels": ("image", "min_pixels"),
    "image_max_pixels": ("image", "max_pixels"),
    "video_rule": ("video", "rule"),
    "video_min_pixels": ("video", "min_pixels"),
    "video_max_pixels": ("video", "max_pixels"),
    "video_total_pixels": ("video", "total_pixels"),
    "video_min_frames": ("video", "min_frames"),
    "video_max_frames": ("video", "max_frames"),
    "fps": ("video", "fps"),
    "video_fps": ("video", "fps"),
    "nframes": ("video", "frames"),
    "video_frames": ("video", "frames"),
}


#: Keys of an entry that is a mapping, named as in qwen-vl-utils -> field of ``BudgetChange``.
ENTRY_LIMITS: Mapping[str, str] = {
    "fps": "fps",
    "nframes": "frames",
    "min_frames": "min_frames",
    "max_frames": "max_frames",
    "min_pixels": "min_pixels",
    "max_pixels": "max_pixels",
    "total_pixels": "total_pixels",
}

#: Upper bound of budgets; larger sizes and rates overflow.
_LARGEST = 10**12
#: Number of digits of an invalid number in a message.
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of a source, and whether its rows may change them."""

    image: ImageBudget
    video: VideoBudget
    image_change: BudgetChange | None
    video_change: BudgetChange | None
    by_row: bool

    @classmethod
    def of(cls, source: SourceConfig, config: DataConfig) -> Budgets:
        """The budgets of a source in a configuration."""
        return cls(config.image, config.video, source.image.change(), source.video.change(), config.row_budgets)

    def columns(self, row: Mapping[str, Any]) -> set[str]:
        """The columns of a row that are budgets."""
        return COLUMNS.keys() & row.keys() if self.by_row else set()

    def of_row(self, row: Mapping[str, Any]) -> dict[MediaKind, BudgetChange | None]:
        """The budget changes of a row's images and videos: those of the source, overridden by the row.

        Raises:
            RowError: a value is not a number of pixels, frames or frames per second, or contradicts the budget.
        """
        found: dict[MediaKind, BudgetChange | None] = {"image": self.image_change, "video": self.video_change}
        named = [name for name in COLUMNS if name in row and row[name] is not None] if self.by_row else []
        values: dict[MediaKind, dict[str, Any]] = {}
        for name in named:
            kind, field = COLUMNS[name]
            value = _rule(name, row[name]) if field == "rule" else _number(name, row[name], whole=field != "fps")
            if values.setdefault(kind, {}).setdefault(field, value) != value:
                raise RowError(name, f"is {row[name]}, another column says {values[kind][field]}", "keep one of them")
        for kind, own in values.items():
            try:
                change = BudgetChange(**own)
                require_one_rule(change)
                found[kind] = combine(found[kind], change)
                _ = changed(self.image if kind == "image" else self.video, found[kind])
            except ValueError as error:
                what, _, remedy = str(error).partition("; ")
                column = _blamed(what, [name for name in named if COLUMNS[name][0] == kind])
                raise RowError(column, f"makes an invalid budget: {what}", remedy or "correct it") from None
        return found

    def of_entry(self, ref: MediaRef, column: str, options: Mapping[str, Any]) -> MediaRef:
        """A medium with the limits and the clip of its entry, which override those of its row.

        Raises:
            RowError: a key is unknown, a value is invalid, or they contradict the budget.
        """
        if not options:
            return ref
        rest = dict(options)
        bounds = (
            [rest.pop(name, None) for name in ("video_start", "video_end")] if ref.kind == "video" else [None, None]
        )
        for name, bound in zip(("video_start", "video_end"), bounds, strict=True):
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or not bound >= 0):
                raise RowError(column, f"{name} is {bound!r}, not a time in seconds", "write seconds from the start")
        start, end = bounds
        if end is not None and end <= (start or 0.0):
            raise RowError(column, f"video_end is {end}, not after video_start", "write an end after the start")
        if start is not None or end is not None:
            ref = replace(ref, start=None if start is None else float(start), end=None if end is None else float(end))
        own = _entry_limits(ref, column, rest)
        if own is None:
            return ref
        try:
            require_one_rule(own)
            change = combine(ref.budget, own)
            _ = changed(self.image if ref.kind == "image" else self.video, change)
        except ValueError as error:
            what, _, remedy = str(error).partition("; ")
            raise RowError(column, f"an entry makes an invalid budget: {what}", remedy or "correct it") from None
        return replace(ref, budget=change)


def _entry_limits(ref: MediaRef, column: str, options: Mapping[str, Any]) -> BudgetChange | None:
    values: dict[str, Any] = {}
    for name, value in options.items():
        field = ENTRY_LIMITS.get(name)
        if field is None or (ref.kind == "image" and field not in ("min_pixels", "max_pixels")):
            known = [key for key in ENTRY_LIMITS if ref.kind == "video" or key.endswith("_pixels")]
            known = [*known, "video_start", "video_end"] if ref.kind == "video" else known
            raise RowError(column, f"an entry has the unknown key {name!r}", f"known are {', '.join(known)}")
        try:
            values[field] = _number(column, value, whole=field != "fps")
        except RowError as error:
            raise RowError(column, f"{name} of an entry {error.what}", "correct it or leave it out") from None
    return BudgetChange(**values) if values else None


def _blamed(what: str, columns: list[str]) -> str:
    """The first column whose field the message names; else the first column."""
    words = re.findall(r"\w+", what)
    return min(columns, key=lambda name: words.index(COLUMNS[name][1]) if COLUMNS[name][1] in words else len(words))


def _rule(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise RowError(name, f"is {value!r}, not text", "name a rule such as 'qwen', or leave it null")
    return value


def _number(name: str, value: object, *, whole: bool) -> float:
    """A positive number; a whole number may be ``8.0``, as in tables with gaps."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 < number < _LARGEST or (whole and number != int(number)):
        need = "a whole number above 0" if whole else "a number above 0"
        need += "" if not isinstance(value, int | float) or not value >= _LARGEST else f" and below {_LARGEST:g}"
        remedy = "correct it, leave it null, or set data.row_budgets to false if this column is not a budget"
        raise RowError(name, f"is {str(value)[:_SHOWN] if isinstance(value, int) else repr(value)}, not {need}", remedy)
    return int(number) if whole else float(number)


def budget_columns(sample: Sample) -> dict[str, Any]:
    """The columns for the budget changes of a sample, to write it as a row.

    Raises:
        ValueError: media of one kind differ.
    """
    row: dict[str, Any] = {}
    for kind in ("image", "video"):
        changes = {ref.budget for ref in sample.media if ref.kind == kind}
        if len(changes) > 1:
            raise ValueError(f"its {kind}s have different budgets")
        for change in changes - {None}:
            assert change is not None
            names = {field: name for name, (of, field) in reversed(list(COLUMNS.items())) if of == kind}
            row |= {name: value for field, name in names.items() if (value := getattr(change, field)) is not None}
    return row
