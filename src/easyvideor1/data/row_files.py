"""Where the rows of a source are: in one file, in the files of a directory, or in a data set of ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config.places import is_hub_name, split_of
from easyvideor1.config.schema import SourceConfig
from easyvideor1.data.reading import RawRow, read_rows, without_nulls
from easyvideor1.types import DataError
from easyvideor1.video.media_files import is_frame_list

#: Names of files that hold rows end so.
ROW_SUFFIXES = (".parquet", ".jsonl", ".json")
#: Files that describe data and hold no rows, in directories that come from the Hub or from ``datasets``.
_DESCRIPTIONS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
#: A file that the directory of a run has.
_RUN_MARK = "run.json"
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row with its place: ``line`` as ids name it, ``where`` as messages do."""

    line: str
    where: str
    row: RawRow


def read_source(source: SourceConfig) -> Iterator[PlacedRow]:
    """All rows of a source with their places; no two rows have the same.

    Raises:
        DataError: there is nothing there, it is broken as a whole, it has no such split, or needs a library.
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
    """The files that hold the rows of a source, in order.

    Raises:
        DataError: as ``read_source``.
    """
    base, split = split_of(source.path)
    if is_hub_name(source.path) or _is_saved(Path(base)):
        return [Path(entry["filename"]) for entry in _data_set(source).cache_files]
    return _files(Path(base), split)


def media_base(source: SourceConfig) -> Path:
    """Where relative media paths of a source start that names no ``media_root``: the directory of its rows; the
    working directory for a data set on the Hub."""
    if is_hub_name(source.path):
        return Path()
    path = Path(split_of(source.path)[0])
    return path if path.is_dir() else path.parent


def _files(path: Path, split: str) -> list[Path]:
    if not path.is_dir():
        if split not in ("", "train"):  # a file is a data set of one split, which ``datasets`` calls train
            raise DataError(f"{path}: is one file and has no split {split!r} - leave @{split} away")
        return [path]
    rows = sorted(file for file in path.rglob("*") if file.suffix in ROW_SUFFIXES and _holds_rows(file, path))
    if not rows:
        raise DataError(f"{path}: is a directory without a JSON, JSONL or Parquet file - name where the rows are")
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
    """Whether a file is one of rows, by its name and place: what is hidden, describes data, lists the frames of a video
    or lies in the directory of a run is none."""
    if file.name in _DESCRIPTIONS or is_frame_list(file.name) or not file.is_file():
        return False
    inside = file.relative_to(below)
    if any(part.startswith(".") for part in inside.parts):
        return False
    return not any((below / parent / _RUN_MARK).exists() for parent in inside.parents)


def _is_of(file: Path, split: str) -> bool:
    """By its name, ``train-00000-of-00004.parquet``, or by a directory that it lies in."""
    rest = file.stem.removeprefix(split)
    return split in file.parent.parts or (rest != file.stem and not rest[:1].isalpha())


def _is_saved(path: Path) -> bool:
    """Whether a directory was written by ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _data_set(source: SourceConfig) -> Any:
    """The ``datasets.Dataset`` of a source, its media not decoded."""
    try:
        import datasets
    except ImportError as error:
        what = f"{source.path}: is read by the datasets library, which does not import ({error})"
        raise DataError(f"{what} - pip install 'easyvideor1[datasets]'") from error
    base, split = split_of(source.path)
    try:
        if is_hub_name(source.path):
            return datasets.load_dataset(base, source.subset or None, split=split)
        found = datasets.load_from_disk(base)
    except Exception as error:  # of the library, of the network, of the file system: it documents none of them
        what = " ".join(str(error).split()) or type(error).__name__
        remedy = "there is no such path here, either" if is_hub_name(source.path) else "save it again"
        raise DataError(f"{source.path}: the data set cannot be loaded: {what[:300]} - {remedy}") from error
    if not isinstance(found, datasets.DatasetDict):
        if split not in ("", str(found.split or "train")):
            raise DataError(f"{base}: is of the split {found.split}, not {split!r} - leave @{split} away")
        return found
    name = split or (next(iter(found)) if len(found) == 1 else "")
    if name not in found:
        asked = f"has no split {name!r}" if name else "has several splits"
        raise DataError(f"{base}: {asked} - write {' or '.join(f'{base}@{known}' for known in found)}")
    return found[name]


def _arrow_rows(data_set: Any) -> Iterator[dict[str, Any]]:
    for table in data_set.with_format("arrow").iter(batch_size=_BATCH):  # Arrow decodes no picture
        for row in table.to_pylist():
            yield {name: without_nulls(value) for name, value in row.items()}
