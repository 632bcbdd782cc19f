"""``evr1 eval diff`` and ``evr1 eval compare`` on results on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.evaluation.results import answered, certificate, write_result
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.evaluation.comparison import mcnemar_test

RUN = CliRunner(env={"COLUMNS": "80"})


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    """A model and a better one that saw fewer frames of some videos; it failed on one."""
    before = [answered(i, "A" if i < 10 else "B") for i in range(24)]
    after = [answered(i, "A" if i < 20 else "B", frames=4 if i % 2 else 8) for i in range(23)] + [answered(23, "")]
    one, other = certificate("small"), certificate("large", model={"weights": "w2"}, frames={"video": {"fps": 1.0}})
    return write_result(tmp_path / "one", one, before), write_result(tmp_path / "two", other, after)


def run(*words: object) -> str:
    done = RUN.invoke(app, ["eval", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_diff_says_what_differs_and_which_questions_moved(results: tuple[Path, Path]) -> None:
    shown = run("diff", *results, "--show", 4)
    assert "frames.video.fps" in shown and "w1" in shown and "w2" in shown
    assert "24 compared, 0 only in A, 0 only in B, 0 with other content" in shown
    assert "10 questions moved" in shown
    assert "and 6 more" in shown
    line = next(line for line in shown.splitlines() if line.startswith("accuracy"))
    assert line.split()[1:4] == ["41.7", "83.3", "+41.7"]
    assert max(map(len, shown.splitlines())) > 80  # tables are not cut to the terminal

    found = json.loads(run("diff", *results, "--json", "--breakdown"))
    assert found["causes"] == [
        {"causes": "model", "gained": 5, "lost": 0},
        {"causes": "frames or model", "gained": 5, "lost": 0},
    ]
    (accuracy, *parts) = found["differences"]
    assert accuracy["p"] == mcnemar_test(10, 0)
    assert [(part["facet"], part["value"]) for part in parts] == [("task", "multiple_choice")]
    assert {each["question"] for each in found["moved"]} == {f"q{i}" for i in range(10, 20)}
    assert found["moved"][0]["before"]["answer"] == "B"
    assert found["moved"][0]["after"]["answer"] == found["moved"][0]["reference"] == "A"


def test_a_result_does_not_differ_from_itself(results: tuple[Path, Path]) -> None:
    shown = run("diff", results[0], results[0].parent)  # the only result below a directory may be named by it
    assert "certificates: no difference" in shown
    assert "0 questions moved" in shown


def test_diff_wants_one_result_and_common_questions(results: tuple[Path, Path], tmp_path: Path) -> None:
    many = RUN.invoke(app, ["eval", "diff", str(tmp_path), str(results[0])])
    assert many.exit_code == 2
    assert "has 2 results" in many.output
    none = RUN.invoke(app, ["eval", "diff", str(results[0]), str(tmp_path / "missing")])
    assert none.exit_code == 2
    assert "no result" in none.output
    shuffled = [answered(i, "A", reference="B") for i in range(24)]
    probe = write_result(tmp_path / "probe", certificate(benchmark="colours-shuffled"), shuffled)
    refused = RUN.invoke(app, ["eval", "diff", str(results[0]), str(probe)])
    assert refused.exit_code == 2
    assert "--changed" in refused.output
    assert "24 compared" in run("diff", results[0], probe, "--changed")


def test_compare_prints_a_table_with_adjusted_p_values(results: tuple[Path, Path], tmp_path: Path) -> None:
    shown = run("compare", tmp_path / "one", tmp_path / "two")
    row = next(line for line in shown.splitlines() if line.startswith("colours"))
    assert row.split()[:6] == ["colours", "accuracy", "large", "41.7", "83.3", "+41.7"]
    assert "0 and 1 questions failed and count as wrong" in shown
    assert "other frames" in shown
    found = json.loads(run("compare", tmp_path, "--baseline", "large", "--json"))
    (only,) = found["comparisons"]
    assert (only["baseline"], only["model"], only["gained"], only["lost"]) == ("large", "small", 0, 10)
    assert only["adjusted_p"] == only["p"] == mcnemar_test(0, 10)


def test_compare_refuses_other_questions_unless_told_to(results: tuple[Path, Path], tmp_path: Path) -> None:
    write_result(tmp_path / "three", certificate("third"), [answered(i, "A") for i in range(20)])
    places = [str(tmp_path / name) for name in ("one", "three")]
    refused = RUN.invoke(app, ["eval", "compare", *places])
    assert refused.exit_code == 2
    assert "4 only in the first" in refused.output
    row = next(line for line in run("compare", *places, "--common").splitlines() if line.startswith("colours"))
    assert row.split()[-3:] == ["20", "20", "4"]  # questions, clusters, left out
    empty = RUN.invoke(app, ["eval", "compare", str(results[0]), str(tmp_path / "empty")])
    assert empty.exit_code == 2
    assert "no result at or below it" in empty.output


def test_unfinished_results_are_named(results: tuple[Path, Path], tmp_path: Path) -> None:
    unfinished = certificate("third")
    unfinished.write(unfinished.directory(tmp_path / "three"))
    done = RUN.invoke(app, ["eval", "compare", *(str(tmp_path / name) for name in ("one", "two", "three"))])
    assert done.exit_code == 0
    assert "not finished" in done.output
    refused = RUN.invoke(app, ["eval", "diff", str(results[0]), str(tmp_path / "three")])
    assert refused.exit_code == 2
    assert "not finished" in refused.output
