"""The line about a stage: its times are those of the whole stage, on a terminal and in a log file."""

from __future__ import annotations

import io

from rich.console import Console

from easyvideor1.cli.progress import TerminalWatch
from easyvideor1.cli.stage_line import StageLine

METRICS = {"reward/total": 0.5, "reward/accuracy": 0.25, "loss": 1.0}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def line(*, done: int = 0, steps: int = 10, every: float = 0.0, terminal: bool = False) -> tuple[StageLine, Clock]:
    now = Clock()
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)
    return StageLine(console, "grpo", done, steps, every=every, now=now), now


def shown(one: StageLine) -> list[str]:
    return one.console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_evaluations_are_part_of_elapsed_time_and_time_left() -> None:
    one, now = line()
    for step, seconds in ((1, 10), (2, 20), (3, 60)):  # the third with an evaluation of 30 s before it
        if step == 3:
            now.seconds = 30
            one.working("evaluating grpo-000003", 4, 40, "question")
        now.seconds = seconds
        one.step(step, METRICS)
    assert shown(one)[-1] == (
        "  grpo 3/10: reward 0.500, accuracy 0.250, loss 1.000; 0:01:00, left 0:02:20, 20.0 s/step"
    )
    assert "  grpo 3/10: evaluating grpo-000003, 4/40 questions; 0:00:30, left 0:01:10, 10.0 s/step" in shown(one)


def test_time_left_runs_down_between_steps_and_never_below_nothing() -> None:
    one, now = line(steps=2)
    now.seconds = 10
    one.step(1, METRICS)
    assert "left 0:00:10" in one.times()
    now.seconds = 14
    assert one.times() == "0:00:14, left 0:00:06, 10.0 s/step"
    now.seconds = 40
    assert "left 0:00:00" in one.times()


def test_steps_of_an_earlier_start_count_as_done_and_not_for_the_rate() -> None:
    one, now = line(done=8)
    now.seconds = 5
    one.step(9, METRICS)
    assert shown(one) == ["  grpo 9/10: reward 0.500, accuracy 0.250, loss 1.000; 0:00:05, left 0:00:05, 5.0 s/step"]


def test_a_log_file_has_the_first_and_the_last_step_and_at_most_a_line_in_so_many_seconds() -> None:
    one, now = line(steps=100, every=30.0)
    for step in range(1, 101):
        now.seconds = float(step)
        one.step(step, METRICS)
        one.busy(step + 1, "scoring", 12.0)
        one.working("evaluating", 1, 2, "question")
    steps = [int(text.split()[1].partition("/")[0]) for text in shown(one)]
    assert steps == [1, 31, 61, 91, 100]
    assert not any("\r" in text or "\x1b" in text for text in shown(one))


def test_a_first_step_that_takes_long_is_told() -> None:
    one, now = line(every=30.0)
    for seconds in range(1, 50):
        now.seconds = float(seconds)
        one.busy(1, "generating", float(seconds))
    assert shown(one) == [
        "  grpo 1/10: generating, 10 s so far; 0:00:10",
        "  grpo 1/10: generating, 40 s so far; 0:00:40",
    ]


def test_a_terminal_has_one_line_and_what_is_said_stands_above() -> None:
    out = io.StringIO()
    watch = TerminalWatch(Console(file=out, width=160, force_terminal=True, color_system=None))
    with watch.stage("grpo", 0, 3):
        for step in (1, 2, 3):
            with watch.phase(f"evaluating grpo-{step:06d}", "question") as advance:
                advance(1, 2)
                advance(2, 2)
            watch.say(f"grpo-{step:06d}: greedy accuracy 0.5")
            watch.step("grpo", step, 3, METRICS)
    last = [text for text in out.getvalue().splitlines() if "stage grpo" in text][-1]
    assert "3/3" in last and "reward 0.500" in last and "left" not in last
    assert out.getvalue().count("greedy accuracy 0.5") == 3


def test_phases_outside_of_stages_have_progress_of_their_own() -> None:
    out = io.StringIO()
    watch = TerminalWatch(Console(file=out, width=160))
    with watch.phase("checking rows", "row") as advance:
        advance(5, 5)
    assert out.getvalue().startswith("checking rows: 5/5, ")
