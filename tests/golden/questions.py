"""One question of every kind that the toy world asks, as rows and as the samples that a run makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .compare import read_lines
from .entries import KIND_NAMES, WorldSpec, write_world


def write_questions(work: Path) -> str:
    """Write the world into `work` unless it is there; returns the file with the first row of every kind."""
    file = work / "questions" / "one_of_each.jsonl"
    if not file.exists():
        # Lossless media: nothing depends on the version of an encoder.
        spec = WorldSpec(
            seed=3, train=3 * len(KIND_NAMES), validation=0, test=0, size=(96, 64), container=".mkv", codec="ffv1"
        )
        rows = read_lines(write_world(spec, work / "questions").rows_path("train"))
        first: dict[str, dict[str, Any]] = {}
        for row in rows:
            first.setdefault(row["kind"], row)
        if missing := set(KIND_NAMES) - set(first):
            raise SystemExit(f"the world of golden questions asks nothing of the kinds {sorted(missing)}: enlarge it")
        lines = "".join(json.dumps(first[kind]) + "\n" for kind in sorted(first))
        file.write_text(lines, encoding="utf-8")
    return str(file)


def configuration(work: Path, **sections: Any) -> dict[str, Any]:
    """A configuration that reads these questions and nothing else."""
    return {"data": {"train": [{"path": write_questions(work)}]}, "cache": {"dir": str(work / "frames")}, **sections}
