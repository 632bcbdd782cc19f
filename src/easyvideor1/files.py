"""Writing so that a reader never sees half a file, whatever happens to the writer."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any


def write_atomic(path: str | Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Replace ``path`` whole or not at all: a temporary file beside it, fsync, rename.

    Args:
        path: the file; its directory is created.
        content: bytes, or a function that writes them to an open file.

    Raises:
        OSError: the directory cannot be written, or the disk is full; what was there before is intact.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files for the owner alone
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """``write_atomic`` of UTF-8 text."""
    write_atomic(path, text.encode())


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """``write_atomic`` of indented JSON. A NaN is an error: other readers would refuse the file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_directory(path: str | Path, fill: Callable[[Path], None]) -> None:
    """Replace a directory whole or not at all: ``fill`` writes into a temporary one beside it, which is then renamed.

    Raises:
        OSError: the disk refused; what was there before is intact.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        fill(temporary)
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        temporary.chmod(0o777 & ~_umask())
        if target.exists():  # a directory cannot be renamed onto one that is not empty
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".old"))
            target.rename(old / "was")
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
