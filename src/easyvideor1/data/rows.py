"""Turns one row of the published format into a ``Sample``, or raises its first fault.

Columns: the question, answer, images and videos (names from ``DataConfig``), ``data_type``, ``problem_type``,
``options``, ``problem_id``, ``data_source``, ``has_offline_trajectory``, ``offline_output``, ``start``/``end`` in
seconds for the clip of a single video, and those of ``data.budgets`` for the pixels and frames of its media. Rows of
evaluation files are supported too: their media are in ``path`` (and ``image_path``) and their reference in
``solution``. All other columns are kept in ``Sample.extra``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyvideor1 import rewards
from easyvideor1.data.bad_rows import RowError, remedy_of
from easyvideor1.data.budgets import Budgets
from easyvideor1.data.check_cache import ReferenceCheck
from easyvideor1.data.formats import letter_options, listed_options
from easyvideor1.data.media import MediaCheck, MediaEntry, read_entry, video_of_id, write_frame_list
from easyvideor1.tasks import canonical_task
from easyvideor1.types import DataError, MediaKind, MediaRef, OfflineTrajectory, Sample
from easyvideor1.video.formats import kinds_of_name

PLACEHOLDER = re.compile(r"<image>|<video>")
_WRAPPED = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
#: Options inside a question: "(A)", "A.", "A)" or "A:", and the next one.
_LETTERED = re.compile(r"(?:^|[\s(])A\s*+[.):\uff0e].{0,2000}?[\s(]B\s*+[.):\uff0e]", re.DOTALL)
#: The same as lines of their own, in any order: some published rows list B before A.
_LINES = tuple(re.compile(rf"^\s*+\(?{letter}\s*+[.):\uff0e]", re.MULTILINE) for letter in "AB")
_DATA_TYPES = ("image", "video", "text")
_FIXED = (
    "data_type",
    "problem_type",
    "options",
    "problem_id",
    "data_source",
    "has_offline_trajectory",
    "offline_output",
    "offline_logprobs",
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How to read the rows of one source: column names, absolute start of relative media paths, budgets."""

    question: str
    answer: str
    images: str
    videos: str
    root: str
    stem: str
    budgets: Budgets
    #: Directory for embedded images and for lists of frames.
    embedded: Path
    #: Frames per second of videos given as frames without times.
    frames_fps: float | None = None


def is_evaluation_row(row: Row, form: RowFormat) -> bool:
    """Whether the row has its media in ``path``, as in evaluation files, and not in lists.

    In a row of the type text, ``path`` is an ordinary column.
    """
    if row.get("data_type") == "text":
        return False
    return bool(row.get("path")) and not row.get(form.images) and not row.get(form.videos)


def answer_column(row: Row, form: RowFormat) -> str:
    """``solution`` in evaluation rows, which may also have a raw ``answer``; else the configured column."""
    if row.get("solution") is not None and (is_evaluation_row(row, form) or row.get(form.answer) is None):
        return "solution"
    return form.answer


def read_task(row: Row) -> str:
    """The canonical task type of a row.

    Raises:
        RowError: ``problem_type`` is missing or unknown.
    """
    name = _text(row, "problem_type", "name the task type of the row, such as 'multiple choice'")
    try:
        return canonical_task(name)
    except DataError as error:
        raise RowError("problem_type", str(error), "correct it, or set data.on_bad_row to 'skip'") from None


def read_sample(
    row: Row,
    form: RowFormat,
    *,
    task: str,
    line: str,
    where: str,
    check: MediaCheck,
    reference: ReferenceCheck,
) -> Sample:
    """The ``Sample`` of a row; ``check`` checks its media and ``reference`` its reference.

    Raises:
        RowError: the first fault that makes the row unusable.
    """
    try:
        _require_unicode("", row)
    except RecursionError:
        raise RowError("", "the row is nested too deeply", "flatten its columns") from None
    media = _media(row, form, check)
    options = letter_options(_option_texts(row))
    question, media = _place(_question(row, form), media, form)
    column = answer_column(row, form)
    answer = _answer(row, column)
    if task == "multiple_choice" and not options and not _lists_options(question):
        what = "are missing, and the question lists none"
        remedy = (
            'write them as ["A. red", "B. blue"] (["A", "B"] where a picture shows them), or set another problem_type'
        )
        raise RowError("options", what, remedy)
    taken = {*_FIXED, form.question, form.images, form.videos, column, "start", "end"}
    taken |= form.budgets.columns(row)
    if is_evaluation_row(row, form):
        taken |= {"path", "image_path"}
    extra = {name: value for name, value in row.items() if name not in taken}
    try:
        reference(task, answer, options, extra)
    except rewards.ColumnError as error:
        raise RowError(error.column, error.problem, "correct this column or remove the row") from None
    except DataError as error:
        raise RowError(column, str(error), remedy_of(answer)) from None
    return Sample(
        id=_label(row, "problem_id") or f"{form.stem}:{line}",
        question=question,
        task=task,
        answer=answer,
        media=media,
        options=options,
        source=_label(row, "data_source") or form.stem,
        offline=_offline(row),
        extra=extra,
        where=where,
    )


