"""Subtitles of a video: read from the files of releases, and put before the question."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.types import DataError, MediaPlan, Sample

#: Which cues a question is asked with: none, those on screen at a sampled frame, or all.
Subtitles = Literal["", "sampled", "all"]

#: Columns of a row: path of the file, its format, and the time in the file's own clock at which the video begins.
FILE, FORMAT, START = "subtitles", "subtitles_format", "subtitles_start"

_HEAD = "The subtitles of the video:"
_TIME = r"(\d+):(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_ARROW = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")
#: A cue of LongVideoBench is widened to this many seconds (its own loader).
_SHORTEST = 1.0


@dataclass(frozen=True, slots=True)
class Cue:
    """Words that are on screen, or spoken, from ``start`` to ``end``, in seconds from the start of the video."""

    start: float
    end: float
    text: str

    def covers(self, time: float) -> bool:
        return self.start <= time <= self.end


def read_cues(path: str | Path, form: str, start: float = 0.0) -> tuple[Cue, ...]:
    """The cues of a file, in the order of the file.

    Args:
        path: the file, UTF-8.
        form: ``srt``; ``jsonl-words`` (JSON Lines of ``text``, ``start_time``, ``end_time``); ``lvb-json`` (a JSON list
            of ``timestamp`` and ``text``, or of ``start``, ``end`` and ``line``).
        start: time in the file at which the video begins, in seconds.

    Raises:
        DataError: the file cannot be read, or is not of this format.
    """
    reader = _READERS.get(form)
    if reader is None:
        raise DataError(f"{path}: unknown format of subtitles {form!r}; known: {', '.join(_READERS)}")
    try:
        found = reader(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no subtitles in the format {form!r}: {error} - download the file again") from None
    return tuple(Cue(cue.start - start, cue.end - start, cue.text) for cue in found if cue.text)


def _plain(text: str) -> str:
    """One line without tags; a placeholder of media in it would stand for media that are not there."""
    return " ".join(PLACEHOLDER.sub("", _TAG.sub("", text)).split())


def _srt(text: str) -> list[Cue]:
    cues: list[Cue] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip().split("\n")
        at = next((number for number, line in enumerate(lines) if _ARROW.match(line)), None)
        if at is None:
            if block.strip() and not cues:
                raise ValueError("the first block has no line of times")
            continue  # a blank line inside a cue: what follows belongs to no time
        times = _ARROW.match(lines[at])
        assert times is not None
        first, last = times.groups()[:4], times.groups()[4:]
        cues.append(Cue(_seconds(first), _seconds(last), _plain(" ".join(lines[at + 1 :]))))
    return cues


def _seconds(parts: Sequence[str]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _words(text: str) -> list[Cue]:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [Cue(float(row["start_time"]), float(row["end_time"]), _plain(str(row["text"]))) for row in rows]


def _longvideobench(text: str) -> list[Cue]:
    return [_widened(row) for row in json.loads(text)]


def _widened(row: Mapping[str, Any]) -> Cue:
    if "timestamp" in row:
        start, end = row["timestamp"]
        words = row["text"]
    else:
        start, end, words = _clock(row["start"]), _clock(row["end"]), row["line"]
    if not isinstance(end, int | float) or isinstance(end, bool):
        end = math.inf  # until the video ends
    start = float(start)
    if end - start < _SHORTEST:
        middle = (start + end) / 2
        start, end = middle - _SHORTEST / 2, middle + _SHORTEST / 2
    return Cue(start, float(end), _plain(str(words)))


def _clock(text: Any) -> float:
    """Seconds of ``HH:MM:SS.mmm``, or of a number."""
    if isinstance(text, int | float):
        return float(text)
    seconds = 0.0
    for part in str(text).replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


_READERS: Mapping[str, Callable[[str], list[Cue]]] = {"srt": _srt, "jsonl-words": _words, "lvb-json": _longvideobench}


@functools.lru_cache(maxsize=256)
def _remembered(path: str, form: str, start: float, modified: int) -> tuple[Cue, ...]:
    return read_cues(path, form, start)


def cues_at(cues: Sequence[Cue], times: Sequence[float]) -> list[Cue]:
    """The cues that cover at least one of these times, each once."""
    return [cue for cue in cues if any(cue.covers(time) for time in times)]


def with_subtitles(sample: Sample, plans: Sequence[MediaPlan], mode: Subtitles, root: str | Path) -> Sample:
    """The sample with subtitles behind its first media and before its question; without a file it stays as it is.

    Args:
        sample: its columns ``subtitles`` and ``subtitles_format`` name the file.
        plans: of its media; the times of their frames choose the cues of the mode ``sampled``.
        mode: which cues.
        root: directory that the path of the file starts from.

    Raises:
        DataError: the file is gone or not of its format.
    """
    named = sample.extra.get(FILE)
    videos = [plan for plan in plans if plan.kind == "video"]
    if not mode or not named or not videos:
        return sample
    path = Path(root) / str(named)
    if not path.is_file():
        raise DataError(f"{path}: the subtitles of {sample.id!r} are not there - run `evr1 eval prepare` again")
    start = float(sample.extra.get(START) or 0.0)
    cues: Sequence[Cue] = _remembered(
        str(path), str(sample.extra.get(FORMAT) or path.suffix.lstrip(".")), start, path.stat().st_mtime_ns
    )
    if mode == "sampled":
        cues = cues_at(cues, [time for plan in videos for time in plan.timestamps])
    if not cues:
        return sample
    text = f"{_HEAD}\n" + "\n".join(cue.text for cue in cues) + "\n"
    marks = re.match(r"(?:\s*(?:<image>|<video>))*\s*", sample.question)
    cut = marks.end() if marks else 0
    head = sample.question[:cut].rstrip()
    return replace(sample, question=f"{head}\n{text}\n{sample.question[cut:]}".lstrip("\n"))
