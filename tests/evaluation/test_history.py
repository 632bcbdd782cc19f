from __future__ import annotations

import json
from pathlib import Path

import pytest

from easyvideor1.evaluation import Evaluation, evaluation_fault, write_curves, write_report
from easyvideor1.evaluation.charts import nice_ticks
from easyvideor1.evaluation.curves import evaluation_series, main_panels, other_panels, smooth, task_panels
from easyvideor1.evaluation.history import Place, cache_dir, compared_evaluations, place_of, read_history
from easyvideor1.evaluation.summary import write_summary
from easyvideor1.files import json_bytes
from easyvideor1.records.damage import stage_damage, steps_words
from easyvideor1.records.reading import read_jsonl
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
    tests = {"before": 0, "after": 100, "01-sft": 20, "02-grpo": 100}
    assert {name: place_of(name, history) for name in tests} == {n: Place("test", step) for n, step in tests.items()}
    assert place_of("sft-000010", history) == Place("validation", 10)
    assert place_of("grpo-000040", history) == Place("validation", 60)
    assert [place_of(name, history) for name in ("somewhere", "grpo", "grpo-", "grpo-40")] == [None] * 4


def test_a_stage_may_be_called_like_a_step(tmp_path: Path) -> None:
    for stage in ("01-01-a", "02-a-000007"):
        write_lines(tmp_path / "stages" / stage / "metrics.jsonl", [{"step": 9}])
    history = read_history(tmp_path)
    assert place_of("02-a-000007", history) == Place("test", 18)
    assert place_of("a-000007-000003", history) == Place("validation", 12)
    assert place_of("01-a-000003", history) == Place("validation", 3)


def test_test_and_validation_questions_are_apart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_evaluations(run, "01-sft", "grpo-000080")
    history = read_history(run)
    series = {one.label: one for one in evaluation_series(history)}
    assert {label: one.x for label, one in series.items()} == {
        "test, greedy": (0.0, 20.0, 100.0),
        "test, sampled": (0.0, 20.0, 100.0),
        "validation, greedy": (60.0, 100.0),
        "validation, sampled": (60.0, 100.0),
    }
    for label, at, name in (("test, greedy", 2, "after"), ("validation, greedy", 0, "grpo-000040")):
        one, whole = series[label], Evaluation.load(run / "evaluations", name).greedy
        assert whole is not None
        assert (one.low[at], one.y[at], one.high[at]) == (whole.low, whole.mean, whole.high)


def test_records_are_read_for_the_compared_evaluations_only(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "evaluations/grpo-000040.jsonl").unlink()
    write_curves(run)
    write_report(run, lambda digest: None)
    (run / "evaluations/after.jsonl").unlink()
    write_curves(run)
    page = write_report(run, lambda digest: None).read_text()
    assert "grpo-000040.jsonl cannot be read (No such file or directory)" in page
    assert "after.jsonl: cannot be read" in page and "it is not compared" in page
    assert [one.where for one in read_history(run).damage] == ["evaluations/after", "evaluations/grpo-000040"]


@pytest.mark.parametrize("head", [{"count": 3}, {"count": 3, "greedy": {"mean": 1}, "sampled": None}])
def test_damaged_totals_are_named(tmp_path: Path, head: dict[str, object]) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/before.json").write_text(json.dumps(head))
    history = read_history(tmp_path)
    (damage,) = history.damage
    assert damage.where == "evaluations/before" and "before.json: not the totals of an evaluation" in damage.what
    assert history.evaluations == {}
    assert compared_evaluations(history) == (None, None)


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
    assert {panel.unit for panel in task_panels(history)} == {"training accuracy"}
    masked, unknown, norm = other_panels(history)
    assert [panel.title for panel in (masked, unknown, norm)] == ["response/not_applicable", "kl", "grad_norm"]
    assert (masked.unit, norm.unit) == ("responses", "gradient") and norm.about.startswith("Euclidean norm")
    assert (unknown.unit, unknown.about) == ("", ""), "no metric of ours"