def _lists_options(question: str) -> bool:
    return bool(_LETTERED.search(question)) or all(letter.search(question) for letter in _LINES)


def _require_unicode(name: str, value: object) -> None:
    """Refuse text that is not valid Unicode, at any depth of a column."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise RowError(name, "contains half of a surrogate pair", "write the text again as UTF-8") from None
    elif isinstance(value, list):
        for inner in value:
            if not isinstance(inner, float | int):  # rows may have thousands of log-probs
                _require_unicode(name, inner)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _require_unicode(name or str(key), key)
            _require_unicode(name or str(key), inner)


def _text(row: Row, name: str, remedy: str) -> str:
    if name not in row:
        near = f" (the row has {', '.join(map(repr, row))})" if row else ""
        raise RowError(name, f"missing{near}", remedy)
    value = row[name]
    if value is None:
        raise RowError(name, "is null", remedy)
    if not isinstance(value, str):
        raise RowError(name, f"is {value!r}, not text", remedy)
    if not value.strip():
        raise RowError(name, "is blank", remedy)
    return value.strip()


def _question(row: Row, form: RowFormat) -> str:
    return _text(row, form.question, "write the question, or set data.question_key to the column that holds it")


def _label(row: Row, name: str) -> str:
    """An identifier: text or a whole number; empty if absent."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with gaps in a data frame
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(name, f"is {value!r}, not text or a whole number", "correct it or leave it out")
    return str(value).strip()


def _answer(row: Row, column: str) -> str:
    remedy = "write the reference answer, or set data.answer_key to the column that holds it"
    value = row.get(column)
    if isinstance(value, bool | int | float | list | dict):
        if isinstance(value, float) and not math.isfinite(value):
            raise RowError(column, f"is {value}, not a finite number", remedy)
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RowError(column, f"cannot be written as text: {error}", remedy) from None
    text = _text(row, column, remedy)
    wrapped = _WRAPPED.fullmatch(text)
    if wrapped is None or "<answer>" in wrapped[1]:
        return text
    if not wrapped[1].strip():
        raise RowError(column, "has an empty <answer>", remedy)
    return wrapped[1].strip()


def _option_texts(row: Row) -> list[str]:
    texts = []
    for number, option in enumerate(listed_options(row.get("options")), start=1):
        if isinstance(option, bool) or not isinstance(option, str | int | float):
            raise RowError("options", f"option {number} is {option!r}, not text", "write its text or remove it")
        if PLACEHOLDER.search(str(option)):
            what = f"option {number} has a media placeholder, but media can only be in the question"
            raise RowError("options", what, "put the images into the question and name them in the options")
        texts.append(str(option))
    return texts


def _entries(row: Row, name: str, kind: MediaKind, embedded: Path) -> list[MediaEntry]:
    value = row.get(name)
    if value is None:
        return []
    entries = [value] if isinstance(value, str | bytes | Mapping) else value
    if not isinstance(entries, list):
        raise RowError(name, f"is {value!r}, not a list of paths", 'write it as ["file"], or null for none')
    return [read_entry(entry, name, number, kind, embedded) for number, entry in enumerate(entries, start=1)]


def _media(row: Row, form: RowFormat, check: MediaCheck) -> tuple[MediaRef, ...]:
    """Videos, then images: the order of media if the question has no placeholders."""
    columns: dict[str, MediaKind] = {form.videos: "video", form.images: "image"}
    if is_evaluation_row(row, form):
        declared = row.get("data_type") or ("image" if kinds_of_name(str(row["path"])) == {"image"} else "video")
        columns = {"path": "image" if declared == "image" else "video", "image_path": "image"}
    media: list[tuple[MediaRef, str, Mapping[str, Any]]] = []
    for column, kind in columns.items():
        for entry in _entries(row, column, kind, form.embedded):
            path, options = _file(entry, column, kind, form, check)
            media.append((MediaRef(kind, path), column, options))
    refs = [ref for ref, _, _ in media]
    _check_data_type(row, refs)
    budgets = form.budgets.of_row(row)
    clipped = _clip(row, refs)
    return tuple(
        form.budgets.of_entry(replace(ref, budget=budgets[ref.kind]), column, options)
        for ref, (_, column, options) in zip(clipped, media, strict=True)
    )


def _file(
    entry: MediaEntry, column: str, kind: MediaKind, form: RowFormat, check: MediaCheck
) -> tuple[str, Mapping[str, Any]]:
    """The absolute path of an entry's file and its remaining options; frames become a file that lists them."""
    named = entry.frames or (entry.path,)
    paths = [os.path.abspath(os.path.join(form.root, path)) for path in named]  # noqa: PTH100, PTH118 - "./a/../b"
    if kind == "video" and not entry.frames:
        paths = [video_of_id(paths[0])]
    frames = paths if entry.frames else check.frames_of(column, paths[0]) if kind == "video" else []
    if not frames:
        check(column, paths[0], kind)
        return paths[0], entry.options
    check(column, frames[0], "image")  # the others are checked when the video is probed
    return write_frame_list(frames, entry.options, column, fps=form.frames_fps, directory=form.embedded)


