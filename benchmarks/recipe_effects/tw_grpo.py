"""TW-GRPO: right answers to questions with several right options, soft reward against right-or-wrong in training.

That the soft reward makes fewer groups flat is not measured: by construction it tells apart all responses that
right-or-wrong tells apart, so on equal rollouts the share of flat groups cannot rise.
"""

from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial, accuracy, evaluation_rows


def measure(trial: Trial) -> Sides:
    """Share of the inverted test questions that are answered with all right options and no other."""
    steps = f"stages.rl.steps={trial.steps(small=12, full=60)}"
    exact = trial.run("tw_grpo", [steps, "rewards.forms.multiple_choice=exact"], label="exact")
    return Sides(baseline=_all_right(exact), recipe=_all_right(trial.run("tw_grpo", [steps])))


def _all_right(run: Path) -> float:
    """Accuracy is 1 for exactly the right options under either reward, so one rule measures both runs."""
    rows = evaluation_rows(run, "01-rl")
    return sum(accuracy(row) == 1 for row in rows) / len(rows)


EFFECT = Effect(
    recipe="tw_grpo",
    measures="accuracy on inverted test questions, soft reward minus right-or-wrong in training",
    measure=measure,
    claimed=False,  # not measured yet
    equal="steps, responses and updates",
    tests=(
        "tests/recipes/test_tw_grpo.py",
        "tests/algorithms/test_weighters.py",
        "tests/algorithms/test_micro_batches.py",
        "tests/data/test_inversion.py",
    ),
)
