"""Write files so that a reader never sees half of one, whatever happens to the writer."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from easyvideor1.types import DataError

#: How writers in Rust (safetensors, tokenizers) say what the system refused, in errors of their own types.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
#: Names of what a killed writer leaves behind.
_LEFT_BEHIND = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>tmp|old)(\.\w+)?", re.DOTALL)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path with the same suffix, for writers that open files by name; it becomes ``path`` at the end.

    When the block raises, ``path`` is left as it was and the temporary file is removed.

    Raises:
        OSError: the directory does not exist or cannot be written, or the disk is full.
    """
    target = Path(path)
    # The suffix stays last, because encoders choose the format by it.
    with _replacing(target, _beside(target, f"tmp{target.suffix}")) as temporary:
        yield temporary


def write_atomic(path: str | Path, content: bytes | Callable[[IO[bytes]], object], *, durable: bool = True) -> None:
    """Replace ``path`` whole or not at all: a temporary file beside it, fsync, rename.

    Args:
        path: the file; its directory is created.
        content: bytes, or a function that writes them to an open file.
        durable: whether it is on the disk when this returns. Without, a crash of the machine, not of the process, may
            leave it empty; but nothing waits for the disk.

    Raises:
        OSError: the directory cannot be written, or the disk is full; what was there before is intact.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(target, _beside(target, "tmp"), durable) as temporary, temporary.open("xb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


def append(path: str | Path, line: bytes) -> None:
    """Add a line to a file, which is created with its directory; it is on the disk when this returns.

    A kill or a full disk in the middle leaves a line without its end, which readers have to pass over.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _name(error, target)
        raise


def check_writable(directory: str | Path) -> None:
    """Make sure that files can be put into a directory, which need not be there yet, before hours go into them.

    Leaves nothing behind.

    Raises:
        OSError: it cannot be made or written, or is no directory.
    """
    there = Path(directory).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    probe = _beside(there / "writable", "tmp")
    try:
        probe.open("xb").close()
    except OSError as error:
        error.filename = str(directory)
        raise
    probe.unlink()


def write_text(path: str | Path, text: str) -> None:
    """``write_atomic`` of UTF-8 text."""
    write_atomic(path, text.encode())


def json_bytes(value: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """A JSON object and a newline. A NaN is an error: other readers would refuse the file.

    Raises:
        ValueError: a number is not finite.
    """
    try:
        return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a JSON file of the user may hold: keep it as its escape
        return (json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False) + "\n").encode()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own ``checksum`` in it, by which ``is_sealed`` knows it again after it was read."""
    return {**value, "checksum": _checksum(value)}


def is_sealed(value: Any) -> bool:
    """Whether what was read is an object as ``seal`` made it; False without a checksum."""
    return isinstance(value, Mapping) and value.get("checksum") == _checksum(value)


def _checksum(value: Mapping[str, Any]) -> str:
    text = json.dumps({key: entry for key, entry in value.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """``write_atomic`` of indented JSON (see ``json_bytes``)."""
    write_atomic(path, json_bytes(value, indent=2))


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


def write_directory(path: str | Path, fill: Callable[[Path], None]) -> None:
    """Put a whole directory in place: ``fill`` writes into a temporary one beside it, which is then renamed.

    A directory that is there already is moved aside first, for none can be renamed onto one that is not empty. A kill
    in that instant leaves it under a temporary name, from which ``sweep`` brings it back.

    Raises:
        OSError: the disk refused; what was there before is intact.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(target, "tmp"), _beside(target, "old")
    temporary.mkdir()
    try:
        fill(temporary)
        for entry in sorted(temporary.rglob("*")):
            _sync(entry)
        _sync(temporary)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        _sync(target.parent)
    except BaseException as error:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        _name(error, target)
        number = _OS_ERROR.search(str(error))
        if isinstance(error, Exception) and number and not isinstance(error, OSError):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(target)) from error
        raise
    if old.exists():
        shutil.rmtree(old)


def sweep(directory: str | Path) -> int:
    """Clear away what killed writers left in a directory and below; returns how many entries.

    Only for directories that nobody else writes to at the moment.
    """
    swept = 0
    for entry in temporary_files(directory):
        found = _LEFT_BEHIND.fullmatch(entry.name)
        if found is None or not entry.exists():  # a parent was swept before it
            continue
        target = entry.with_name(found["name"])
        if found["kind"] == "old" and not target.exists():
            entry.rename(target)
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
        swept += 1
    return swept


def sweep_beside(path: str | Path) -> None:
    """Clear away what killed writers of ``path`` left beside it, only while nobody else writes it."""
    target = Path(path)
    for entry in target.parent.glob(f".{glob.escape(target.name)}.*"):
        found = _LEFT_BEHIND.fullmatch(entry.name)
        if found is None or (found["name"], found["kind"]) != (target.name, "tmp"):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def temporary_files(directory: str | Path) -> list[Path]:
    """Temporary files of killed and of running writers in a directory and below."""
    return [entry for entry in sorted(Path(directory).rglob(".*")) if _LEFT_BEHIND.fullmatch(entry.name)]


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{kind}")


@contextmanager
def _replacing(target: Path, temporary: Path, durable: bool = True) -> Iterator[Path]:
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _name(error, target)
        raise
    if durable:
        _sync(target.parent)


def _name(error: BaseException, target: Path) -> None:
    """Say which file it was: a refused write, as on a full disk, does not know by itself."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted key, as overrides name them."""
    if isinstance(value, Mapping):
        items = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        items = [(str(index), entry) for index, entry in enumerate(value)]
    else:
        return {path: value}
    return {key: leaf for name, entry in items for key, leaf in flat(entry, f"{path}.{name}".lstrip(".")).items()}
