"""evr1 init: what it writes loads, passes a dry run, and says why of every key."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.init import propose
from easyvideor1.cli.init_rows import find_rows
from easyvideor1.cli.init_settings import Settings
from easyvideor1.config import load_config, parse_config
from easyvideor1.types import ConfigError, DataError
from training.runs import World, write_rows

RUN = CliRunner()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("init"))


def init(*words: str) -> Any:
    return RUN.invoke(app, ["init", *words])


def unexplained(text: str) -> list[str]:
    """Keys with a value that no comment stands above."""
    lines = text.splitlines()
    return [
        line
        for above, line in pairwise(lines)
        if re.fullmatch(r"\s*[\w]+: \S.*", line) and not above.lstrip().startswith("# ")
    ]


@pytest.mark.model
def test_what_it_writes_loads_and_passes_a_dry_run(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    splits = ["--data", world.rows("train"), "--validation", world.rows("validation"), "--test", world.rows("test")]
    done = init("mine.yaml", "--model", str(world.checkpoint), *splits, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"], "nothing else is written"
    text = (tmp_path / "mine.yaml").read_text()
    assert unexplained(text) == []
    config = load_config("mine.yaml")
    assert (config.name, config.model.path, config.evaluation.every) == ("mine", str(world.checkpoint), 25)
    assert config.stages[0].epochs is not None and config.stages[0].group_size == 8
    place = f"cache.dir={world.home / 'frames'}"
    dry = RUN.invoke(app, ["train", "mine.yaml", place, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "100 steps" in dry.stdout or "101 steps" in dry.stdout
    before = (tmp_path / "mine.yaml").read_bytes()
    again = init("mine.yaml", "--model", str(world.checkpoint), *splits)
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert (tmp_path / "mine.yaml").read_bytes() == before


@pytest.mark.model
def test_a_gpu_that_is_small_gets_what_makes_it_fit(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shape = tmp_path / "shape"
    shape.mkdir()
    shutil.copyfile(world.checkpoint / "config.json", shape / "config.json")
    words = ["--model", str(shape), "--data", world.rows("train"), "--device", "L4-24GB", "--gpus", "2"]
    large = init("large.yaml", *words)
    assert large.exit_code == 0, large.output
    assert "else the" not in Path("large.yaml").read_text()
    peak = fits("large.yaml", world)["peaks"]["update"]["total"]
    memory = str(int(0.9 * peak / 0.92))
    small = init("small.yaml", *words, "--memory", memory)
    assert small.exit_code == 0, small.output
    before, after = (load_config(name).stages[0].micro_batch_tokens for name in ("large.yaml", "small.yaml"))
    assert after < before
    assert fits("small.yaml", world, "--memory", memory)["fits"]
    config = load_config("small.yaml")
    assert config.cluster.ranks == 2 and config.model.dtype == "bfloat16"
    nothing = init("none.yaml", *words, "--memory", "100K")
    assert nothing.exit_code == 2 and "nothing makes it fit" in nothing.stderr and not Path("none.yaml").exists()


def fits(config: str, world: World, *words: str) -> dict[str, Any]:
    """What ``evr1 fit`` says of the stage, with the model's own tokenizer."""
    done = RUN.invoke(app, ["fit", config, f"model.path={world.checkpoint}", "--device", "L4-24GB", "--json", *words])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["stages"][0]
    return found


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = init()
    assert done.exit_code == 2 and "--model is missing" in done.stderr
    done = init("--model", "nowhere")
    assert done.exit_code == 2 and "'nowhere' was not found" in done.stderr
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_text("{}")
    done = init("--model", "shape", "--data", "rows.jsonl")
    assert done.exit_code == 2 and "rows.jsonl: no such data file" in done.stderr
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize(
    ("answers", "options", "task"),
    [
        (["Yes", "no", ""], None, "boolean"),
        (["B", "<answer>C</answer>"], None, "multiple choice"),
        (["3", "-1.5"], None, "numerical"),
        (["a red car", "B"], None, "open-ended"),
        (["B"], ["A. one", "B. two"], "multiple choice"),
    ],
)
def test_columns_and_task_are_guessed(tmp_path: Path, answers: list[str], options: Any, task: str) -> None:
    question = "What? " if options else "What?\nA. one\nB. two\nC. three"
    rows = [{"question": question, "gt": answer, "options": options} for answer in answers]
    found = find_rows(write_rows(tmp_path / "rows.jsonl", rows))
    assert found.source["task"] == task and found.columns == {"question_key": "question", "answer_key": "gt"}
    assert found.usable == sum(map(bool, answers))


