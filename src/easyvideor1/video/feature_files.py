"""Where kept features lie: beside the frames, a file per medium, so that looking after a cache counts them as well.

What is in the files is the matter of ``easyvideor1.families.features``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: The directory of features in that of a cache.
FEATURES_NAME = "features"
FEATURES_SUFFIX = ".safetensors"

_NAME = re.compile(rf"(?P<key>[0-9a-f]{{64}}){re.escape(FEATURES_SUFFIX)}")


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """The features of one medium. ``size`` is in bytes; ``used`` is the time of its last use, in epoch seconds."""

    path: Path
    key: str
    size: int
    used: float


def feature_path(directory: Path, key: str) -> Path:
    """Where the features of a key lie or would lie, ``directory`` being the one of all features."""
    return directory / key[:2] / f"{key}{FEATURES_SUFFIX}"


def feature_files(directory: Path) -> Iterator[FeatureFile]:
    """All files of features, in order of their keys."""
    for path in sorted(directory.glob(f"[0-9a-f][0-9a-f]/*{FEATURES_SUFFIX}")):
        if (found := feature_file(path)) is not None:
            yield found


def feature_file(path: Path) -> FeatureFile | None:
    """The file ``path``; None when it is not there, or holds no features by its name."""
    name = _NAME.fullmatch(path.name)
    if name is not None:
        with suppress(FileNotFoundError):  # removed by another process in between
            status = path.stat()
            return FeatureFile(path, name["key"], status.st_size, status.st_mtime)
    return None
