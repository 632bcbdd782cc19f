"""evr1 export and evr1 eval: what a run hands on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import write_config
from training.runs import OWN_PARTS, World, json_lines, train, write_rows

pytestmark = pytest.mark.model

RUN = CliRunner()

BENCHMARK = """
from easyvideor1.benchmarks import Metric
from easyvideor1.evaluation import Benchmark
from easyvideor1.types import Score

def strict(sample, response):
    return Score(0.0, 1.0, 0.1)

def mine(location):
    return Benchmark("mine", "1", location, scorer=strict, metrics=(Metric("points"),))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def place(world: World) -> Path:
    """A working directory with a finished run in it, and its configuration beside it."""
    place = world.home / "place"
    place.mkdir()
    (place / "own_parts.py").write_text(OWN_PARTS)
    (place / "benchmark_to_export.py").write_text(BENCHMARK)
    config = world.short(data__test=[{"path": world.rows("test")}])
    write_config(config, place / "run.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        train(config)
    return place


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def exported(place: Path) -> Path:
    out = place / "exported"
    done = RUN.invoke(app, ["export", str(place / "runs/small"), str(out)])
    assert done.exit_code == 0, done.stderr
    assert str(out) in done.stdout and "step_000002" in done.stdout
    return out


def test_an_export_is_a_plain_checkpoint(place: Path, exported: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    names = {path.name for path in exported.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= names
    assert not names & {"optimizer.safetensors", "state.json"}
    model = AutoModelForImageTextToText.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    ids = tokenizer("What moves?", return_tensors="pt")["input_ids"]
    again = AutoModelForImageTextToText.from_pretrained(place / "runs/small/stages/01-rl/checkpoints/step_000002")
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, again(input_ids=ids).logits)


def result_of(out: Path, name: str = "test") -> Path:
    """The one directory of a result."""
    (found,) = (out / name).iterdir()
    return found


def test_an_exported_checkpoint_gives_the_numbers_of_the_run(place: Path, exported: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["eval", "run.yaml", "--checkpoint", str(exported), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("test: 4 questions, 0 refused, 0 failed\n  greedy accuracy 0.")
    found = result_of(tmp_path)
    files = ["answers.jsonl", "certificate.json", "result.json", "result.jsonl", "timings.json"]
    assert sorted(path.name for path in found.iterdir()) == files
    ours = json.loads((found / "result.json").read_text())
    theirs = json.loads((place / "runs/small/evaluations/01-rl.json").read_text())
    assert {**ours, "name": "", "checksum": ""} == {**theirs, "name": "", "checksum": ""}
    assert json_lines(found / "result.jsonl") == json_lines(place / "runs/small/evaluations/01-rl.jsonl")


def test_a_run_directory_stands_for_its_last_checkpoint(place: Path, tmp_path: Path) -> None:
    words = ["eval", "run.yaml", "--checkpoint", "runs/small", "--out", str(tmp_path)]
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.stderr
    last = "runs/small/stages/01-rl/checkpoints/step_000002"
    assert f"checkpoint: {last}, the last complete one of runs/small" in done.stderr
    known = json_lines(place / "runs/small/evaluations/01-rl.jsonl")
    assert json_lines(result_of(tmp_path) / "result.jsonl") == known
    assert result_of(tmp_path).name.startswith("small-01-rl-step_000002-")
    (tmp_path / "begun/stages").mkdir(parents=True)
    done = RUN.invoke(app, [*words[:3], str(tmp_path / "begun")])
    assert done.exit_code == 2 and "has no complete checkpoint; give a run directory that has saved one" in done.stderr


def test_another_convention_than_that_of_the_training_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.config import RunConfig

    run = place / "runs/small"
    config = RunConfig.model_validate({"model": {"conventions": "transformers"}})
    for given in (run, checkpoint_to_use(run, RunConfig())):
        assert "WARNING" not in capsys.readouterr().err
        assert checkpoint_to_use(given, config).name == "step_000002"
        said = capsys.readouterr().err
        assert said.count("WARNING") == 1 and "Set model.conventions=released" in said
    outside = place / "outside"
    shutil.copytree(checkpoint_to_use(run, RunConfig()), outside)
    capsys.readouterr()
    assert checkpoint_to_use(outside, config) == outside and not capsys.readouterr().err


def test_files_of_rows_and_benchmarks_of_the_user(world: World, place: Path, exported: Path, tmp_path: Path) -> None:
    rows = world.rows("validation")
    words = ["eval", "run.yaml", "--checkpoint", str(exported), "--out", str(tmp_path)]
    done = RUN.invoke(app, [*words, "--data", rows, "--data", f"benchmark_to_export:mine={rows}"])
    assert done.exit_code == 0, done.stderr
    assert "validation: 4 questions" in done.stdout and "task_average" in done.stdout
    assert "mine: 4 questions" in done.stdout and "points 0.00" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "validation"]
    done = RUN.invoke(app, [*words, "--data", rows, "--name", "again"])
    assert done.exit_code == 0, done.stderr
    first, again = (json_lines(result_of(tmp_path, name) / "result.jsonl") for name in ("validation", "again"))
    assert first == again


def test_bad_questions_are_told(world: World, exported: Path, tmp_path: Path) -> None:
    rows = world.read("test")
    rows[1]["answer"] = None
    path = write_rows(tmp_path / "rows.jsonl", rows)
    words = ["eval", "run.yaml", "--checkpoint", str(exported), "--data", path, "--out", str(tmp_path / "out")]
    done = RUN.invoke(app, words)
    assert done.exit_code == 2 and f"{path}:2: field 'answer'" in done.stderr
    assert not (tmp_path / "out").exists()
    done = RUN.invoke(app, [*words[:2], "data.on_bad_row=skip", *words[2:]])
    assert done.exit_code == 0 and done.stdout.startswith("rows: 3 questions, 1 refused")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.test=[]"], "no questions; give --data FILE"),
        (["model.path="], "model.path is not set"),
        (["--data", "nothing.jsonl"], "nothing.jsonl"),
        (["--checkpoint", "nothing"], "checkpoint 'nothing' was not found"),
    ],
)
def test_eval_says_what_is_missing(words: list[str], message: str) -> None:
    done = RUN.invoke(app, ["eval", "run.yaml", *words])
    assert done.exit_code == 2 and message in done.stderr
    assert not Path("evaluations").exists()


def test_two_benchmarks_of_one_name_are_refused(world: World) -> None:
    rows = world.rows("test")
    done = RUN.invoke(app, ["eval", "run.yaml", "--data", rows, "--data", rows])
    assert done.exit_code == 2 and "same name: test, test" in done.stderr


def test_nothing_is_overwritten(place: Path, exported: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}
    done = RUN.invoke(app, ["export", "runs/small", str(exported)])
    assert done.exit_code == 2 and "exists already; choose another name" in done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in exported.iterdir()} == before


def test_a_damaged_checkpoint_is_not_exported(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "runs/small", run)
    checkpoint = run / "stages/01-rl/checkpoints/step_000002"
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    done = RUN.invoke(app, ["export", str(checkpoint), str(tmp_path / "out")])
    assert done.exit_code == 2 and "is damaged" in done.stderr
    done = RUN.invoke(app, ["export", str(run), str(tmp_path / "out")])
    assert done.exit_code == 2 and "has no complete checkpoint" in done.stderr
    assert not (tmp_path / "out").exists()
    shutil.copytree(place / "runs/small/stages/01-rl", run / "stages/00-before")
    done = RUN.invoke(app, ["export", str(run), str(tmp_path / "out")])
    assert done.exit_code == 0 and "00-before/checkpoints/step_000002" in done.stdout
    passed = f"DAMAGED: {run}/stages/01-rl/checkpoints/step_000002: model.safetensors is not what was written"
    assert passed in done.stderr
