"""The rows of a source: in one file, in the files of a directory, or in a data set of the ``datasets`` library.

Every row comes with its place. Its columns are not read here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from easyvideor1.config.paths import is_hub_name, located_source, split_of
from easyvideor1.config.schema import RunConfig, SourceConfig
from easyvideor1.data.bad_rows import RowError
from easyvideor1.data.event_files import LINES_SUFFIX, RawRow, events_of, events_of_lines
from easyvideor1.files import file_digest
from easyvideor1.types import DataError
from easyvideor1.video.media_files import is_frame_list

#: Suffixes of files with rows.
ROW_SUFFIXES = (".parquet", ".jsonl", ".json")
#: Files without rows in directories from the Hub or from ``datasets``.
_DESCRIPTIONS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
#: A file in every run directory.
_RUN_MARK = "run.json"
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row with its place: ``line`` is used in ids, ``where`` in messages."""

    line: str
    where: str
    row: RawRow


def read_source(source: SourceConfig) -> Iterator[PlacedRow]:
    """All rows of a source with their places, which are unique.

    Raises:
        DataError: the source is missing or damaged, has no such split, or needs a library.
    """
    base, split = split_of(source.path)
    path = Path(base)
    if is_hub_name(source.path) or _is_saved(path):
        for number, values in enumerate(_arrow_rows(_data_set(source)), start=1):
            yield PlacedRow(str(number), f"{source.path}:{number}", values)
        return
    files = _files(path, split)
    for file in files:
        shard = file.relative_to(path).with_suffix("").as_posix() if file != path else ""
        named = str(file) if shard else base
        for line, row in read_rows(file):
            yield PlacedRow(f"{shard}:{line}" if shard else line, f"{named}:{line}", row)


def source_files(source: SourceConfig) -> list[Path]:
    """The files with the rows of a source, in order.

    Raises:
        DataError: as ``read_source``.
    """
    base, split = split_of(source.path)
    if is_hub_name(source.path) or _is_saved(Path(base)):
        return [Path(entry["filename"]) for entry in _data_set(source).cache_files]
    return _files(Path(base), split)


def media_base(source: SourceConfig) -> Path:
    """Start of relative media paths of a source without ``media_root``: the directory of its rows, or the working
    directory for a data set on the Hub."""
    if is_hub_name(source.path):
        return Path()
    path = Path(split_of(source.path)[0])
    return path if path.is_dir() else path.parent


def _files(path: Path, split: str) -> list[Path]:
    if not path.is_dir():
        if split not in ("", "train"):  # a file is a data set of one split, named train by ``datasets``
            raise DataError(f"{path}: is one file and has no split {split!r} - remove @{split}")
        return [path]
    rows = sorted(file for file in path.rglob("*") if file.suffix in ROW_SUFFIXES and _holds_rows(file, path))
    if not rows:
        raise DataError(f"{path}: is a directory without a JSON, JSONL or Parquet file - correct the path")
    chosen = [file for file in rows if _is_of(file.relative_to(path), split)] if split else rows
    if not chosen:
        shown = ", ".join(file.relative_to(path).as_posix() for file in rows[:5])
        raise DataError(f"{path}: none of its {len(rows)} files is of the split {split!r} - it holds {shown}")
    suffixes = sorted({file.suffix for file in chosen})
    if len(suffixes) > 1:
        raise DataError(
            f"{path}: holds files of {' and '.join(suffixes)} - name one of them, or a directory of one kind"
        )
    return chosen


def _holds_rows(file: Path, below: Path) -> bool:
    """Whether a file has rows, by name and place: not hidden files, descriptions of data, lists of frames, and files of
    a run directory."""
    if file.name in _DESCRIPTIONS or is_frame_list(file.name) or not file.is_file():
        return False
    inside = file.relative_to(below)
    if any(part.startswith(".") for part in inside.parts):
        return False
    return not any((below / parent / _RUN_MARK).exists() for parent in inside.parents)


def _is_of(file: Path, split: str) -> bool:
    """Whether a file belongs to a split, by its name (``train-00000-of-00004.parquet``) or one of its directories."""
    rest = file.stem.removeprefix(split)
    return split in file.parent.parts or (rest != file.stem and not rest[:1].isalpha())


