"""evr1 train --dry-run: everything is looked at, all problems come together, and nothing is trained or written."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import dump_config, load_config, write_config
from training.runs import World, write_rows

pytestmark = pytest.mark.model

RUN = CliRunner()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("dry"))


@pytest.fixture
def place(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_config(world.config(rewards={}), tmp_path / "run.yaml")
    return tmp_path


def dry(*words: str) -> Any:
    return RUN.invoke(app, ["train", "run.yaml", "--dry-run", *words])


def shape(world: World, out: Path, *, tokenizer: bool) -> Path:
    """The checkpoint without its weights, and without its tokenizer if that is asked for."""
    out.mkdir()
    for file in world.checkpoint.iterdir():
        if file.suffix != ".safetensors" and (tokenizer or file.name == "config.json"):
            shutil.copyfile(file, out / file.name)
    return out


def test_a_run_that_can_start_is_described_and_leaves_nothing(world: World, place: Path) -> None:
    done = dry()
    assert done.exit_code == 0, done.output
    for words in (
        "12 of 12 rows, 0 bad",
        "1 sft: 3 steps of 2 prompts from 12 rows (0.5 epochs), offline trajectories",
        "2 grpo: 4 steps of 2 prompts x 3 responses",
        "evaluated every 2; saved every 2",
        "videos: 4 frames",
        "memory and time on cpu",
        "writes: runs/small: a new run",
        "no problem found",
    ):
        assert words in done.stdout, words
    assert done.stdout.count("prompt of stage sft") == 2 and done.stdout.count("prompt of stage grpo") == 2
    assert "4 frames of 64 x 64 pixels, 8 tokens; at 0.25 0.75 1.25 1.75 s" in done.stdout
    assert "not checked" not in done.stdout
    assert sorted(path.name for path in place.iterdir()) == ["run.yaml"]


def test_the_prompts_are_those_of_the_first_step(world: World, place: Path) -> None:
    from easyvideor1.components import Components

    done = dry()
    config = load_config("run.yaml", ())
    with Components.open(config) as components:
        [loaded] = components.load_sources(config.data.train)
        by_place = {sample.where: sample for sample in loaded.samples}
        shown = re.findall(r"prompt of stage grpo, (\S+): (\d+) tokens, (\d+) visual", done.stdout)
        assert len(shown) == 2
        for where, tokens, visual in shown:
            prompt = components.render(by_place[where])
            assert (len(prompt), sum(plan.tokens for plan in prompt.plans)) == (int(tokens), int(visual))
            last = prompt.text.splitlines()[-1]
            assert f"  | {last}" in done.stdout or last in done.stdout
    assert "<|video_pad|> x 8" in done.stdout or "<|video_pad|> x 4" in done.stdout


def test_every_task_is_scored_once(world: World, place: Path) -> None:
    done = dry()
    tasks = {row["problem_type"] for split in ("train", "validation", "test") for row in world.read(split)}
    assert len(tasks) > 1
    lines = [line for line in done.stdout.splitlines() if "has accuracy 1.000" in line]
    assert len(lines) == len(tasks) and all("; empty 0.000" in line for line in lines)


def test_a_shape_is_enough(world: World, place: Path) -> None:
    bare = shape(world, place / "bare", tokenizer=True)
    done = dry(f"model.path={bare}")
    assert done.exit_code == 0, done.output
    assert "without weights" in done.stdout and "weights: there are none" in done.stdout
    assert "stand-in" not in done.stdout


def test_config_json_alone_gives_exact_visual_tokens_and_estimated_text(world: World, place: Path) -> None:
    whole, bare = dry(), dry(f"model.path={shape(world, place / 'bare', tokenizer=False)}")
    assert bare.exit_code == 0, bare.output
    assert "tokenizer and processor settings: not in" in bare.stdout
    found = [
        [int(number) for number in re.findall(r"prompt of stage grpo, \S+: (?:about )?\d+ tokens, (\d+)", out.stdout)]
        for out in (whole, bare)
    ]
    assert found[0] == found[1] and len(found[0]) == 2
    assert ": about " in bare.stdout and ": about " not in whole.stdout
    memory = [re.search(r"grpo: (.*?) of ", out.stdout)[1] for out in (whole, bare)]  # type: ignore[index]
    assert memory[0].split()[1] == memory[1].split()[1]


def test_a_device_that_is_not_there_is_a_problem_of_this_machine_only(world: World, place: Path) -> None:
    done = dry("model.device=cuda:99")
    assert done.exit_code == 1 and "model.device 'cuda:99' does not exist" in done.stderr
    assert "1 problem:" in done.stderr and "cuda:99" not in done.stdout
    assert dry("model.device=cuda:99", "--device", "H100").exit_code == 0


def test_a_package_that_adapters_need_is_a_problem(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    done = dry("model.lora={rank: 4}")
    assert done.exit_code == 1 and "model.lora needs the package peft" in done.stderr
    trained = RUN.invoke(app, ["train", "run.yaml", "model.lora={rank: 4}"])
    assert trained.exit_code == 2 and "model.lora needs the package peft" in trained.stderr
    assert not list(place.rglob("*.frames")) and not (place / "runs/small/run.json").exists()


def test_what_a_start_would_refuse_of_the_run_that_is_there_is_a_problem(world: World, place: Path) -> None:
    rows = write_rows(place / "own.jsonl", world.read())
    words = (f"data.train.0.path={rows}", "stages.sft.steps=1", "stages.grpo.steps=1")
    trained = RUN.invoke(app, ["train", "run.yaml", *words])
    assert trained.exit_code == 0, trained.output
    assert "the run that is there, which is finished" in dry(*words).stdout
    longer = (*words[:2], "stages.grpo.steps=2")
    done = dry(*longer)
    assert done.exit_code == 0 and "the run that is there, which gets longer" in done.stdout, done.output
    write_rows(place / "own.jsonl", world.read()[1:])
    done = dry(*longer)
    assert done.exit_code == 1 and "own.jsonl have changed since this run started" in done.stderr, done.output
    (place / "runs/small/run.json").unlink()
    assert "cannot be extended: run.json" in dry(*longer).stderr


def test_all_problems_come_at_once(world: World, place: Path) -> None:
    rows = world.read()
    rows[1] = {**rows[1], "answer": ""}
    rows[2] = {**rows[2], "videos": ["/nowhere/clip.mp4"]}
    bad = write_rows(place / "bad.jsonl", rows)
    done = dry(
        f"data.train.0.path={bad}",
        "data.test.0.path=missing.jsonl",
        "model.path=nothing/here",
        "rewards.custom={'*': nowhere:reward}",
        "stages.grpo.best_by=evaluation/best",
    )
    assert done.exit_code == 1
    for words in ("bad.jsonl", "missing.jsonl", "'nothing/here'", "nowhere"):
        assert words in done.stderr, f"{words}\n{done.stderr}"
    assert "all need the model" in done.stdout
    assert not (place / "runs").exists()


def test_bad_rows_do_not_hide_what_other_rows_show(world: World, place: Path) -> None:
    bad = write_rows(place / "bad.jsonl", [{**row, "answer": ""} for row in world.read()])
    done = dry(f"data.train.0.path={bad}")
    assert done.exit_code == 1 and "bad.jsonl" in done.stderr
    assert "training rows cannot be used" in done.stdout
    assert "has accuracy 1.000" in done.stdout, "of the validation rows"


def test_what_does_not_fit_is_a_problem(world: World, place: Path) -> None:
    done = dry("--device", "H100", "--memory", "1M")
    assert done.exit_code == 1
    assert "2 problems:" in done.stderr and "does not fit" in done.stderr
    alone = RUN.invoke(app, ["train", "run.yaml", "--device", "H100"])
    assert alone.exit_code == 2 and "--dry-run" in alone.stderr


def test_another_run_in_the_place_is_a_problem_and_stays_as_it_is(world: World, place: Path) -> None:
    there = place / "runs/small"
    there.mkdir(parents=True)
    (there / "config.yaml").write_text(dump_config(world.config(rewards={}, seed=8)))
    before = (there / "config.yaml").read_bytes()
    done = dry()
    assert done.exit_code == 1 and "seed is 8 there, 7 here" in done.stderr
    assert [path.name for path in there.iterdir()] == ["config.yaml"]
    assert (there / "config.yaml").read_bytes() == before


def test_a_run_with_other_changeable_settings_is_not_rewritten(world: World, place: Path) -> None:
    there = place / "runs/small"
    there.mkdir(parents=True)
    (there / "config.yaml").write_text(dump_config(world.config(rewards={}, stages__1__save_every=1)))
    before = (there / "config.yaml").read_bytes()
    done = dry()
    assert done.exit_code == 0, done.output
    assert "goes on with other settings that may change" in done.stdout
    assert (there / "config.yaml").read_bytes() == before


def test_a_reward_that_pays_for_nothing_is_a_problem(world: World, place: Path) -> None:
    (place / "own_rewards.py").write_text("def constant(sample, response):\n    return 0.5\n")
    done = dry("rewards.custom={'*': own_rewards:constant}")
    assert done.exit_code == 1
    assert "nothing right can be learnt from it" in done.stderr


def test_a_recipe_without_its_data_says_how_to_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = RUN.invoke(app, ["train", "veripo", "--dry-run"])
    assert done.exit_code == 1
    assert "evr1 recipes veripo --prepare" in done.stderr
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"
