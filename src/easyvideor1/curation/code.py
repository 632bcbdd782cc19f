"""Digests of the user's own code, by which a kept result tells that it was made by other code."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from easyvideor1.files import file_digest
from easyvideor1.registry import load_attribute

_OURS = __name__.partition(".")[0]


def code_digest(target: str) -> str | None:
    """The digest of the code of ``module:attr``: of the module's file, or of all files of the package it belongs to;
    ``None`` for code of this package, whose version tells.

    What it imports from elsewhere is not covered.

    Raises:
        ConfigError: it cannot be imported.
        OSError: a file cannot be read.
    """
    load_attribute(target)
    package = sys.modules[target.partition(":")[0].partition(".")[0]]
    if package.__name__ == _OURS:
        return None
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and package.__file__:
        files = [Path(package.__file__)]
    return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()
