"""Writes samples as rows of the published format."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from easyvideor1.data.budgets import budget_columns
from easyvideor1.files import json_bytes, write_atomic
from easyvideor1.types import DataError, MediaKind, Sample


def write_rows(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples as rows that ``load_source`` reads back, and return their number.

    The suffix chooses the format: ``.jsonl``, ``.json`` or ``.parquet``. Media below the directory of the file have
    relative paths, so that the directory can be moved; others have absolute paths. Columns of the format override
    columns of the same name in ``extra``. Samples that ``data.prepare`` changed are written as they were read, with
    their columns and trajectories of now. The file is written atomically.

    Raises:
        DataError: the suffix is unknown, or a sample cannot be expressed as a row.
    """
    target = Path(path)
    rows = [_row(sample, Path(os.path.abspath(target.parent))) for sample in samples]  # noqa: PTH100 - also drops ".."
    try:
        writer = {".jsonl": _write_jsonl, ".json": _write_json, ".parquet": _write_parquet}[target.suffix.lower()]
    except KeyError:
        raise DataError(f"{target}: unknown format - name the file .jsonl, .json or .parquet") from None
    write_atomic(target, lambda file: writer(file, rows))
    return len(rows)


def _row(sample: Sample, directory: Path) -> dict[str, Any]:
    if sample.as_read is not None:  # ``data.prepare`` would be applied to it again
        sample = replace(sample.as_read, extra=sample.extra, offline=sample.offline)
    row: dict[str, Any] = {
        **sample.extra,
        "problem_id": sample.id,
        "problem": sample.question,
        "answer": sample.answer,
        "data_type": sample.modality,
        "problem_type": sample.task.replace("_", " "),
        "options": list(sample.options),
        "images": _paths(sample, "image", directory),
        "videos": _paths(sample, "video", directory),
        "data_source": sample.source,
        "has_offline_trajectory": bool(sample.offline),
        "offline_output": _offline(sample),
    }
    clips = [ref for ref in sample.media if ref.start is not None or ref.end is not None]
    if clips:
        if sum(ref.kind == "video" for ref in sample.media) != 1:
            raise DataError(
                f"sample {sample.id!r}: a row can have the clip of one video only - cut the videos into files"
            )
        row |= {"start": clips[0].start, "end": clips[0].end}
    try:
        return row | budget_columns(sample)
    except ValueError as error:
        raise DataError(f"sample {sample.id!r}: {error} - a row has one budget for each kind of media") from None


def _paths(sample: Sample, kind: MediaKind, directory: Path) -> list[str]:
    paths = (Path(ref.path) for ref in sample.media if ref.kind == kind)
    return [str(path.relative_to(directory) if path.is_relative_to(directory) else path) for path in paths]


def _offline(sample: Sample) -> Any:
    if all(trajectory.logprobs is None and not trajectory.before for trajectory in sample.offline):
        texts = [trajectory.text for trajectory in sample.offline]
        return texts if len(texts) > 1 else texts[0] if texts else ""
    return [
        {"text": item.text, "logprobs": None if item.logprobs is None else list(item.logprobs)}
        | ({"before": list(item.before)} if item.before else {})
        for item in sample.offline
    ]


def _dumps(row: dict[str, Any]) -> bytes:
    try:
        return json_bytes(row).rstrip(b"\n")
    except (TypeError, ValueError) as error:
        raise DataError(f"sample {row['problem_id']!r}: {error} - write it as .parquet or drop that column") from error


def _write_jsonl(file: IO[bytes], rows: list[dict[str, Any]]) -> None:
    for row in rows:
        file.write(_dumps(row) + b"\n")


def _write_json(file: IO[bytes], rows: list[dict[str, Any]]) -> None:
    file.write(b"[\n" + b",\n".join(map(_dumps, rows)) + b"\n]\n")


def _write_parquet(file: IO[bytes], rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    # A column has one type: a row with several responses or with log-probs makes it a list of records.
    if any(isinstance(row["offline_output"], list) for row in rows):
        for row in rows:
            row["offline_output"] = _records(row["offline_output"])
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
        parquet.write_table(table, file)
    except pyarrow.ArrowException as error:
        raise DataError(f"the rows do not fit one table: {error} - write them as .jsonl") from error


def _records(output: Any) -> list[dict[str, Any]]:
    entries = output if isinstance(output, list) else [output] if output else []
    return [entry if isinstance(entry, dict) else {"text": entry, "logprobs": None} for entry in entries]
