"""The files of a release, as downloaded: found by pattern, read as rows."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.types import DataError

#: Column that a reader adds to every row: path of its file below the release.
FILE = "@file"
#: Column that a reader adds to rows of a mapping: their key.
KEY = "@key"
#: Column that a reader adds to every row: its place in its file, from 1.
NUMBER = "@number"

#: Name of the directory of a preparation below its release; what is in it is no part of the release.
OUT = "evr1"

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """The directory of a release, and further ones with what was unpacked of its archives."""

    directory: Path
    unpacked: tuple[Path, ...] = ()

    def files(self, *patterns: str) -> list[Path]:
        """The files that match the first pattern that matches any, in the first directory where it does, in the order
        of their names."""
        for pattern in patterns:
            for place in (self.directory, *self.unpacked):
                if found := sorted(path for path in self._matching(place, pattern) if path.is_file()):
                    return found
        return []

    def has(self, *patterns: str) -> bool:
        """Whether something matches one of these patterns; true without patterns."""
        places = (self.directory, *self.unpacked)
        return not patterns or any(True for each in patterns for place in places for _ in self._matching(place, each))

    def name(self, path: Path) -> str:
        """The path of a file below the directory that it was found in."""
        return next(
            path.relative_to(place).as_posix()
            for place in (*reversed(self.unpacked), self.directory)
            if path.is_relative_to(place)
        )

    def _matching(self, place: Path, pattern: str) -> Iterator[Path]:
        own = place / OUT
        return (path for path in place.glob(pattern) if own not in path.parents)

    def rows(self, *patterns: str) -> Iterator[Raw]:
        """The rows of these files: JSON (a list, or a mapping from ids), JSONL, CSV, TSV, Parquet, or lines of text.

        Each row is a mapping with the path of its file as ``@file``, its place there as ``@number``, and its id as
        ``@key`` where a mapping has it. Rows that are no mapping, and lines, come as the column ``value``.

        Raises:
            DataError: a file cannot be read; the message names it.
        """
        for path in self.files(*patterns):
            name = self.name(path)
            try:
                for number, row in enumerate(_READERS[path.suffix.lower()](path), start=1):
                    yield {**(row if isinstance(row, Mapping) else {"value": row}), FILE: name, NUMBER: number}
            except KeyError:
                raise DataError(f"{path}: is no JSON, JSONL, CSV, TSV, Parquet or text file") from None
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: cannot be read: {error} - download it again") from error

    def content(self, *patterns: str) -> Any:
        """The content of the first JSON file that matches; ``{}`` if none does.

        Raises:
            DataError: the file cannot be read; the message names it.
        """
        for path in self.files(*patterns)[:1]:
            try:
                return json.loads(path.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: cannot be read: {error} - download it again") from error
        return {}


def _json(path: Path) -> Iterator[Any]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield {**(value if isinstance(value, Mapping) else {"value": value}), KEY: key}
    elif isinstance(content, list):
        yield from content
    else:
        raise ValueError(f"it holds {type(content).__name__}, not rows")


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _table(delimiter: str) -> Callable[[Path], Iterator[Any]]:
    def read(path: Path) -> Iterator[Any]:
        csv.field_size_limit(min(sys.maxsize, 1 << 30))
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines, delimiter=delimiter):
                if None in row or None in row.values():
                    raise ValueError(f"a row has another number of columns than the head: {row}")
                yield row

    return read


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from (line.strip() for line in lines if line.strip())


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            yield from batch.to_pylist()


_READERS: Mapping[str, Callable[[Path], Iterator[Any]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet,
    ".txt": _lines,
}
