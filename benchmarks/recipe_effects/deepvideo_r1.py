"""DeepVideo-R1: flat groups, with difficulty-aware augmentation against the same objective without."""

from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial, metrics_of


def measure(trial: Trial) -> Sides:
    """Share of flat groups from the second visit of a sample on."""
    steps = f"stages.rl.steps={trial.steps(small=18, full=60)}"
    plain = trial.run("deepvideo_r1", [steps, "stages.rl.transforms=[]"], label="plain")
    return Sides(baseline=_flat(plain), recipe=_flat(trial.run("deepvideo_r1", [steps])))


def _flat(run: Path) -> float:
    used, made = (metrics_of(run, "01-rl", f"groups/{name}")[6:] for name in ("used", "all"))
    return 1.0 - sum(used) / sum(made)


EFFECT = Effect(
    recipe="deepvideo_r1",
    measures="share of flat groups, augmented minus not augmented",
    measure=measure,
    claimed=True,  # three seeds, benchmarks/results/2026-11-30-recipes.md
    equal="steps, responses and updates",
    tests=(
        "tests/recipes/test_deepvideo_r1.py",
        "tests/data/test_curricula.py",
        "tests/data/test_media_transforms.py",
        "tests/algorithms/test_sequence_objectives.py",
    ),
    expected="lower",
)
