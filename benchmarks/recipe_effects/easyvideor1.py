"""EasyVideoR1: GRPO with the published settings against the checkpoint that it starts from."""

from benchmarks.recipe_effect import Effect, Sides, Trial, greedy_accuracy


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy before and after."""
    run = trial.run("easyvideor1", [f"stages.rl.steps={trial.steps(small=10, full=40)}"])
    return Sides(baseline=greedy_accuracy(run, "before"), recipe=greedy_accuracy(run, "01-rl"))


EFFECT = Effect(
    recipe="easyvideor1",
    measures="test accuracy, after GRPO minus before",
    measure=measure,
    claimed=True,  # three seeds, benchmarks/results/2026-11-30-recipes.md
    equal="nothing: a checkpoint before and after its training",
    tests=("tests/recipes/test_easyvideor1.py", "tests/config/test_published.py"),
)
