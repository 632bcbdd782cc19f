"""Scene-R1: rewards of each turn by themselves, against the advantage of their mean for both turns."""

from benchmarks.recipe_effect import Effect, Sides, Trial, greedy_accuracy


def measure(trial: Trial) -> Sides:
    """Mean of temporal IoU and box IoU on the test questions."""
    steps = [f"stages.rl.steps={trial.steps(small=10, full=30)}"]
    together = trial.run("scene_r1", [*steps, "stages.rl.advantage=grpo"], label="broadcast")
    return Sides(
        baseline=greedy_accuracy(together, "02-rl"), recipe=greedy_accuracy(trial.run("scene_r1", steps), "02-rl")
    )


EFFECT = Effect(
    recipe="scene_r1",
    measures="mean of temporal and box IoU, an advantage per turn minus one for both",
    measure=measure,
    claimed=False,  # not measured yet
    equal="steps, responses and updates",
    tests=("tests/recipes/test_scene_r1.py", "tests/rollout/test_span_then_frames.py"),
)
