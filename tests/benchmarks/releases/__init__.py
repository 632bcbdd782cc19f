"""Releases of our own in the layouts of public benchmarks, with replies and the numbers they come to by hand."""

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Fixture:
    """A small release of a benchmark.

    ``files`` are its files: name -> rows (JSON list, JSON mapping, JSONL, CSV, TSV, Parquet), or lines of text.
    ``questions`` are the ids that are read, and ``refused`` words of the reason for each row that is refused.
    ``replies`` answer questions by id; one that is missing failed. ``numbers`` are what the metrics come to, scaled,
    worked out by hand; ``None`` where there must be no number. ``published`` is a file of real rows in
    ``shared/reference/benchmark_rows``, if there is one; ``holds`` says how many questions each of its rows makes.
    ``parts`` are further parts of questions by id, such as ``video`` and ``end``. ``judge`` is the model behind the
    endpoint of a judged benchmark: system and user message -> reply.
    """

    benchmark: str
    layout: str
    files: Mapping[str, Any]
    questions: tuple[str, ...]
    replies: Mapping[str, str]
    numbers: Mapping[str, float | None]
    refused: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    holds: Callable[[Mapping[str, Any]], int] = lambda row: 1
    answers: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    judge: Callable[[str, str], str] | None = None

    def write(self, directory: Path) -> Path:
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _WRITERS.get(path.suffix, _text)(path, content)
        return directory


def verdict(system, **grades):
    """The reply of an honest judge, with the id that it was given."""
    return json.dumps({"id": re.search('"id": "(\\w{8})"', system)[1], "reason": "because", **grades})


def _text(path, content):
    path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")


def _json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def _json_lines(path, content):
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def _parquet(path, content):
    pq.write_table(pa.Table.from_pylist(content), path)


def _table(delimiter):
    def write(path, content):
        with path.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(content[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(content)

    return write


_WRITERS = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".csv": _table(","),
    ".tsv": _table("\t"),
}
