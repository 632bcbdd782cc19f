"""evr1 check rewards, on files and configurations of rows that are right, wrong and strange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app

RUN = CliRunner(env={"COLUMNS": "200"})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(task: str, answer: object, **columns: object) -> dict[str, Any]:
    return {"problem": "What?", "problem_type": task, "answer": answer, **columns}


CHOICES = [row("multiple choice", letter, options=["A. one", "B. two", "C. three"]) for letter in "ABBBCB"]
GOOD = [
    *CHOICES,
    *(row("numerical", number) for number in (3, 4, 4, 5)),
    *(row("open-ended", text) for text in ("a red car turns left", "two dogs sleep on the grass", "nobody is there")),
    row("temporal grounding", {"time": [0, 4]}),
    row("temporal grounding", {"time": [2, 6]}),
    row("spatial grounding", {"boxes": [0.1, 0.1, 0.5, 0.5]}, coordinates="normalized"),
    row("spatial grounding", {"boxes": [100, 100, 500, 500]}, coordinates="thousand"),
    row("spatial grounding", {"boxes": [200, 100, 500, 900]}),
]


def check(*words: object) -> Any:
    return RUN.invoke(app, ["check", "rewards", *map(str, words)])


def tasks_of(done: Any) -> dict[str, dict[str, Any]]:
    return {task["task"]: task for task in json.loads(done.stdout)["tasks"]}


def test_good_rows_pass_and_say_what_a_constant_earns(tmp_path: Path) -> None:
    done = check(write(tmp_path / "rows.jsonl", GOOD), "--json")
    assert done.exit_code == 0, done.output
    found = tasks_of(done)
    choice = found["multiple_choice"]
    assert (choice["rows"], choice["checked"], choice["imperfect"]) == (6, 6, [])
    assert choice["constant"] == {
        "answer": "B",
        "accuracy": pytest.approx(4 / 6),
        "total": pytest.approx(0.9 * 4 / 6 + 0.1),
        "rows": 6,
    }
    assert found["numerical"]["constant"]["answer"] == "4"
    assert found["numerical"]["constant"]["accuracy"] == pytest.approx(0.5)
    # The whole of both spans, [0, 6], overlaps each by 4/6; one of them alone has 1 and 2/6.
    assert found["temporal_grounding"]["constant"]["accuracy"] == pytest.approx(2 / 3)
    assert found["spatial_grounding"]["scales"] == {
        "declared": {"normalized (row)": 1, "thousand (row)": 1, "undeclared": 1},
        "reach": {"0-1": 1, "0-1000": 2},
    }
    # A wrong text joined to the right one costs; so does a wrong letter.
    assert found["open_ended"]["length"]["padding"] < -0.2
    assert found["multiple_choice"]["length"]["padding"] == -1.0


def test_the_table_has_a_line_for_every_type(tmp_path: Path) -> None:
    done = check(write(tmp_path / "rows.jsonl", GOOD))
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:6]}
    assert set(lines) == {"multiple_choice", "numerical", "open_ended", "spatial_grounding", "temporal_grounding"}
    assert lines["multiple_choice"] == ["multiple_choice", "6", "0", "B", "0.667", "0.000", "-1.000"]
    assert "spatial_grounding: declared coordinates: 1 normalized (row), 1 thousand (row), 1 undeclared" in done.stdout
    assert "cannot be used" not in done.stderr
    assert "themselves" not in done.stderr
    assert "checking references" in done.stderr


def test_unusable_rows_are_named_with_file_line_and_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        [
            *GOOD,
            row("temporal grounding", "<think>{}</think>"),
            row("numerical", "between 3 and 5"),
            row("telepathy", "x"),
            row("spatial grounding", {"boxes": [1, 2, 300, 400]}, coordinates="normalized"),
        ],
    )
    done = check(path)
    assert done.exit_code == 1
    assert "4 rows cannot be used:" in done.stderr
    first = len(GOOD) + 1
    for line, words in {
        first: "it holds <think> but no <answer>",
        first + 1: "it is not one number",
        first + 2: "unknown task type 'telepathy'",
        first + 3: "scale mismatch",
    }.items():
        (told,) = [text for text in done.stderr.splitlines() if f"rows.jsonl:{line}:" in text]
        assert words in told
    data = json.loads(check(path, "--json").stdout)
    assert data["rows"] == len(GOOD) + 4
    assert [bad["where"] for bad in data["unusable"]] == [f"{path}:{first + at}" for at in range(4)]


def test_a_reference_that_is_not_right_against_itself_fails(tmp_path: Path) -> None:
    program = "def f():\n    return 1"
    mask = {"size": [4, 4], "counts": [5, 2, 2, 2, 5]}
    points = {"boxes": [1, 1, 3, 3], "positive_points": [[0, 0]]}
    path = write(
        tmp_path / "rows.jsonl",
        [
            row("code", program, tests=["assert f() == 2"]),
            row("code", program, tests=["assert f() == 1"]),
            row("code", json.dumps({"tests": ["assert f() == 1"]})),
            row("segmentation", points, mask=mask),
        ],
    )
    done = check(path, "--json")
    assert done.exit_code == 1
    found = tasks_of(done)
    (code,) = found["code"]["imperfect"]
    assert code["where"] == f"{path}:1"
    assert code["accuracy"] == 0.0
    assert found["code"]["checked"] == 2
    assert found["code"]["unchecked"] == {"the reference is tests without a program": 1}
    (segmentation,) = found["segmentation"]["imperfect"]
    assert segmentation["accuracy"] == pytest.approx(0.5)
    text = check(path)
    assert text.exit_code == 1
    assert f"{path}:4: the reference scores 0.500 against itself" in text.stderr


def test_tests_that_an_empty_answer_passes_are_named(tmp_path: Path) -> None:
    double = "def double(numbers):\n    return [2 * number for number in numbers]"
    vacuous = "assert all(got == want for got, want in zip(double([1, 2]), [2, 4]))"
    box = "class Box:\n    def __init__(self, *held): self.held = held\n    def items(self): return list(self.held)"
    path = write(
        tmp_path / "rows.jsonl",
        [
            row("code", double, tests=[vacuous]),
            row("code", double, tests=[vacuous, "assert len(double([1, 2])) == 2"]),
            row("code", double, tests=["for got, want in zip(double([1]), [2]):\n    assert got == want"]),
            row("code", json.dumps({"tests": ["import math\nassert set(double([1])) <= {2, math.pi}"]})),
            row("code", box, tests=["assert set(Box(1, 2).items()) <= {1, 2}"]),
            row("code", "print(1)", tests=[{"input": "", "output": "1"}]),
        ],
    )
    done = check(path, "--json")
    assert done.exit_code == 0, done.output
    assert [row["where"] for row in tasks_of(done)["code"]["vacuous"]] == [f"{path}:{line}" for line in (1, 3, 4, 5)]
    two = write(tmp_path / "two.jsonl", [row("code", double, tests=[vacuous])] * 2)
    text = check(two)
    assert text.exit_code == 0
    assert "2 rows have tests that an empty program passes:" in text.stderr
    assert f"{two}:1: its tests are passed by functions that return []" in text.stderr


def test_a_configuration_names_columns_sources_and_rewards(tmp_path: Path) -> None:
    rows = [{"q": "How many?", "gold": 3, "problem_type": "numerical"}]
    write(tmp_path / "rows.jsonl", rows)
    config = tmp_path / "run.yaml"
    values = {
        "data": {
            "question_key": "q",
            "answer_key": "gold",
            "train": [{"path": str(tmp_path / "rows.jsonl")}],
            "test": [{"path": str(tmp_path / "rows.jsonl")}],
        },
        "rewards": {"grammar": "think-answer"},
    }
    config.write_text(json.dumps(values))
    for words in ([config], [tmp_path / "rows.jsonl", "--config", config]):
        done = check(*words, "--json")
        assert done.exit_code == 0, done.output
        (task,) = json.loads(done.stdout)["tasks"]
        assert task["rows"] == 1  # the same source twice is one
        assert task["constant"]["total"] == 1.0  # well-formed by the grammar of the configuration
    assert check(tmp_path / "rows.jsonl").exit_code == 1  # without it, there is no column "problem"


def test_the_scale_of_the_configuration_is_held_against_undeclared_references(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"rewards": {"coordinates": "normalized"}}))
    declared = row("spatial grounding", {"boxes": [100, 100, 500, 500]}, coordinates="thousand")
    done = check(write(tmp_path / "a.jsonl", [declared]), "--config", config, "--json")
    assert done.exit_code == 0, done.output
    undeclared = row("spatial grounding", {"boxes": [100, 100, 500, 500]})
    done = check(write(tmp_path / "b.jsonl", [undeclared]), "--config", config)
    assert done.exit_code == 1
    assert "scale mismatch" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["empty.yaml"], "has no source"),
        (["empty.yaml", "--config", "empty.yaml"], "use --config only with such a file"),
    ],
)
def test_mistakes_exit_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yaml").write_text("{}")
    done = check(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def look(*words: object) -> Any:
    return RUN.invoke(app, ["check", "data", *map(str, words)])


def test_data_are_counted_by_kind_and_by_reason(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    clip = {"videos": ["a.mp4"]}
    choice = row("multiple choice", "A", options=["A. one", "B. two"], **clip)
    rows = [
        choice,
        {**choice, "problem": "what? "},
        {**choice, "answer": "B"},
        row("numerical", 3, **clip),
        row("numerical", 3, videos=["gone.mp4"]),
        row("numerical", "many", **clip, problem_id="x"),
        row("multiple choice", "A", **clip),
        row("open-ended", "a car"),
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    done = look(path, "--json", "--out", tmp_path / "kept.jsonl")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    (source,) = found["sources"]
    assert (source["rows"], source["used"], source["refused"]) == (8, 5, 3)
    assert source["tasks"] == {"multiple_choice": 3, "numerical": 1, "open_ended": 1}
    assert source["media"] == {"video": 4, "text": 1}
    assert {reason["field"]: reason["rows"] for reason in source["refusals"]} == {
        "videos": 1,
        "answer": 1,
        "options": 1,
    }
    assert found["repeated"] == [[f"{path}:1", f"{path}:2"]]
    assert found["contradicting"] == [[f"{path}:1", f"{path}:3"]]
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["problem_type"] for one in kept] == ["numerical", "open ended"]
    again = look(tmp_path / "kept.jsonl")
    assert again.exit_code == 0 and "2 rows, 2 usable" in again.stdout and "refused" not in again.stdout
    shown = look(path, "--no-media").stdout
    assert "8 rows, 6 usable" in shown and "1 rows repeat an earlier row" in shown and "gone.mp4" not in shown


def test_data_of_a_configuration_and_wrong_options(tmp_path: Path) -> None:
    events = tmp_path / "train.txt"
    events.write_text("AO8RW 0.0 6.9##a person puts a book down.\n")
    config = tmp_path / "run.yaml"
    config.write_text("data: {train: [{path: train.txt}]}\n")
    done = look(config, "--no-media")
    assert done.exit_code == 0 and "temporal_grounding 1" in done.stdout
    assert "--task only with such a file" in look(config, "--task", "math").output
    task = write(tmp_path / "untyped.jsonl", [{"problem": "2+2?", "answer": "4"}])
    assert look(task).exit_code == 1 and look(task, "--task", "math").exit_code == 0
