"""The runs and evaluations that a viewer shows. They may appear, grow and break while it looks at them."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from easyvideor1.evaluation.certificate import CERTIFICATE
from easyvideor1.evaluation.history import named_directory
from easyvideor1.records.reading import stage_directories
from easyvideor1.types import DataError
from easyvideor1.video import FrameStore

Kind = Literal["run", "evaluation"]

#: Directories that hold many files and neither runs nor evaluations.
_SKIPPED = re.compile(r"\..*|stages|checkpoints|rollouts|frames|node_modules|__pycache__|evr1-cache")
#: Parts of a frame store, by the name that it gives them and the files in them.
_PART, _STORED = re.compile("[0-9a-f]{2}"), ".safetensors"
#: Keys that would be other pages: ``/runs/compare``.
_RESERVED = frozenset({"compare", "version"})
#: Directories below a place that are searched.
_DEEPEST = 8
_STAGE = re.compile(r"\d+-.+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A run directory, or the directory of an evaluation with its certificate.

    ``key`` stands for it in addresses: letters, digits, ``.``, ``_`` and ``-``. ``name`` is shown.
    """

    key: str
    name: str
    path: Path
    kind: Kind


class Library:
    """What is at or below some places. It looks again when it is asked, at most once in ``every`` seconds.

    An entry keeps its key as long as the library lives.

    Args:
        places: directories of runs or evaluations, or directories above them.
        every: seconds.
    """

    def __init__(self, places: Sequence[Path], *, every: float = 2.0) -> None:
        self.places = tuple(places)
        self.every = every
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._found: dict[Path, Entry] = {}
        self._keys: dict[str, Path] = {}
        self._there: tuple[Entry, ...] = ()

    def entries(self, kind: Kind | None = None) -> tuple[Entry, ...]:
        """What is there now, in the order of the places and of their names."""
        with self._lock:
            if time.monotonic() - self._looked >= self.every:
                self._there = tuple(self._look())
                self._looked = time.monotonic()
            found = self._there
        return tuple(entry for entry in found if kind is None or entry.kind == kind)

    def runs(self) -> tuple[Entry, ...]:
        return self.entries("run")

    def evaluations(self) -> tuple[Entry, ...]:
        """Directories with a certificate, also those within runs."""
        return self.entries("evaluation")

    def entry(self, key: str, kind: Kind | None = None) -> Entry:
        """The entry of a key.

        Raises:
            DataError: there is none, or it is gone.
        """
        for entry in self.entries(kind):
            if entry.key == key:
                return entry
        what = kind or "run or evaluation"
        where = ", ".join(str(place) for place in self.places)
        raise DataError(f"there is no {what} {key[:120]!r} below {where}; it was moved, or the link is wrong")

    def _look(self) -> Iterator[Entry]:
        seen: set[Path] = set()
        for place in self.places:
            for path, kind in _walk(place):
                real = path.resolve()
                if real in seen:
                    continue
                seen.add(real)
                yield self._found.get(real) or self._add(real, path, place, kind)

    def _add(self, real: Path, path: Path, place: Path, kind: Kind) -> Entry:
        """Name something new: by its path below the place, with its digest where the name is taken."""
        name = path.relative_to(place).as_posix() if path != place else real.name
        taken = {entry.name for entry in self._found.values()}
        for parent in real.parents:
            if name not in taken:
                break
            name = real.relative_to(parent).as_posix()
        key = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or kind
        if key in self._keys or key in _RESERVED:
            key = f"{key}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}"
        self._keys[key] = real
        self._found[real] = Entry(key, name, path, kind)
        return self._found[real]


def _walk(place: Path, depth: int = 0, above: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, Kind]]:
    """Runs and evaluations at or below a directory; directories that cannot be read are left out."""
    try:
        with os.scandir(place) as found:
            children = sorted(found, key=lambda child: child.name)
        real = place.resolve()
    except OSError:
        return
    names = {child.name for child in children}
    if CERTIFICATE in names:
        yield place, "evaluation"
    if _is_run(place, names):
        yield place, "run"
        yield from _walk(place / "evaluations", depth + 1, above | {real})
        return
    if depth >= _DEEPEST:
        return
    for child in children:
        path = place / child.name
        if not _is_directory(child) or _is_skipped(path):
            continue
        if not (child.is_symlink() and path.resolve() in above | {real}):
            yield from _walk(path, depth + 1, above | {real})


def _is_skipped(path: Path) -> bool:
    """Whether a directory holds no runs, by its name and, where that may be one of a run, by its first files."""
    if _PART.fullmatch(path.name):
        try:
            with os.scandir(path) as found:
                return any(child.name.endswith(_STORED) for child in itertools.islice(found, 8))
        except OSError:
            return True
    return bool(_SKIPPED.fullmatch(path.name)) and not (path / "run.json").exists()


def _is_directory(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_run(place: Path, names: set[str]) -> bool:
    """Whether a directory with these names is a run, be it broken or just begun."""
    if "config.yaml" in names and names & {"run.json", "stages", "evaluations", "data_report.json", ".lock"}:
        return True
    if "run.json" in names and names & {"stages", "evaluations"}:
        return True
    return "stages" in names and any(_STAGE.fullmatch(stage.name) for stage in stage_directories(place))


def fingerprint(files: Iterable[Path]) -> str:
    """A digest of which files there are, and of their sizes and times; it changes when one of them does."""
    found = hashlib.sha256()
    for path in files:
        try:
            state = path.stat()
        except OSError:
            continue
        found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:24]


def run_fingerprint(run: Path) -> str:
    """A digest that changes when a run has made a step, an evaluation, a warning or a start."""
    files = [run / name for name in ("config.yaml", "run.json", "data_report.json", "summary.json")]
    for stage in stage_directories(run):
        files += [stage / name for name in ("metrics.jsonl", "timings.jsonl", "canary.jsonl", "best.json", "rollouts")]
    files += sorted((run / "evaluations").glob("*.json")) + sorted((run / "evaluations").glob("*/*.json"))
    return fingerprint(files)


def run_config(run: Path) -> dict[str, Any]:
    """The ``config.yaml`` of a run as it was written, unchecked; empty if it is missing or damaged."""
    try:
        found = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def setting(config: Mapping[str, Any], *names: str) -> Any:
    """A setting by the names that lead to it; ``None`` if it is not there."""
    found: Any = config
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def frame_store(run: Path) -> FrameStore | None:
    """The frame store of a run's configuration; ``None`` if the configuration names none that is there."""
    directory = named_directory(run, setting(run_config(run), "cache", "dir"))
    return FrameStore(directory) if directory else None
