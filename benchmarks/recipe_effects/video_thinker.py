"""Video-Thinker: GRPO after supervised learning, against supervised learning alone."""

from benchmarks.recipe_effect import Effect, Sides, Trial, test_accuracy


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy after either stage."""
    sft, grpo = trial.steps(small=120, full=200), trial.steps(small=12, full=40)
    run = trial.run("video_thinker", [f"stages.sft.steps={sft}", f"stages.grpo.steps={grpo}"])
    return Sides(baseline=test_accuracy(run, "01-sft"), recipe=test_accuracy(run, "02-grpo"))


EFFECT = Effect(
    recipe="video_thinker",
    measures="test accuracy, SFT then GRPO over SFT alone",
    measure=measure,
    tests=(
        "tests/recipes/test_video_thinker.py",
        "tests/rewards/test_tag_contents.py",
        "tests/curation/test_filters.py",
    ),
)
