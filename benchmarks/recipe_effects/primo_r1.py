"""PRIMO R1: the error of a critic of progress that sees both states beside the clip, against the clip alone."""

import json
from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial


def measure(trial: Trial) -> Sides:
    """Mean absolute error in percent on the test clips, after both stages."""
    steps = [f"stages.sft.steps={trial.steps(small=100, full=120)}", f"stages.rl.steps={trial.steps(small=8, full=40)}"]
    clip = ["data.prepare.0.first=false", "data.prepare.0.current=false"]
    alone = trial.run("primo_r1", [*steps, *clip], label="clip")
    return Sides(baseline=_error(alone), recipe=_error(trial.run("primo_r1", steps)))


def _error(run: Path) -> float:
    found = json.loads((run / "evaluations" / "02-rl.json").read_text(encoding="utf-8"))
    return float(found["parts"]["error"])


EFFECT = Effect(
    recipe="primo_r1",
    measures="mean absolute error in percent, with anchors over the clip alone (lower is better)",
    measure=measure,
    tests=("tests/recipes/test_primo_r1.py", "tests/data/test_media_transforms.py", "tests/video/test_part.py"),
    better="lower",
    claimed=False,  # tried once; not measured over seeds yet
)
