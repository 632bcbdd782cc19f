"""VideoTG-R1: partial labels among the rows that the boundary reflection filter keeps, against all rows."""

import subprocess
import sys
from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial, json_rows


def measure(trial: Trial) -> Sides:
    """Share of partial labels; the warm start is asked, with the seed of the trial."""
    rows = trial.steps(small=128, full=384)
    world = Path("runs/videotg_r1/world")
    _evr1("recipes", "videotg_r1", "--prepare")
    lines = (world / "videotg-train.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    some, kept = world / f"first-{rows}.jsonl", world / f"kept-{rows}-{trial.seed}.jsonl"
    some.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not kept.exists():
        by = "easyvideor1.recipes.videotg_r1:BoundaryReflection"
        settings = [f"data.train.0.path={some}", f"seed={trial.seed}", "threads=1"]
        _evr1("filter", "videotg_r1", *settings, "--out", str(kept), "--by", by, "-k", "4")
    return Sides(baseline=_partial(some), recipe=_partial(kept))


def _evr1(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "easyvideor1.cli", *arguments], check=True, capture_output=True)


def _partial(rows: Path) -> float:
    found = [row["partial"] for row in json_rows(rows)]
    return float(sum(found) / len(found))


EFFECT = Effect(
    recipe="videotg_r1",
    measures="share of partial labels, rows that the filter keeps minus all rows",
    measure=measure,
    claimed=False,  # three seeds, and the interval holds 0: benchmarks/results/2026-11-30-recipes.md
    equal="the rows before the filter; nothing is trained",
    tests=("tests/recipes/test_videotg_r1.py", "tests/data/test_media_transforms.py", "tests/video/test_effects.py"),
    expected="lower",
)
