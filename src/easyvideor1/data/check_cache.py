"""Checks that passed at earlier starts, recorded on disk, so that only changed rows are checked again."""

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

#: The name of the file in the directory of a frame store.
CHECK_CACHE_NAME = "checks.memo"
#: Maximum number of recorded checks; the least recently used are dropped first. A row has two, so this is half a
#: million rows in 16 MiB.
MAX_CHECKS = 1 << 20

#: Start of the file. The number changes with the format.
_HEAD = b"evr1-checks/1\n"
_DIGEST_BYTES = 16
_SUM_BYTES = 32
#: Packages besides this one that checks of rows and prompts depend on.
_PACKAGES = ("transformers", "tokenizers", "jinja2", "numpy", "av", "pillow")


class CheckCache:
    """A set of digests in one file that any number of processes may read and write.

    A digest (``check_key``) identifies a check with everything that determines its result. Only passed checks are
    recorded: a failed check runs again at every start, so its message is current. The file is replaced as a whole,
        under
    a lock, and has a checksum. A damaged file causes one warning and is ignored; the next ``save`` replaces it. A
    faulty file is never an error.

    Args:
        path: the file; the first ``save`` with new checks creates it and its directory.
        most: maximum number of digests.
    """

    def __init__(self, path: str | Path, *, most: int = MAX_CHECKS) -> None:
        self.path = Path(path)
        self._most = most
        self._there: frozenset[bytes] | None = None
        self._used: dict[bytes, None] = {}
        self._warned = False

    def knows(self, key: bytes | None) -> bool:
        """Whether this check has passed; False for ``None``."""
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
        """Record a passed check at the next ``save``; ignores ``None``."""
        if key is not None:
            self._used[key] = None

    def save(self) -> None:
        """Add new checks to the file, and drop what was read from it."""
        there, used = self._there or frozenset(), self._used
        self._there, self._used = None, {}
        if used.keys() <= there:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked_file(self.path):
                kept = [key for key in self._read() if key not in used]  # other processes may have written since
                body = b"".join([*kept, *used][-self._most :])
                write_atomic(self.path, _HEAD + hashlib.sha256(body).digest() + body)
        except OSError as error:
            self._warn(f"{self.path} cannot be written: {error}; the next start checks these rows again")

    def _read(self) -> list[bytes]:
        """The digests of the file, the most recently used last; none if the file is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"{self.path} cannot be read: {error}; all rows are checked again")
            return []
        if not content:
            return []  # another process has just created it
        start = len(_HEAD) + _SUM_BYTES
        body = content[start:]
        whole = content.startswith(_HEAD) and content[len(_HEAD) : start] == hashlib.sha256(body).digest()
        if not whole or len(body) % _DIGEST_BYTES:
            self._warn(f"{self.path} is damaged and ignored: all rows are checked again, and it is rewritten")
            return []
        return [body[at : at + _DIGEST_BYTES] for at in range(0, len(body), _DIGEST_BYTES)]

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(text, stacklevel=3)


def check_key(kind: str, *values: object) -> bytes:
    """The digest of a check: of its kind, of all values that determine its result, and of the code.

    Args:
        kind: kind of check.
        values: plain values: numbers, text, null, and tuples, lists and dictionaries of these. ``repr`` distinguishes
            all of them, such as a tuple from a list and the key 1 from the key "1", which JSON does not.
    """
    content = repr((kind, code_identity(), values)).encode()
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


@functools.cache
def code_identity() -> str:
    """Identifies the code behind a check: the files of this package, Python, and the packages involved."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for file in sorted(package.rglob("*.py")):  # the version does not distinguish two states of a checkout
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
    """``rewards.check_answer`` with one setting of ``coordinates``, skipped for what passed at earlier starts."""

    coordinates: Scale | None = None
    check_cache: CheckCache | None = None

    def __call__(self, task: str, answer: str, options: tuple[str, ...], extra: Mapping[str, Any]) -> None:
        """Accept the reference of a row, or raise an error.

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
        """The key of the check; ``None`` if its inputs have no unique text."""
        if self.check_cache is None:
            return None
        try:
            json.dumps(extra)  # refuses dates, bytes and arrays: the text of a large array omits most of it
            return check_key("reference", task, answer, options, extra, self.coordinates)
        except (TypeError, ValueError, RecursionError):
            return None
