"""The benchmark that a command line names, with its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from easyvideor1.benchmarks.benchmark import BENCHMARKS, Benchmark, load_definitions, published_rows
from easyvideor1.benchmarks.preparation import opened
from easyvideor1.types import ConfigError

_ROW_FILES = (".json", ".jsonl", ".parquet")


def open_benchmark(target: str, workspace: Path | None = None, *, scratch: Path | None = None) -> Benchmark:
    """The benchmark that a command line names.

    ``DATA.jsonl`` (also ``.json``, ``.parquet``) is a file of rows. ``NAME=LOCATION`` is a registered benchmark, or
    ``module:attr`` of the user's own: a public one is read from the directory of its release, or of what ``evr1 eval
    prepare`` made of it. ``NAME`` alone lets a function choose.

    Args:
        target: what the user wrote.
        workspace: where the rows of a release go that was not prepared and cannot be written to.
        scratch: where the rows of any release go that was not prepared; nothing else is written then.

    Raises:
        ConfigError: no such benchmark, a location is missing or not wanted, or a custom function did not return a
            ``Benchmark``.
        DataError: the location has no rows.
    """
    if Path(target).suffix.lower() in _ROW_FILES and "=" not in target:
        return published_rows(target)
    if Path(target).exists():
        kind = "a directory" if Path(target).is_dir() else "another file"
        raise ConfigError(
            f"{target}: give the file of rows (.json, .jsonl or .parquet), not {kind}; a release is named "
            "BENCHMARK=DIRECTORY"
        )
    name, _, location = target.partition("=")
    load_definitions()
    named: object = BENCHMARKS.resolve(name)
    found = named if isinstance(named, Benchmark) else _called(named, location)
    if not isinstance(found, Benchmark):
        raise ConfigError(f"benchmark {name!r} returned {type(found).__name__}; it must return a Benchmark")
    if location and found is named and not found.layouts:
        raise ConfigError(f"benchmark {name!r} names its own rows and takes no location; write --data {name}")
    if found.rows or not found.layouts:
        return found
    if not location:
        raise ConfigError(
            f"benchmark {name!r} needs the directory of its release: {name}=DIRECTORY - get {found.title or name} from "
            f"{found.hub or 'its authors'}"
        )
    return opened(found, Path(location), workspace, scratch=scratch)


def definition_of(target: str) -> Benchmark | None:
    """The benchmark that a command line names, before its rows are looked for; ``None`` for a file of rows, and where a
    function makes the benchmark of its location.

    Raises:
        ConfigError: no such benchmark.
    """
    if Path(target).suffix.lower() in _ROW_FILES or Path(target).exists():
        return None
    load_definitions()
    found: object = BENCHMARKS.resolve(target.partition("=")[0])
    return found if isinstance(found, Benchmark) else None


def _called(item: Any, location: str) -> object:
    """What a function makes of a location; what a user names may also be no function."""
    return item(location) if callable(item) else item
