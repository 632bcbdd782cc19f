from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.evaluation.charts import nice_ticks
from easyvideor1.evaluation.files import read_jsonl, write_atomic, write_jsonl
from easyvideor1.evaluation.history import cache_dir, compared_evaluations, evaluation_step, read_history
from easyvideor1.evaluation.panels import evaluation_series, main_panels, other_panels, smooth, task_panels
from easyvideor1.evaluation.summary import write_summary
from easyvideor1.types import DataError

from .runs import TASKS, write_evaluations, write_lines, write_run


def test_stages_follow_each_other_on_one_axis(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path / "run"))
    assert [(stage.name, stage.first, stage.steps) for stage in history.stages] == [
        ("01-sft", 0, 20),
        ("02-grpo", 20, 80),
    ]
    assert history.steps == 100
    reward = main_panels(history)[0].series[0]
    assert reward.x == tuple(range(1, 101))
    assert reward.starts == (0, 20)
    assert [len(x) for x, _ in reward.segments()] == [20, 80]
    assert cache_dir(history) == tmp_path / "run" / "cache"


def test_evaluations_find_their_step(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path / "run"))
    names = {"before": 0, "after": 100, "grpo-000040": 60, "02-grpo-step_000040": 60, "sft": 20, "01-sft": 20}
    assert {name: evaluation_step(name, history) for name in names} == names
    assert evaluation_step("somewhere", history) is None
    assert evaluation_step("grpo-", history) is None
    greedy, sampled = evaluation_series(history)
    assert greedy.x == sampled.x == (0.0, 60.0, 100.0)
    after = history.evaluations["after"].greedy
    assert after is not None
    assert (greedy.low[-1], greedy.y[-1], greedy.high[-1]) == (after.low, after.mean, after.high)


@pytest.mark.parametrize(
    ("there", "stages", "pair"),
    [
        ((), (), (None, None)),
        (("before",), ("01-sft",), ("before", None)),
        (("before", "01-sft"), ("01-sft", "02-grpo"), ("before", "01-sft")),
        (("before", "01-sft", "02-grpo"), ("01-sft", "02-grpo"), ("01-sft", "02-grpo")),
        (("02-grpo", "grpo-000040"), ("01-sft", "02-grpo"), (None, "02-grpo")),
        (("before", "01-sft", "after"), ("01-sft", "02-grpo"), ("before", "after")),
        (("after", "01-sft"), ("01-sft",), (None, "after")),
    ],
)
def test_what_is_compared(
    tmp_path: Path, there: tuple[str, ...], stages: tuple[str, ...], pair: tuple[str | None, str | None]
) -> None:
    write_evaluations(tmp_path, *there)
    for stage in stages:
        write_lines(tmp_path / "stages" / stage / "metrics.jsonl", [{"step": 1}])
    assert compared_evaluations(read_history(tmp_path)) == pair


def test_summary_says_what_is_compared(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before", "warm", "after")
    write_summary(tmp_path, seed=0, steps=1, seconds=1, before="warm", after="missing")
    assert compared_evaluations(read_history(tmp_path)) == ("warm", None)


def test_every_metric_has_a_panel(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path / "run"))
    assert [panel.title for panel in main_panels(history)] == [
        "Training reward", "Held-out accuracy", "Response length", "Loss",
    ]  # fmt: skip
    assert {panel.title for panel in task_panels(history)} == {task.replace("_", " ") for task in TASKS}
    assert [panel.title for panel in other_panels(history)] == ["kl", "grad_norm"]


def test_step_done_again_counts_once_and_a_torn_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "stages/01-grpo/metrics.jsonl"
    write_lines(path, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 5.0}, {"step": 2, "loss": 3.0}])
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    history = read_history(tmp_path)
    assert [row["loss"] for row in history.stages[0].metrics] == [1.0, 3.0]


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stages/01-grpo/metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not valid JSON"):
        read_history(tmp_path)
    path.write_text('{"step": 1}\n{"loss": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: field 'step'"):
        read_history(tmp_path)
    with pytest.raises(DataError, match="no such run directory"):
        read_history(tmp_path / "nowhere")


def test_lines_survive_any_text(tmp_path: Path) -> None:
    rows = [{"text": "line\u2028separator\n"}, {"text": "視頻"}, {"text": "\ud800 half a pair"}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    assert "視頻".encode() in (tmp_path / "rows.jsonl").read_bytes()


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError):
        write_jsonl(path, [{"a": float("nan")}])
    assert read_jsonl(path) == [{"a": 1}]
    write_atomic(path, b"")
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_smoothing_starts_at_the_first_value_and_follows_the_level() -> None:
    assert smooth([0.5]) == [0.5]
    assert smooth([0.3] * 40) == pytest.approx([0.3] * 40)
    step = smooth([0.0] * 60 + [1.0] * 60)
    assert step[0] == 0.0 and step[59] == 0.0 and 0.95 < step[-1] <= 1.0
    assert step == sorted(step)


@pytest.mark.parametrize(
    ("low", "high", "wanted", "ticks"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 100, 6, [0, 20, 40, 60, 80, 100]),
        (-0.05, 0.06, 3, [-0.05, 0, 0.05]),
        (21.3, 26.1, 5, [22, 23, 24, 25, 26]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, wanted: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, wanted) == pytest.approx(ticks)
