"""Replies of the judge on disk: one small file each, written whole, so any number of processes may share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyvideor1.files import is_sealed, json_bytes, seal, write_atomic

#: Part of every key: raised when a reply would be read in another way.
_VERSION = 1


def cache_key(request: Mapping[str, Any]) -> str:
    """The name of a request: SHA-256 of everything that decides its reply."""
    text = json.dumps({"version": _VERSION, "request": request}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ReplyCache:
    """Maps keys of ``cache_key`` to replies. Without a directory it keeps nothing."""

    def __init__(self, directory: str | None) -> None:
        self._root = None if directory is None else Path(directory)

    def get(self, key: str) -> str | None:
        """The reply; ``None`` if there is none or its file is damaged, which is then written anew."""
        if self._root is None:
            return None
        try:
            entry = json.loads(self._path(self._root, key).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        whole = is_sealed(entry) and entry.get("key") == key
        found = entry.get("reply") if whole else None
        return found if isinstance(found, str) else None

    def put(self, key: str, reply: str, model: str) -> None:
        """Keep a reply; who writes last wins, and every reader sees one or the other.

        Raises:
            OSError: the directory cannot be written.
        """
        if self._root is not None:
            write_atomic(self._path(self._root, key), json_bytes(seal({"key": key, "model": model, "reply": reply})))

    @staticmethod
    def _path(root: Path, key: str) -> Path:
        return root / key[:2] / f"{key}.json"