def test_step_done_again_counts_once_and_a_torn_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "stages/01-grpo/metrics.jsonl"
    write_lines(path, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 5.0}, {"step": 2, "loss": 3.0}])
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    history = read_history(tmp_path)
    assert [row["loss"] for row in history.stages[0].metrics] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("name", "text"), [("run", "{"), ("data_report", "[1]"), ("summary", "\0\0"), ("config", "a: [")]
)
def test_a_damaged_file_of_the_run_is_named_and_left_out(tmp_path: Path, name: str, text: str) -> None:
    run = write_run(tmp_path / "run")
    file = run / ("config.yaml" if name == "config" else f"{name}.json")
    file.write_text(text)
    history = read_history(run)
    assert [one.where for one in history.damage] == [file.name]
    assert getattr(history, name) is None
    assert f'<td class="left">{file.name}</td>' in write_report(run, lambda digest: None).read_text()


def test_what_can_be_read_of_a_damaged_stage_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "stages/01-grpo/metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n{"loss": 3}\n')
    assert [row["step"] for row in read_history(tmp_path).stages[0].metrics] == [1, 3]
    first, *others = stage_damage(path.parent)
    assert first.where == "stages/01-grpo/metrics.jsonl"
    assert first.what.startswith("line 2 is not valid JSON (") and first.what.endswith("; no row of step 2")
    assert ", and 1 more is bad" in first.what
    assert [one.what for one in others] == ["no row of steps 1 to 2", "no file of steps 1 to 3"]
    assert "curves.png" in str(write_curves(tmp_path))
    with pytest.raises(DataError, match="no such directory"):
        read_history(tmp_path / "nowhere")


def test_warnings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    example = {"response": "B", "task": "boolean", "accuracy": 1.0, "format": 0.0, "tokens": 1, "finish": "stop"}
    row = {"step": 3, "alarm": "tagless", "message": "no tags", "examples": [example]}
    path = run / "stages/02-grpo/canary.jsonl"
    write_lines(path, [row, {**row, "step": 9, "examples": [{}]}, row])
    path.write_bytes(path.read_bytes() + b"\0\0\0\n")
    assert [one["step"] for one in read_history(run).stages[1].canary] == [3, 3]
    (damage,) = stage_damage(path.parent)
    assert damage.where == "stages/02-grpo/canary.jsonl"
    assert damage.what == "line 2 is no warning of the canary, and 1 more is bad"
    assert "no tags" in write_report(run, lambda digest: None).read_text()


@pytest.mark.parametrize("accuracy", [7.0, "x", None])
def test_an_accuracy_that_is_none_is_a_damaged_row(tmp_path: Path, accuracy: object) -> None:
    run = write_run(tmp_path / "run")
    path = run / "evaluations/after.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["greedy"]["score"]["accuracy"] = accuracy
    write_lines(path, rows)
    assert evaluation_fault(path.parent, "after").startswith("after.jsonl:2: not a record of an evaluation")
    assert "after.jsonl:2: not a record" in write_report(run, lambda digest: None).read_text()


def test_an_end_that_is_cut_off_is_seen_from_what_came_after(tmp_path: Path) -> None:
    """The last rows of a file leave no gap; the checkpoint and the rollouts of later steps tell of them."""
    run = write_run(tmp_path / "run")
    stage = run / "stages/02-grpo"
    assert stage_damage(stage) == []
    metrics = stage / "metrics.jsonl"
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:70]))
    (damage,) = stage_damage(stage)
    assert damage.what == "no row of steps 71 to 79"
    (stage / "checkpoints/step_000080").mkdir(parents=True)
    assert [one.what for one in stage_damage(stage)] == ["no row of steps 71 to 80"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([4], "step 4"),
        ([1, 2], "steps 1 to 2"),
        ([9, 1, 2, 3, 5], "steps 1 to 3, 5 and 9 (5)"),
    ],
)
def test_steps_in_words(steps: list[int], words: str) -> None:
    assert steps_words(steps) == words


def test_lines_survive_any_text(tmp_path: Path) -> None:
    rows = [{"text": "line\u2028separator\n"}, {"text": "視頻"}, {"text": "\ud800 half a pair"}, {"text": ""}]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(json_bytes, rows)))
    assert list(read_jsonl(path).rows) == rows
    assert "視頻".encode() in path.read_bytes()


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError):
        json_bytes({"a": float("nan")})


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
