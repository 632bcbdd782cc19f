"""Files that list the events of videos in place of rows, as annotations for temporal grounding are distributed.

- ActivityNet Captions, and Time-R1 for Charades-STA too: a JSON object of videos, ``{"v_x": {"duration": 82.7,
  "timestamps": [[0.8, 19.9], ...], "sentences": ["...", ...]}}``.
- Charades-STA: a text file of lines ``VIDEO START END##SENTENCE``.

Each event becomes a row with ``video``, ``event`` (its number in the video, in a JSON file), ``sentence``,
``timestamp`` and, where it is known, ``duration``; the format ``events`` (``data/formats.py``) makes a question of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from easyvideor1.data.bad_rows import RowError

#: A row as in the file, or why it cannot be read.
RawRow = dict[str, Any] | RowError

#: Suffix of files of lines.
LINES_SUFFIX = ".txt"
_LINE = re.compile(r"(?P<video>\S+)\s+(?P<start>[\d.]+)\s+(?P<end>[\d.]+)\s*##\s*(?P<sentence>.*\S)\s*")
_SENTENCES, _TIMESTAMPS, _DURATION = "sentences", "timestamps", "duration"


def events_of(content: bytes) -> list[RawRow] | None:
    """The events of a JSON file; ``None`` if it is no object of videos with events."""
    first, _, rest = content.partition(b"\n")
    if rest.strip() and _is_object(first):
        return None  # one object per line
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(each, Mapping) and _SENTENCES in each for each in value.values()):
        return None
    return [row for video, entry in value.items() for row in _events(video, entry)]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _events(video: str, entry: Mapping[str, Any]) -> Iterator[RawRow]:
    sentences, spans = entry.get(_SENTENCES), entry.get(_TIMESTAMPS)
    if not isinstance(sentences, list) or not isinstance(spans, list) or len(sentences) != len(spans):
        counts = [len(each) if isinstance(each, list) else "no list" for each in (sentences, spans)]
        what = f"the video {video} has sentences ({counts[0]}) and timestamps ({counts[1]}) that do not match"
        yield RowError(_TIMESTAMPS, what, "write one [start, end] for each sentence")
        return
    more = {} if entry.get(_DURATION) is None else {_DURATION: entry[_DURATION]}
    for number, (sentence, span) in enumerate(zip(sentences, spans, strict=True)):
        yield {"video": video, "event": number, "sentence": sentence, "timestamp": span, **more}


def events_of_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, RawRow]]:
    """The event of each line that is not blank, with its number from 1."""
    for number, line in enumerate(lines, start=1):
        text = line.decode("utf-8", errors="replace").strip("\ufeff\r\n ")
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            what = f"the line is {text[:60]!r}, not 'VIDEO START END##SENTENCE'"
            yield number, RowError("", what, "write an event on each line, or name the file of rows .jsonl")
            continue
        span = [_number(found["start"]), _number(found["end"])]
        yield number, {"video": found["video"], "sentence": found["sentence"], "timestamp": span}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:  # several dots; refused with the row
        return text
