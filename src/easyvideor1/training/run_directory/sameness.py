"""Whether two runs are the same: what must not depend on how often a run was interrupted, file by file."""

from __future__ import annotations

from pathlib import Path

from easyvideor1.files import file_digest

#: Files that hold times, or are drawn from such.
_CLOCKS = {"run.json", "summary.json", "timings.jsonl", "trace.json", "report.html", "curves.png"}


def lasting_files(run_dir: Path) -> dict[str, Path]:
    """The files of a run that an interruption leaves as they would have been, by their names in the run."""
    files = (path for path in sorted(run_dir.rglob("*")) if path.is_file() and path.name not in _CLOCKS)
    return {path.relative_to(run_dir).as_posix(): path for path in files}


def differing_files(run: Path, other: Path) -> list[str]:
    """Names of files that differ between two runs or that one of them lacks; none where a resume was bitwise.

    Weights, optimiser, metrics and rollouts are compared by their SHA-256. To be equal, runs need the same
    configuration (that is compared, too), and, on several ranks, the same layout of these.
    """
    one, two = lasting_files(run), lasting_files(other)
    names = sorted(one.keys() | two.keys())
    return [name for name in names if name not in one or name not in two or not _is_same(one[name], two[name])]


def _is_same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and file_digest(one) == file_digest(other)
