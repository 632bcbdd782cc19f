"""What ``evr1 init`` finds out about a file of rows: format, columns, task type, place of the media."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyvideor1.data import Loaded
    from easyvideor1.types import Sample

#: Rows that are looked at for format and columns.
_LOOKED_AT = 64
#: Rows whose media and prompts are looked at.
_PLANNED = 48
#: Keys of ``data`` that name columns, and names by which other people call such columns.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "question_key": ("problem", "question", "query", "instruction", "prompt"),
    "answer_key": ("answer", "solution", "ground_truth", "gt", "label", "response"),
    "video_key": ("videos", "video", "video_path", "video_file", "video_name"),
    "image_key": ("images", "image", "image_path", "image_file"),
}
_TRUTH = frozenset({"yes", "no", "true", "false"})


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows and how they are to be read.

    ``source`` and ``columns`` go into the configuration, each key with the reason in ``why``. ``samples`` are some of
    the usable rows, evenly spread.
    """

    source: Mapping[str, str]
    columns: Mapping[str, str]
    why: Mapping[str, str]
    rows: int
    usable: int
    first_fault: str
    tasks: Mapping[str, int]
    loaded: Loaded
    format: str


def find_rows(path: str, *, media_root: str = "", task: str = "") -> FoundRows:
    """Look at a file of rows.

    Args:
        path: as ``data.train`` takes it.
        media_root: directory of the media; found out if empty.
        task: task type of rows that name none; guessed if empty.

    Raises:
        DataError: the file cannot be read, or no row of it can be used.
    """
    from easyvideor1.config import DataConfig, SourceConfig
    from easyvideor1.data import scan_source
    from easyvideor1.data.row_files import read_source
    from easyvideor1.types import DataError

    raw = [placed.row for placed in islice(read_source(SourceConfig(path=path)), _LOOKED_AT)]
    rows = [row for row in raw if isinstance(row, dict)]
    if not rows:
        raise DataError(f"{path}: the first {len(raw)} rows cannot be read ({raw[0] if raw else 'it has none'})")
    form = _format(rows)
    why = {"path": f"the rows; their format is {form}"}
    columns = _columns(rows) if form == "published" else {}
    why |= {key: f"rows have the question, reference or media in the column {name}" for key, name in columns.items()}
    source: dict[str, str] = {"path": path}
    names = ("problem_type",) if form == "published" else ("problem_type", "task", "task_type")
    unnamed = [row for row in rows if all(row.get(name) is None for name in names)]
    if task or unnamed:
        source["task"] = task or _task(unnamed, columns)
        why["task"] = "task type of rows without problem_type" + ("" if task else "; guessed from their answers")
    root = media_root or _media_root(path, rows, columns)
    if root:
        source["media_root"] = root
        why["media_root"] = "where the paths of media in the rows begin"
    loaded = scan_source(SourceConfig(**source), DataConfig(**columns), check_media=False)
    if not loaded.samples:
        raise DataError(
            f"{path}: none of its {loaded.rows} rows can be used; the first: {loaded.bad[0]}. docs/data.md describes "
            "the columns; name a task type with --task if the rows have none"
        )
    return FoundRows(
        source,
        columns,
        why,
        loaded.rows,
        len(loaded.samples),
        str(loaded.bad[0]) if loaded.bad else "",
        Counter(sample.task for sample in loaded.samples),
        loaded,
        form,
    )


def some_of(samples: Sequence[Sample], count: int = _PLANNED) -> list[Sample]:
    """At most ``count`` samples, evenly spread."""
    step = max(len(samples) / count, 1.0)
    return [samples[int(number * step)] for number in range(min(count, len(samples)))]


def _format(rows: Sequence[Mapping[str, Any]]) -> str:
    """The commonest format of some rows, by their columns."""
    from easyvideor1.data.formats import Columns, detect_format

    columns = Columns("problem", "answer", "images", "videos")
    return Counter(detect_format(row, columns) for row in rows).most_common(1)[0][0]


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that have other names than the published ones."""
    there = {name for row in rows for name, value in row.items() if value is not None}
    found = {}
    for key, names in _COLUMNS.items():
        name = next((name for name in names if name in there), names[0])
        if name != names[0]:
            found[key] = name
    return found


def _task(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """The task type that goes with options and answers."""
    if all(row.get("options") for row in rows):
        return "multiple choice"
    name = columns.get("answer_key", "answer")
    answers = [str(row.get(name, row.get("solution", ""))).strip() for row in rows]
    plain = [re.sub(r"</?answer>", "", answer).strip().casefold() for answer in answers if answer]
    if not plain:
        return "open-ended"
    if all(answer in _TRUTH for answer in plain):
        return "boolean"
    if all(re.fullmatch(r"\(?[a-h]\)?\.?", answer) for answer in plain):
        return "multiple choice"
    if all(re.fullmatch(r"[-+]?\d+(\.\d+)?", answer) for answer in plain):
        return "numerical"
    return "open-ended"


def _media_root(path: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Where relative paths of media begin, if not in the directory of the rows; empty if nowhere."""
    from easyvideor1.config.paths import split_of

    named = [
        str(one)
        for row in rows
        for key in ("video_key", "image_key")
        for one in _listed(row.get(columns.get(key, _COLUMNS[key][0])))
        if isinstance(one, str)
    ]
    relative = [name for name in named if not Path(name).is_absolute()][:8]
    base = Path(split_of(path)[0])
    beside = base if base.is_dir() else base.parent
    if not relative or any((beside / name).exists() for name in relative):
        return ""
    tried = (beside.parent, *sorted(place for place in beside.glob("*") if place.is_dir()), Path())
    return next((str(place) for place in tried if any((place / name).exists() for name in relative)), "")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
