"""Finds the media that questions name among the files of a release."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: A video that is named with one of these may be there with another: releases fetched again have other containers.
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_IMAGES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a medium is; without a ``path``, ``reason`` says why it was not found."""

    path: Path | None
    reason: str = ""


class MediaIndex:
    """The files below some directories, and the directories of frames among them, each directory walked once."""

    def __init__(self, roots: Sequence[Path], *, without: Path | None = None) -> None:
        """Walk ``roots``, the most important one first, and leave out the directory ``without``."""
        self.roots = tuple(roots)
        self.files: list[Path] = []
        self._by_name: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
        for root in roots:
            self._walk(root, None if root == without else without)

    def _walk(self, root: Path, without: Path | None) -> None:
        seen: set[str] = set()
        for place, directories, names in os.walk(root, followlinks=True):
            real = os.path.realpath(place)
            if real in seen or (without is not None and Path(place) == without):
                directories.clear()
                continue
            seen.add(real)
            directories[:] = sorted(each for each in directories if not each.startswith("."))
            here = Path(place)
            relative = here.relative_to(root).as_posix()
            for name in sorted(names):
                if not name.startswith("."):
                    self.files.append(here / name)
                    self._by_name[name].append((f"/{relative}/{name}", here / name))
            if here != root and any(PurePosixPath(name).suffix.lower() in _IMAGES for name in names):
                self._by_name[here.name].append((f"/{relative}", here))

    def find(self, wanted: str, directories: Sequence[str], *, by_name: bool = True) -> Lookup:
        """A medium: below one of the directories, else at the end of any path, else by its name alone.

        Args:
            wanted: path as the release writes it, or an absolute path.
            directories: of the layout, below each root.
            by_name: whether the name alone may stand for it; not if another medium that is wanted has the same.
        """
        path = PurePosixPath(wanted.replace("\\", "/"))
        if path.is_absolute() and Path(wanted).exists():
            return Lookup(Path(wanted))
        parts = [part for part in path.parts if part not in ("/", ".")]
        if ".." in parts or not parts:
            return Lookup(None, "its path leaves the release")
        names = _names("/".join(parts))
        for name in names:
            for root in self.roots:
                for directory in directories:
                    if (found := root / directory / name).exists():
                        return _one([found], name)
        for name in names:
            if found_at := self._ending(f"/{name}"):
                return _one(found_at, name)
        if by_name:
            for name in _names(parts[-1]):
                if found_at := [place for _, place in self._by_name.get(name, ())]:
                    return _one(found_at, name)
        return Lookup(None, "is not there")

    def _ending(self, end: str) -> list[Path]:
        name = end.rpartition("/")[2]
        return [place for relative, place in self._by_name.get(name, ()) if relative.endswith(end)]


def _names(wanted: str) -> list[str]:
    """A path, and the same with other suffixes of videos, if it has one."""
    stem, suffix = os.path.splitext(wanted)  # noqa: PTH122 - of a text
    if suffix.lower() not in VIDEO_SUFFIXES:
        return [wanted]
    return list(dict.fromkeys((wanted, *(stem + each for each in VIDEO_SUFFIXES))))


def _one(places: Sequence[Path], name: str) -> Lookup:
    """The first of several copies; files of one name that differ in size could be different videos."""
    if len({place.stat().st_size if place.is_file() else str(place) for place in places}) > 1:
        return Lookup(None, f"{len(places)} different files are called {name}: {places[0]}, {places[1]}")
    if fault := _fault(places[0]):
        return Lookup(None, f"{places[0]} {fault}")
    return Lookup(places[0])


def _fault(place: Path) -> str:
    """Why a file that is there is no medium: what interrupted downloads leave; empty if it may be one."""
    if not place.is_file() or (size := place.stat().st_size) > _POINTER_BYTES:
        return ""
    if size == 0:
        return "is empty; download it again"
    with place.open("rb") as file:
        pointer = file.read(len(_POINTER)) == _POINTER
    return "is a pointer of Git LFS; fetch the file itself with git lfs pull" if pointer else ""


def shared_names(wanted: Iterable[str]) -> frozenset[str]:
    """Names without suffix that several of the wanted paths have."""
    paths = {PurePosixPath(each.replace("\\", "/")) for each in wanted}
    return frozenset(name for name, count in Counter(path.stem for path in paths).items() if count > 1)