def _check_data_type(row: Row, media: list[MediaRef]) -> None:
    declared = row.get("data_type")
    if declared is None:
        return
    if declared not in _DATA_TYPES:
        raise RowError("data_type", f"is {declared!r}", f"use one of {', '.join(_DATA_TYPES)}")
    videos = sum(ref.kind == "video" for ref in media)
    # A video row may also have images; its type stays "video".
    actual = "video" if videos else "image" if media else "text"
    if declared != actual:
        what = f"is {declared!r}, but the row has {videos} videos and {len(media) - videos} images"
        raise RowError("data_type", what, f"set it to {actual!r}, or correct the media columns")


def _clip(row: Row, media: list[MediaRef]) -> tuple[MediaRef, ...]:
    bounds: dict[str, float | None] = {}
    for name in ("start", "end"):
        value = row.get(name)
        bounds[name] = number = _finite(value)
        if value is not None and (number is None or number < 0):
            raise RowError(name, f"is {value!r}, not a time in seconds", "write seconds from the start of the video")
    start, end = bounds["start"], bounds["end"]
    if start is None and end is None:
        return tuple(media)
    field = "start" if start is not None else "end"
    if [ref.kind for ref in media].count("video") != 1:
        raise RowError(field, "sets a clip, but the row does not have exactly one video", "remove start and end")
    if end is not None and end <= (start or 0.0):
        raise RowError("end", f"is {end}, not after start ({start or 0.0})", "write an end after the start")
    return tuple(MediaRef("video", ref.path, start, end) if ref.kind == "video" else ref for ref in media)


def _finite(value: object) -> float | None:
    """A JSON number as a finite float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _place(question: str, media: tuple[MediaRef, ...], form: RowFormat) -> tuple[str, tuple[MediaRef, ...]]:
    """Add missing placeholders, and sort the media by the order of the placeholders."""
    waiting = {kind: [ref for ref in media if ref.kind == kind] for kind in ("video", "image")}
    prefix = ""
    for kind, refs in waiting.items():
        written = question.count(f"<{kind}>")
        if written == 0:
            prefix += f"<{kind}>" * len(refs)
        elif written != len(refs):
            what = f"has {written} <{kind}> placeholders for {len(refs)} {kind} files"
            raise RowError(form.question, what, f"write one <{kind}> for each file, or none to put the media first")
    if prefix:
        question = f"{prefix}\n{question}"
    if not PLACEHOLDER.sub("", question).strip():
        raise RowError(form.question, "has media but no text", "write the question")
    return question, tuple(waiting[mark.strip("<>")].pop(0) for mark in PLACEHOLDER.findall(question))


def _offline(row: Row) -> tuple[OfflineTrajectory, ...]:
    flag, output = row.get("has_offline_trajectory"), row.get("offline_output")
    if row.get("offline_logprobs") is not None:
        if not isinstance(output, str):
            remedy = 'write offline_output as {"text": ..., "logprobs": [...]}, or a list of these'
            raise RowError("offline_logprobs", "is set, but offline_output is not a single text", remedy)
        output = {"text": output, "logprobs": row["offline_logprobs"]}
    if flag not in (None, True, False):
        raise RowError("has_offline_trajectory", f"is {flag!r}", "write true or false")
    entries = output if isinstance(output, list) else [] if output is None or output == "" else [output]
    found = tuple(_trajectory(entry) for entry in entries)
    if flag and not found:
        remedy = "write the response, or set has_offline_trajectory to false"
        raise RowError("offline_output", "is missing although has_offline_trajectory is true", remedy)
    return () if flag is not None and not flag else found


def _trajectory(entry: object) -> OfflineTrajectory:
    remedy = 'write a text, {"text": ..., "logprobs": [...], "before": [...]}, or a list of these'
    fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {"text": entry}
    text, logprobs, before = fields.get("text"), fields.get("logprobs"), fields.get("before") or []
    if not isinstance(text, str):
        raise RowError("offline_output", f"is {type(text).__name__}, not text", remedy)
    if not text.strip():
        raise RowError("offline_output", "is blank", remedy)
    if not isinstance(before, list) or not all(isinstance(turn, str) and turn.strip() for turn in before):
        raise RowError("offline_output", "has turns before the last that are not a list of texts", remedy)
    if logprobs is None:
        return OfflineTrajectory(text, None, tuple(before))
    if before:
        raise RowError("offline_output", "has log-probs and several turns", "leave the log-probs out")
    numbers = [_finite(value) for value in logprobs] if isinstance(logprobs, list) else [None]
    finite = tuple(number for number in numbers if number is not None)
    if len(finite) != len(numbers):
        raise RowError("offline_output", "has logprobs that are not a list of finite numbers", remedy)
    return OfflineTrajectory(text, finite)
