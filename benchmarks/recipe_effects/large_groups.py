"""Large groups: accuracy on rows that need time, against GRPO with groups of 8 at equal processor time.

The recipe's processor time is measured, its filter included. The steps of the baseline are chosen from its own cost per
step, measured with two short runs. All seconds of a trial are written beside its runs.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial, accuracy, evaluation_rows
from easyvideor1.cli.filter import filter_rows
from easyvideor1.files import write_text

#: Question kinds of the toy world that one frame does not answer.
TIMED = ("mc_direction", "yes_direction", "temporal")
#: Steps of the two short runs.
SHORT, LONGER = 2, 6


def timed_accuracy(run: Path) -> float:
    """Greedy accuracy after training on the test questions that need time."""
    rows = [row for row in evaluation_rows(run, "01-grpo") if row["source"].rpartition("/")[2] in TIMED]
    return sum(map(accuracy, rows)) / len(rows)


def equal_steps(budget: float, short: float, longer: float) -> int:
    """Steps of a run that takes ``budget`` seconds, if ``SHORT`` steps take ``short`` and ``LONGER`` take ``longer``.

    Raises:
        ValueError: more steps did not take longer, or the budget is below that of the short run.
    """
    per_step = (longer - short) / (LONGER - SHORT)
    if per_step <= 0 or budget < short:
        raise ValueError(
            f"{SHORT} steps took {short:.1f} s, {LONGER} took {longer:.1f} s, and the budget is {budget:.1f} s: no "
            "number of steps follows; measure again on a quiet machine"
        )
    return round(SHORT + (budget - short) / per_step)


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy on rows that need time."""

    def small(steps: int, *, afresh: bool = True) -> Path:
        override = [f"stages.grpo.steps={steps}"]
        return trial.run("large_groups/small", override, label=f"small-{steps}", afresh=afresh)

    kept = Path("trials") / f"large-groups-{trial.budget}-{trial.seed}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    small(1)  # toy data and frames are there before anything is timed
    short, longer = _seconds(lambda: small(SHORT)), _seconds(lambda: small(LONGER))

    def recipe() -> None:
        kept.unlink(missing_ok=True)
        filter_rows("large_groups", [f"seed={trial.seed}", "threads=1"], out=kept, by="temporal_necessity", k=8)
        trial.run("large_groups", own, afresh=True)

    own = [f"stages.grpo.steps={trial.steps(small=12, full=40)}", f"data.train.0.path={kept.resolve()}"]
    budget = _seconds(recipe)
    steps = equal_steps(budget, short, longer)
    spent = _seconds(lambda: small(steps))
    seconds = {"recipe": budget, "baseline": spent, "baseline_steps": steps}
    write_text(kept.with_suffix(".seconds.json"), json.dumps(seconds) + "\n")
    return Sides(
        baseline=timed_accuracy(small(steps, afresh=False)), recipe=timed_accuracy(trial.run("large_groups", own))
    )


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this process and of the children that ended meanwhile."""
    begun = _spent()
    work()
    return _spent() - begun


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


EFFECT = Effect(
    recipe="large_groups",
    measures="accuracy on test rows that need time, the recipe minus groups of 8",
    measure=measure,
    tests=("tests/recipes/test_large_groups.py", "tests/data/test_curricula.py", "tests/curation/test_filters.py"),
    claimed=False,  # not measured yet
    equal="processor time; not steps, responses or updates",
)
