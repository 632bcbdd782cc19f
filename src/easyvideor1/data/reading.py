"""Rows out of JSON, JSONL and Parquet files, each with its line, before anything is known of their columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from easyvideor1.data.problems import RowError
from easyvideor1.types import DataError

#: A row as the file holds it, or what makes it unreadable.
RawRow = dict[str, Any] | RowError

_BLANK = re.compile(r"\s*")
_BOM = b"\xef\xbb\xbf"
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX")
_PARQUET_BATCH = 1024


def read_rows(path: Path) -> Iterator[tuple[str, RawRow]]:
    """All rows of a file with their place: the 1-based line, or row number of Parquet; no two rows have the same.

    A row that begins on the line of another one, as in a list that ``json.dump`` wrote, has a number of its own beside
    the line: ``1#2`` is the second row on the first line.

    Raises:
        DataError: the file is missing, a directory, empty, or broken as a whole.
    """
    last, on_line = 0, 1
    for line, row in _read_file(path):
        on_line = on_line + 1 if line == last else 1
        last = line
        yield (str(line) if on_line == 1 else f"{line}#{on_line}"), row


def _read_file(path: Path) -> Iterator[tuple[int, RawRow]]:
    """All rows with their lines.

    The format is told from the content: a file that starts with ``PAR1`` is Parquet, one that starts with ``[`` a JSON
    list, anything else one JSON object a line, whatever its suffix says. Blank lines are no rows. A broken line of
    JSONL costs that line; a broken JSON list or Parquet file is refused as a whole, since what follows is unknown.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head == b"PAR1":
                yield from _read_parquet(path)
                return
            if head.startswith(_COMPRESSED):
                raise DataError(f"{path}: is a compressed file - unpack it first")
            file.seek(0)
            start = _first_byte(file)
            if not start:
                raise DataError(f"{path}: the file is empty - write rows into it or remove it from the sources")
            file.seek(0)
            yield from _read_list(path, file.read().removeprefix(_BOM)) if start == b"[" else _read_lines(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such data file - correct the path of the source") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory - name a JSON, JSONL or Parquet file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error} - check the file and its permissions") from error


def _first_byte(file: IO[bytes]) -> bytes:
    for line in file:
        text = line.removeprefix(_BOM).strip()
        if text:
            return text[:1]
    return b""


def _read_lines(file: IO[bytes]) -> Iterator[tuple[int, RawRow]]:
    # Binary files end lines at \n alone; text would also be cut at U+2028, which JSON strings may hold.
    for number, line in enumerate(file, start=1):
        text = (line.removeprefix(_BOM) if number == 1 else line).rstrip(b"\r\n")
        if text.strip():
            yield number, _parse_line(text)


def _parse_line(line: bytes) -> RawRow:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError("", f"not UTF-8 at byte {error.start} of the line", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        return RowError(
            "", f"broken JSON: {error.msg} at column {error.colno}", "write one whole JSON object on each line"
        )
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; nesting without end
        return RowError("", f"JSON that cannot be read: {error}", "simplify the row")
    return _as_row(value)


def _as_row(value: Any) -> RawRow:
    if isinstance(value, dict):
        return value
    return RowError("", f"the row is {_type(value)}, not an object", 'write rows as {"problem": ..., "answer": ...}')


def _type(value: object) -> str:
    return {"NoneType": "null", "str": "text", "list": "a list"}.get(type(value).__name__, type(value).__name__)


def _read_list(path: Path, content: bytes) -> Iterator[tuple[int, RawRow]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start} - save the file as UTF-8") from error
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    position = _skip(text, text.index("[") + 1)
    while not text.startswith("]", position):
        line += text.count("\n", counted, position)
        counted = position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken_list(path, text, getattr(error, "pos", position), str(error)) from error
        yield line, _as_row(value)
        position = _skip(text, position)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            raise _broken_list(path, text, position, "expected ',' or ']' after a row")
    if text[position + 1 :].strip():
        raise _broken_list(path, text, position + 1, "there is more after the end of the list")


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return position if blank is None else blank.end()


def _broken_list(path: Path, text: str, position: int, what: str) -> DataError:
    line = text.count("\n", 0, position) + 1
    return DataError(f"{path}:{line}: broken JSON list: {what} - the file may be cut off; write it again")


def without_nulls(value: Any) -> Any:
    """A value of Arrow without the keys that are null in its structs: there every row has the keys of all."""
    if isinstance(value, dict):
        return {name: without_nulls(entry) for name, entry in value.items() if entry is not None}
    return [without_nulls(entry) for entry in value] if isinstance(value, list) else value


def _read_parquet(path: Path) -> Iterator[tuple[int, RawRow]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: without_nulls(value) for name, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: broken Parquet file: {error} - write it again") from error
