"""What passed a check at an earlier start, kept on disk: what has not changed since is not checked again."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1 import __version__, rewards
from easyvideor1.files import write_atomic
from easyvideor1.locks import locked_file
from easyvideor1.rewards.readers.geometry import Scale

#: The file beside the entries of a frame store that remembers what passed.
CHECK_CACHE_NAME = "checks.memo"
#: Checks that are remembered; what was not asked for in the longest time goes first. A row takes two, so this is half a
#: million rows in 16 MiB.
MOST = 1 << 20

#: Begins the file. The number changes whenever the file would be written otherwise.
_HEAD = b"evr1-checks/1\n"
_DIGEST_BYTES = 16
_SUM_BYTES = 32
#: What checks of rows and prompts are made with, beside this package.
_PACKAGES = ("transformers", "tokenizers", "jinja2", "numpy", "av", "pillow")


class CheckCache:
    """A set of digests in one file, which any number of processes may read and write.

    A digest (``check_key``) names a check with all that decides it. Only that it was passed is remembered: a check
    that fails is made again at every start, so every message is fresh, and what is not remembered costs time alone. The
    file is replaced as a whole, under a lock, and carries a checksum. One that is damaged is told once, as a warning,
    and not read; the next ``save`` replaces it. Nothing that is wrong with the file is an error.

    Args:
        path: the file; it is created, with its directory, by the first ``save`` that has something to add.
        most: digests that are kept.
    """

    def __init__(self, path: str | Path, *, most: int = MOST) -> None:
        self.path = Path(path)
        self._most = most
        self._there: frozenset[bytes] | None = None
        self._used: dict[bytes, None] = {}
        self._told = False

    def knows(self, key: bytes | None) -> bool:
        """Whether this check was passed; never for ``None``."""
        if key is None:
            return False
        if self._there is None:
            self._there = frozenset(self._read())
        if key in self._used:
            return True
        if key in self._there:
            self._used[key] = None
            return True
        return False

    def add(self, key: bytes | None) -> None:
        """Remember a check that was passed, once ``save`` is called; nothing is done for ``None``."""
        if key is not None:
            self._used[key] = None

    def save(self) -> None:
        """Add what is new to the file, and let go of what was read of it."""
        there, used = self._there or frozenset(), self._used
        self._there, self._used = None, {}
        if used.keys() <= there:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked_file(self.path):
                kept = [key for key in self._read() if key not in used]  # others may have written since
                body = b"".join([*kept, *used][-self._most :])
                write_atomic(self.path, _HEAD + hashlib.sha256(body).digest() + body)
        except OSError as error:
            self._tell(f"{self.path} cannot be written: {error}; the next start checks these rows again")

    def _read(self) -> list[bytes]:
        """The digests of the file, the one that was used last at the end; none of a file that is not whole."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._tell(f"{self.path} cannot be read: {error}; all rows are checked again")
            return []
        if not content:
            return []  # another process has just created it
        start = len(_HEAD) + _SUM_BYTES
        body = content[start:]
        whole = content.startswith(_HEAD) and content[len(_HEAD) : start] == hashlib.sha256(body).digest()
        if not whole or len(body) % _DIGEST_BYTES:
            self._tell(f"{self.path} is damaged and is not used: all rows are checked again, and it is rewritten")
            return []
        return [body[at : at + _DIGEST_BYTES] for at in range(0, len(body), _DIGEST_BYTES)]

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            warnings.warn(text, stacklevel=3)


def check_key(kind: str, *values: object) -> bytes:
    """The digest of a check: of its kind, of all values that decide it, and of the code that makes it.

    Args:
        kind: of check.
        values: plain ones: numbers, text, null, and tuples, lists and dictionaries of these. ``repr`` tells all of
            them, a tuple from a list and the key 1 from the key "1", which JSON does not.
    """
    content = repr((kind, code_identity(), values)).encode()
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


@functools.cache
def code_identity() -> str:
    """What names the code behind a check: this package file by file, Python, and the packages that take part."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for file in sorted(package.rglob("*.py")):  # the version alone would not tell two states of a checkout apart
        found.update(f"\n{file.relative_to(package)} ".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    for name in _PACKAGES:
        try:
            found.update(f"\n{name} {importlib.metadata.version(name)}".encode())
        except importlib.metadata.PackageNotFoundError:
            found.update(f"\n{name}".encode())
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """``rewards.check_answer`` under one setting of ``coordinates``, with what was ``passed`` at earlier starts."""

    coordinates: Scale | None = None
    check_cache: CheckCache | None = None

    def __call__(self, task: str, answer: str, options: tuple[str, ...], extra: Mapping[str, Any]) -> None:
        """Accept the reference of a row, or say what is wrong with it.

        Raises:
            DataError: as ``rewards.check_answer``.
            ColumnError: likewise.
        """
        key = self._key(task, answer, options, extra)
        if self.check_cache is None or not self.check_cache.knows(key):
            rewards.check_answer(task, answer, options, row=extra, coordinates=self.coordinates)
            if self.check_cache is not None:
                self.check_cache.add(key)

    def _key(self, task: str, answer: str, options: tuple[str, ...], extra: Mapping[str, Any]) -> bytes | None:
        """What decides the check, all of it; ``None`` where that cannot be told."""
        if self.check_cache is None:
            return None
        try:
            json.dumps(extra)  # refuses dates, bytes and arrays: the text of an array, for one, leaves most of it out
            return check_key("reference", task, answer, options, extra, self.coordinates)
        except (TypeError, ValueError, RecursionError):
            return None
