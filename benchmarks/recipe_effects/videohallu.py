"""VideoHallu: ordinary clips before impossible ones, against impossible clips alone with as many steps."""

from benchmarks.recipe_effect import Effect, Sides, Trial, greedy_accuracy


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy on impossible clips and their controls."""
    steps = trial.steps(small=12, full=30)
    stages = [f"stages.real.steps={steps}", f"stages.impossible.steps={steps}"]
    ordered = trial.run("videohallu", stages)
    source = 'stages.real.sources=["runs/videohallu/impossible/train.jsonl"]'
    alone = trial.run("videohallu", [*stages, source], label="alone")
    return Sides(baseline=greedy_accuracy(alone, "02-impossible"), recipe=greedy_accuracy(ordered, "02-impossible"))


EFFECT = Effect(
    recipe="videohallu",
    measures="accuracy on impossible clips, real first minus impossible alone",
    measure=measure,
    claimed=False,  # one seed: a constant answer, 50%
    equal="steps, responses and updates",
    tests=("tests/recipes/test_videohallu.py", "tests/rewards/test_judge.py"),
)