def test_one_row_with_a_task_type_does_not_hide_that_of_the_others(tmp_path: Path) -> None:
    rows = [{"problem": "What?", "answer": "3"}] * 3 + [{"problem": "Is it?", "answer": "a", "problem_type": "math"}]
    found = find_rows(write_rows(tmp_path / "rows.jsonl", rows))
    assert found.usable == 4 and found.tasks == {"numerical": 3, "math": 1}


def proposed(**given: Any) -> None:
    fixed = {"model": "none", "name": "a", "task": "", "media_root": "", "memory": ""}
    propose(**{**fixed, "gpus": 0, "device": "cpu", **given})


def test_splits_of_one_format_have_one_set_of_columns(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", [{"question": "What?", "gt": "3"}])
    test = write_rows(tmp_path / "test.jsonl", [{"query": "What?", "gt": "3"}])
    with pytest.raises(DataError, match=r"test.jsonl names its columns otherwise \(data.question_key: query, .*train"):
        proposed(rows={"train": train, "test": test})
    with pytest.raises(ConfigError, match=r"--gpus 8: .* is no GPU; name the GPUs to train on with --device NAME"):
        proposed(rows={"train": train}, gpus=8)


def test_rows_of_other_frameworks_need_no_columns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What moves?"}, {"role": "assistant", "content": "a car"}]
    found = find_rows(write_rows(tmp_path / "rows.jsonl", [{"messages": turns}]))
    assert not found.columns and found.source["task"] == "open-ended" and found.usable == 1
    assert find_rows(str(tmp_path / "rows.jsonl"), task="description").tasks == {"description": 1}


def test_media_are_looked_for_beside_and_above(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    (tmp_path / "lists").mkdir()
    row = {"problem": "What?", "answer": "a", "problem_type": "open-ended"}
    beside = find_rows(write_rows(tmp_path / "rows.jsonl", [{**row, "videos": ["a.mp4"]}]))
    above = find_rows(write_rows(tmp_path / "lists" / "rows.jsonl", [{**row, "videos": ["clips/a.mp4"]}]))
    there = find_rows(write_rows(tmp_path / "there.jsonl", [{**row, "videos": ["clips/a.mp4"]}]))
    assert beside.source["media_root"] == str(tmp_path / "clips") and above.source["media_root"] == str(tmp_path)
    assert "media_root" not in there.source and "task" not in there.source


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        find_rows(write_rows(tmp_path / "rows.jsonl", [{"problem": "What?", "answer": "", "problem_type": "math"}]))
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="cannot be read"):
        find_rows(str(tmp_path / "bad.jsonl"))


def test_settings_are_written_with_their_reasons() -> None:
    settings = Settings()
    settings.set("name", "a: #b", "why " * 60)
    settings.set("data.train.0.path", "no", "rows")
    settings.set("data.train.0.task", "math", "task")
    settings.set("data.train.1.path", "x.jsonl", "more rows")
    settings.set("model.lora", {"rank": 16}, "adapters")
    settings.set("model.offload", ["optimizer"], "memory")
    settings.set("stages.0.name", "grpo", "stage")
    settings.set("stages.0.optimizer.lr", 1e-6, "rate")
    text = settings.text("a model", "run.yaml")
    assert unexplained(text) == []
    config = parse_config(text, "run.yaml")
    assert config.name == "a: #b" and [one.path for one in config.data.train] == ["no", "x.jsonl"]
    assert config.model.lora is not None and config.stages[0].optimizer.lr == 1e-6
    assert json.loads(json.dumps(settings.nested()))["data"]["train"][0] == {"path": "no", "task": "math"}


@pytest.mark.parametrize(("question", "answer"), [("question", "answer"), ("query", "gt"), ("instruction", "label")])
def test_rows_that_ask_something_are_no_events_whatever_times_and_captions_they_have(
    tmp_path: Path, question: str, answer: str
) -> None:
    row = {
        question: "What colour is the car?",
        answer: "red",
        "video": "v.mp4",
        "timestamp": [3, 5],
        "caption": "a car",
    }
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    found = find_rows(str(path))
    assert [sample.question for sample in found.loaded.samples] == ["<video>\nWhat colour is the car?"]
    assert found.columns == {"question_key": question, "video_key": "video"} | (
        {} if answer == "answer" else {"answer_key": answer}
    )
