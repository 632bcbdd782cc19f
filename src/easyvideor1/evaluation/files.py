"""Reading and writing the files of a run directory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from easyvideor1.files import json_bytes, write_atomic, write_json
from easyvideor1.records.reading import read_rows
from easyvideor1.types import DataError

__all__ = ["read_json", "read_jsonl", "write_atomic", "write_json", "write_jsonl"]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, b"".join(map(json_bytes, rows)))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is this the directory of a run?") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); remove the file and write it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a JSONL file.

    A last line without its newline that does not parse is left out: a run that is going on, or was killed, may be in
    the middle of writing it.

    Raises:
        DataError: the file is missing, or any other line is not a JSON object; the message names file and line.
    """
    found = read_rows(path)
    if found.faults:
        number, fault = found.faults[0]
        raise DataError(f"{path}:{number}: {fault}; the file was damaged after writing")
    return list(found.rows)
