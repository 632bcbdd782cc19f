"""STVG-R1: the right number, with numbers painted on the objects against the same videos without them."""

import json
from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial


def measure(trial: Trial) -> Sides:
    """Share of the test questions that are answered with the right number, after both stages."""
    steps = [f"stages.sft.steps={trial.steps(small=60, full=120)}", f"stages.rl.steps={trial.steps(small=10, full=60)}"]
    bare = trial.run("stvg_r1", [*steps, "data.prepare.2.numbers=false"], label="bare")
    return Sides(baseline=_right(bare), recipe=_right(trial.run("stvg_r1", steps)))


def _right(run: Path) -> float:
    found = json.loads((run / "evaluations" / "02-rl.json").read_text(encoding="utf-8"))
    return float(found["overall"]["parts"]["right_id"])


EFFECT = Effect(
    recipe="stvg_r1",
    measures="share of right numbers on the test questions, numbers painted over not painted",
    measure=measure,
    tests=("tests/recipes/test_stvg_r1.py", "tests/video/test_effects.py", "tests/video/test_tracks.py"),
)
