"""Media files that are named on a command line: single files, whole directories, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from easyvideor1.types import MediaError, MediaKind, MediaRef
from easyvideor1.video.formats import HEAD_BYTES, kinds_of_bytes, kinds_of_name


def find_media(places: Sequence[str], kind: MediaKind) -> list[MediaRef]:
    """The media of ``places``, each once, in order; those of one directory or pattern by name.

    A file that is named is taken whatever it is. Of a directory, and all below it, those files are taken that are of
    ``kind`` by their first bytes, or by their name when the bytes are not recognised (a damaged file is to be found);
    what begins with a dot is left out. A name that is no file may be a pattern, in which ``**`` crosses directories.

    Raises:
        MediaError: a place holds none.
    """
    found: dict[MediaRef, None] = {}
    for place in places:
        paths = list(_files(place, kind))
        found.update({MediaRef(kind, str(path.absolute())): None for path in paths})
        if not paths:
            raise MediaError(
                f"{place!r}: no such file, no {kind} in that directory, and nothing matches it as a pattern",
                path=place,
                reason="missing",
            )
    return list(found)


def _files(place: str, kind: MediaKind) -> Iterator[Path]:
    path = Path(place)
    if not place:  # which would be the working directory, and is rather a variable that was not set
        return
    if path.is_dir():
        for below in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in below.relative_to(path).parts)
            # A link to nowhere is taken by its name: that the file is missing is to be told.
            there = below.is_file() or (below.is_symlink() and not below.exists())
            if not hidden and there and _is(below, kind):
                yield below
    elif path.exists():
        yield path
    else:
        for match in sorted(map(Path, glob.glob(place, recursive=True))):  # noqa: PTH207 (absolute patterns too)
            if match.is_dir():
                yield from _files(str(match), kind)
            else:
                yield match


def _is(path: Path, kind: MediaKind) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        head = b""  # its probing will tell what is wrong with it
    return kind in (kinds_of_bytes(head) or kinds_of_name(str(path)))
