"""VST: a question about what is gone, answered from notes, against the last clip alone after as many steps."""

from benchmarks.recipe_effect import Effect, Sides, Trial, greedy_accuracy


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy."""
    steps = [f"stages.rl.steps={trial.steps(small=12, full=30)}"]
    return Sides(
        baseline=greedy_accuracy(trial.run("vst/last_clip", steps, label="last-clip"), "02-rl"),
        recipe=greedy_accuracy(trial.run("vst", steps), "02-rl"),
    )


EFFECT = Effect(
    recipe="vst",
    measures="test accuracy on what only an early clip shows, notes minus the last clip alone",
    measure=measure,
    claimed=False,  # 84% against 16% with one seed; no interval yet
    equal="steps; not responses: two turns against one",
    by_construction=(
        "The baseline is never shown the evidence, so it can only guess; what is left to see is whether notes carry "
        "the colour."
    ),
    tests=("tests/recipes/test_vst.py", "tests/rollout/test_streaming.py", "tests/video/test_part.py"),
)
