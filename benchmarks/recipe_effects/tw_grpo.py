"""TW-GRPO: groups whose rewards differ, with the soft reward against right-or-wrong on the same questions."""

from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial, metrics_of


def measure(trial: Trial) -> Sides:
    """Share of the groups of a run that have a signal."""
    steps = f"stages.rl.steps={trial.steps(small=12, full=60)}"
    exact = trial.run("tw_grpo", [steps, "rewards.forms.multiple_choice=exact"], label="exact")
    return Sides(baseline=_share(exact), recipe=_share(trial.run("tw_grpo", [steps])))


def _share(run: Path) -> float:
    return sum(metrics_of(run, "01-rl", "groups/used")) / sum(metrics_of(run, "01-rl", "groups/all"))


EFFECT = Effect(
    recipe="tw_grpo",
    measures="share of groups whose rewards differ, soft against right-or-wrong",
    measure=measure,
    tests=(
        "tests/recipes/test_tw_grpo.py",
        "tests/algorithms/test_weighters.py",
        "tests/algorithms/test_micro_batches.py",
        "tests/data/test_inversion.py",
    ),
)
