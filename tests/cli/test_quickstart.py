"""evr1 quickstart: what it tells before it works, and the command that --prepare prints."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.quickstart import RECIPE_OUT, training_command
from easyvideor1.config import load_config
from easyvideor1.recipes import toy
from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.training.run_directory.layout import run_directory

RUN = CliRunner()


def test_the_recipe_needs_no_settings_for_its_own_place():
    assert training_command(0, RECIPE_OUT) == ["evr1", "train", "quickstart", "name=short"]
    assert training_command(0, RECIPE_OUT, ["stages.grpo.steps=3"])[4:] == ["stages.grpo.steps=3"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("out", [RECIPE_OUT, Path("some where/{else}"), Path("/x")])
def test_the_command_names_what_was_written(seed, out):
    *verb, recipe = training_command(seed, out)[:3]
    assert verb == ["evr1", "train"]
    config = load_config(recipe, training_command(seed, out)[3:])
    assert config.seed == seed
    assert Path(config.model.path) == out / "warm-start"
    assert Path(config.cache.dir) == out / "frames"
    assert [Path(source.path) for source in config.data.train] == [out / f"world-{seed}" / "train.jsonl"]
    assert [Path(source.path) for source in config.data.validation] == [out / f"world-{seed}" / "validation.jsonl"]
    assert [Path(source.path) for source in config.data.test] == [out / f"world-{seed}" / "test.jsonl"]
    assert run_directory(config) != out / f"run-{seed}"  # where the quickstart's own run is
    assert out == RECIPE_OUT or out in run_directory(config).parents
    assert run_directory(config) != run_directory(config.model_copy(update={"seed": 7}))


@pytest.fixture
def small_world(monkeypatch):
    """The quickstart's world with a handful of clips instead of 1304."""
    whole = toy.quickstart_world
    monkeypatch.setattr(toy, "quickstart_world", lambda seed: replace(whole(seed), train=14, validation=7, test=7))


@pytest.mark.model
def test_the_printed_command_trains(tmp_path, small_world, monkeypatch):
    from easyvideor1.families.tiny import write_tiny_checkpoint

    monkeypatch.chdir(tmp_path)
    out = Path("my {place}")
    corpus = ["Which way does it move? <answer>A</answer>", "<0.5 seconds>" * 9]
    write_tiny_checkpoint(out / "warm-start", corpus, width=64, layers=1, vision_layers=1, vocabulary=300)
    small = ["stages.grpo.steps=1", "stages.grpo.prompts_per_step=2", "stages.grpo.group_size=2"]
    small += ["rollout.max_new_tokens=4", "data.max_prompt_tokens=4096", "threads=1"]
    done = RUN.invoke(app, ["quickstart", "--prepare", "--seed", "1", "--out", str(out), *small])
    assert done.exit_code == 0, done.output
    written = {path.name for path in out.iterdir()}
    assert written == {"warm-start", "world-1", "all-tasks-1"}
    rows = (out / "all-tasks-1/train.jsonl").read_text(encoding="utf-8").splitlines()
    assert {canonical_task(json.loads(row)["problem_type"]) for row in rows} == set(TASKS)
    evr1, *command = shlex.split(done.stdout.partition("train with: ")[2])
    assert evr1 == "evr1"
    trained = RUN.invoke(app, command)
    assert trained.exit_code == 0, trained.output
    assert {path.name for path in out.iterdir()} == {*written, "frames", "short-1"}
    assert (out / "short-1/report.html").is_file()
    assert list(tmp_path.iterdir()) == [tmp_path / out]


def test_a_package_without_its_checkpoint_says_so_before_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "WARM_START", tmp_path / "absent")
    done = RUN.invoke(app, ["quickstart", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert str(tmp_path / "absent") in done.stderr and "make_warm_start.py" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_told_before_anything_is_written(tmp_path):
    done = RUN.invoke(app, ["quickstart", "--out", str(tmp_path / "out"), "stages.grpo.step=3"])
    assert done.exit_code == 2
    assert "did you mean" in done.stderr and "steps" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("vlm", "unknown engine 'vlm': did you mean vllm"),
        ("own_engine:Lacking", "'own_engine:Lacking' needs no_such_package, which is not installed; pip install it"),
        ("own_engine:Empty", "engine 'own_engine:Empty' has no submit"),
    ],
)
def test_an_engine_that_cannot_be_used_is_told_before_anything_is_written(tmp_path, monkeypatch, engine, said):
    monkeypatch.chdir(tmp_path)
    own = "from answering import AnsweringEngine\n\nclass Empty: pass\n\n"
    own += "class Lacking(AnsweringEngine):\n    requires = ('no_such_package', 'pip install it')\n"
    (tmp_path / "own_engine.py").write_text(own)
    done = RUN.invoke(app, ["quickstart", "--engine", engine])
    assert done.exit_code == 2 and said in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_the_printed_command_names_the_engine(tmp_path, small_world, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answering_engine.py").write_text("from answering import AnsweringEngine\n")
    done = RUN.invoke(app, ["quickstart", "--prepare", "--engine", "answering_engine:AnsweringEngine"])
    assert done.exit_code == 0, done.output
    command = shlex.split(done.stdout.partition("train with: ")[2])
    assert load_config(command[2], command[3:]).rollout.engine == "answering_engine:AnsweringEngine"
