"""What is told of a step that takes its time, and comparisons that begin before generation ends."""

from __future__ import annotations

import importlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from easyvideor1.cli.progress import TerminalWatch
from easyvideor1.cli.train import train_and_report
from easyvideor1.training import timings
from easyvideor1.training.timings import Waiting

from .runs import World, json_lines, train, write_rows

#: A reward that does not return before it is named on ``shown``, once the stage has begun.
SLOW = """
import time

limit = time.monotonic() + 60
shown = None

def slow(sample, response):
    while "stage rl:" in shown.getvalue() and "waiting for the reward" not in shown.getvalue():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return 0.5
"""

#: Counts the threads that scoring has started by the time that all responses are there.
TELLING = """
import threading
from easyvideor1.engines.local import LocalEngine

def scoring():
    return sum(thread.name.startswith("score") for thread in threading.enumerate())

class Telling(LocalEngine):
    def results(self):
        before = scoring()
        yield from super().results()
        with open("begun", "a") as file:
            file.write(f"{scoring() - before}\\n")
"""


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.005)


def test_only_phases_under_way_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "TICK", 0.01)
    told: list[tuple[int, str, float]] = []
    watch = Waiting(lambda *words: told.append(words), lambda: "the reward 'mine:slow' of 'x'")
    with watch.watched():
        time.sleep(0.05)
        assert not told
        clock = watch.timings(4)
        with clock("score"):
            until(lambda: len(told) > 2)
        count = len(told)
        with clock("evaluate"):  # which shows a bar of its own
            time.sleep(0.05)
        assert len(told) == count
        with clock("update"):
            until(lambda: len(told) > count)
    assert {(step, what) for step, what, _ in told} == {
        (4, "scoring, waiting for the reward 'mine:slow' of 'x'"),
        (4, "updating"),
    }
    assert 0 < told[0][2] < told[1][2] < clock.seconds["score"]
    assert 0 < told[-1][2] < clock.seconds["update"]


def test_a_bar_says_it_beside_itself() -> None:
    out = io.StringIO()
    watch = TerminalWatch(Console(file=out, width=200, force_terminal=True))
    with watch.stage("grpo", 2, 50):
        watch.waiting("grpo", 3, 50, "scoring, waiting for the code of 'r7'", 12.0)
        until(lambda: "scoring, waiting for the code of 'r7', 12 s" in out.getvalue())  # a thread draws the bar
        before = len(out.getvalue())
        watch.step("grpo", 3, 50, {"loss": 1.0})
    assert "scoring" not in out.getvalue()[before:], "once the step is done nothing is waited for"


@pytest.mark.model
def test_a_slow_reward_is_named_while_it_runs(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "own_slow.py").write_text(SLOW)
    monkeypatch.delitem(sys.modules, "own_slow", raising=False)
    shown = io.StringIO()
    importlib.import_module("own_slow").shown = shown
    monkeypatch.setattr("easyvideor1.cli.stage_line.FIRST_WORD", 0.1)
    monkeypatch.setattr(timings, "TICK", 0.05)
    train_and_report(world.short(rewards__custom={"*": "own_slow:slow"}), Console(file=shown, width=200))
    assert "rl 1/2: scoring, waiting for the reward 'own_slow:slow' of" in " ".join(shown.getvalue().split())


@pytest.mark.model
def test_comparisons_ahead_change_no_result(world: World, place: Path) -> None:
    rows = [
        {"problem": f"What is {n} + 1?", "answer": str(n + 1), "problem_type": "math", "problem_id": str(n)}
        for n in range(4)
    ]
    path = write_rows(place / "rows.jsonl", rows)
    (place / "own_telling.py").write_text(TELLING)
    kept = []
    for overlap in (False, True):
        name = f"overlap-{overlap}"
        changes = {"data__train": [{"path": path}], "rewards": {"overlap": overlap}, "seed": 7}
        train(world.short(name=name, rollout__engine="own_telling:Telling", **changes))
        begun = [int(line) for line in (place / "begun").read_text().split()]
        (place / "begun").unlink()
        assert (begun[0] > 0) == overlap, "threads that score are there before generation ends"
        stage = place / "runs" / name / "stages/01-rl"
        kept.append([(stage / f"rollouts/step_00000{n}.jsonl").read_bytes() for n in (1, 2)])
        assert len(json_lines(stage / "metrics.jsonl")) == 2
    assert kept[0] == kept[1]