def _is_saved(path: Path) -> bool:
    """Whether a directory was written by ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _data_set(source: SourceConfig) -> Any:
    """The ``datasets.Dataset`` of a source, with media not decoded."""
    try:
        import datasets
    except ImportError as error:
        what = f"{source.path}: needs the datasets library, which cannot be imported ({error})"
        raise DataError(f"{what} - pip install 'easyvideor1[datasets]'") from error
    base, split = split_of(source.path)
    try:
        if is_hub_name(source.path):
            return datasets.load_dataset(base, source.subset or None, split=split)
        found = datasets.load_from_disk(base)
    except Exception as error:  # the library does not document its errors
        what = " ".join(str(error).split()) or type(error).__name__
        remedy = "there is no such local path either" if is_hub_name(source.path) else "save it again"
        raise DataError(f"{source.path}: the data set cannot be loaded: {what[:300]} - {remedy}") from error
    if not isinstance(found, datasets.DatasetDict):
        if split not in ("", str(found.split or "train")):
            raise DataError(f"{base}: is of the split {found.split}, not {split!r} - remove @{split}")
        return found
    name = split or (next(iter(found)) if len(found) == 1 else "")
    if name not in found:
        asked = f"has no split {name!r}" if name else "has several splits"
        raise DataError(f"{base}: {asked} - write {' or '.join(f'{base}@{known}' for known in found)}")
    return found[name]


def _arrow_rows(data_set: Any) -> Iterator[dict[str, Any]]:
    for table in data_set.with_format("arrow").iter(batch_size=_BATCH):  # Arrow does not decode images
        for row in table.to_pylist():
            yield {name: without_nulls(value) for name, value in row.items()}


_BLANK = re.compile(r"\s*")
_BOM = b"\xef\xbb\xbf"
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX")
_PARQUET_BATCH = 1024


def read_rows(path: Path) -> Iterator[tuple[str, RawRow]]:
    """All rows of a file with their unique place: the 1-based line, or the row number in Parquet.

    Rows that start on the same line, as in a list written by ``json.dump``, are numbered: ``1#2`` is the second row on
    the first line.

    Raises:
        DataError: the file is missing, a directory, empty, or damaged as a whole.
    """
    last, on_line = 0, 1
    for line, row in _read_file(path):
        on_line = on_line + 1 if line == last else 1
        last = line
        yield (str(line) if on_line == 1 else f"{line}#{on_line}"), row


def _read_file(path: Path) -> Iterator[tuple[int, RawRow]]:
    """All rows with their lines.

    The content decides the format, not the suffix: a file that starts with ``PAR1`` is Parquet, one that starts with
    ``[`` is a JSON list, any other has one JSON object per line, unless it lists the events of videos
    (``data/event_files.py``). Blank lines are ignored. A broken line of JSONL makes one bad row; a broken JSON list or
    Parquet file is refused as a whole, since the rest is unknown.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head == b"PAR1":
                yield from _read_parquet(path)
                return
            if head.startswith(_COMPRESSED):
                raise DataError(f"{path}: is a compressed file - decompress it first")
            file.seek(0)
            start = _first_byte(file)
            if not start:
                raise DataError(f"{path}: the file is empty - write rows into it or remove it from the sources")
            file.seek(0)
            if path.suffix == LINES_SUFFIX:
                yield from events_of_lines(file)
            elif start == b"[":
                yield from _read_list(path, file.read().removeprefix(_BOM))
            elif path.suffix == ".json" and (events := events_of(file.read().removeprefix(_BOM))) is not None:
                yield from ((1, row) for row in events)
            else:
                file.seek(0)
                yield from _read_lines(file)
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
    # Binary files split lines only at \n; text would also be split at U+2028, which JSON strings may contain.
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
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; unlimited nesting
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
        raise _broken_list(path, text, position + 1, "there is more text after the end of the list")


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return position if blank is None else blank.end()


def _broken_list(path: Path, text: str, position: int, what: str) -> DataError:
    line = text.count("\n", 0, position) + 1
    return DataError(f"{path}:{line}: broken JSON list: {what} - the file may be cut off; write it again")


def without_nulls(value: Any) -> Any:
    """An Arrow value without null keys in its structs: in Arrow, every row has the keys of all rows."""
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


def source_digests(config: RunConfig, sources: Iterable[SourceConfig]) -> dict[str, str]:
    """SHA-256 of the rows of every source of a configuration, by its path as it is written there.

    It is that of the file, or of the names and digests of all files of a source that has several.
    """
    return {source_name(source): _rows_digest(located_source(config, source)) for source in sources}


def source_name(source: SourceConfig) -> str:
    """The path of a source as it is written, with the configuration of a data set on the Hub, if one is named."""
    return f"{source.path} ({source.subset})" if source.subset else source.path


def _rows_digest(source: SourceConfig) -> str:
    files = source_files(source)
    if len(files) == 1:
        return file_digest(files[0])
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return whole.hexdigest()
