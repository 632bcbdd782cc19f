"""Whole runs, in this process."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from easyvideor1.evaluation import write_curves, write_report
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.files import json_bytes, seal
from easyvideor1.records.trajectory_files import read_trajectories
from easyvideor1.training.run_directory.status import FINISHED
from easyvideor1.types import ConfigError, DataError, StoppedError

from .runs import World, copy_run, json_lines, lasting, train, write_rows

pytestmark = pytest.mark.model


def test_a_run_leaves_everything_behind(finished: Path) -> None:
    top = {path.name for path in finished.iterdir()}
    assert top == {
        *("config.yaml", "run.json", "data_report.json", "summary.json", "curves.png", "report.html"),
        *("evaluations", "stages"),
    }
    evaluations = {path.name for path in (finished / "evaluations").iterdir()}
    names = ("before", "sft-000002", "01-sft", "grpo-000002", "grpo-000004", "02-grpo")
    assert evaluations == {f"{name}.{suffix}" for name in names for suffix in ("json", "jsonl")}
    assert sorted(path.name for path in (finished / "stages").iterdir()) == ["01-sft", "02-grpo"]
    for stage, steps, kept in (("01-sft", 3, (1, 2, 3)), ("02-grpo", 4, (2, 4))):
        directory = finished / "stages" / stage
        assert [row["step"] for row in json_lines(directory / "metrics.jsonl")] == list(range(1, steps + 1))
        assert [row["step"] for row in json_lines(directory / "timings.jsonl")] == list(range(1, steps + 1))
        for ending in (".jsonl", ".npz"):
            assert len(list((directory / "rollouts").glob(f"*{ending}"))) == steps
        assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == [f"step_{k:06d}" for k in kept]
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "02-grpo" in (finished / "report.html").read_text()
    assert list(finished.rglob(".*")) == []


def test_metrics_tell_what_was_trained_on(finished: Path) -> None:
    sft = json_lines(finished / "stages/01-sft/metrics.jsonl")
    assert sft[-1]["loss"] < sft[0]["loss"]
    assert all(row["groups/used"] == row["groups/all"] == 2 for row in sft), "one trajectory a sample is no flat group"
    grpo = json_lines(finished / "stages/02-grpo/metrics.jsonl")
    for row in grpo:
        assert row["groups/used"] > 0 and row["grad_norm"] > 0
        assert 0 < row["reward/total"] == row["reward/accuracy"] < 1
        assert row["mismatch/logprob_abs"] < 1e-3, "engine and trainer disagree"
    assert [row["lr"] for row in grpo] == pytest.approx([1e-3, 1e-3, 7.5e-4, 2.5e-4])
    assert grpo[0]["policy/kl"] == pytest.approx(0, abs=1e-6) and grpo[2]["policy/kl"] > 0
    assert "evaluation/greedy" in grpo[1] and "evaluation/greedy" not in grpo[0]


def test_rollouts_can_be_read_and_added_up(finished: Path) -> None:
    for stage, origin, count in (("01-sft", "offline", 1), ("02-grpo", "online", 3)):
        for row in json_lines(finished / f"stages/{stage}/metrics.jsonl"):
            groups = json_lines(finished / f"stages/{stage}/rollouts/step_{row['step']:06d}.jsonl")
            trajectories = [trajectory for group in groups for trajectory in group["trajectories"]]
            assert [len(group["trajectories"]) for group in groups] == [count, count]
            assert {trajectory["origin"] for trajectory in trajectories} == {origin}
            total = sum(trajectory["score"]["total"] for trajectory in trajectories) / len(trajectories)
            assert total == pytest.approx(row["reward/total"])
            tokens = sum(trajectory["tokens"] for trajectory in trajectories) / len(trajectories)
            assert tokens == row["response/tokens"]
            assert sum(group["used"] for group in groups) == row["groups/used"]
            for group in groups:
                (media,) = group["media"]
                assert Path(media["path"]).is_file() and len(media["timestamps"]) == len(media["frame_indices"])
                assert group["prompt_tokens"] > 50 and "<answer>" in group["prompt"]
            if origin == "online":
                assert all(trajectory["logprob"] < 0 for trajectory in trajectories)
                advantages = [trajectory["advantage"] for trajectory in groups[0]["trajectories"]]
                assert sum(advantages) == pytest.approx(0, abs=1e-4) and max(advantages) > 0.5


def test_summary_compares_the_last_stage_with_what_it_started_from(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["evaluations"] == {"before": "01-sft", "after": "02-grpo"}
    assert summary["steps"] == 7 and summary["seed"] == 7 and summary["seconds"] > 0
    for moment, name in (("before", "01-sft"), ("after", "02-grpo")):
        evaluation = Evaluation.load(finished / "evaluations", name)
        assert evaluation.greedy is not None and evaluation.count == 4
        assert summary[f"accuracy_{moment}"] == evaluation.greedy.mean


def test_the_status_of_a_finished_run(finished: Path, world: World) -> None:
    status = json.loads((finished / "run.json").read_text())
    assert status["stage"] == FINISHED and status["starts"] == 1 and status["threads"] == 1
    assert set(status["versions"]) == {"easyvideor1", "python", "torch", "transformers", "av", "numpy"}
    assert set(status["data"]) == {world.rows(split) for split in ("train", "validation", "test")}
    report = json.loads((finished / "data_report.json").read_text())
    assert {split: [source["used"] for source in sources] for split, sources in report.items()} == {
        "train": [12],
        "validation": [4],
        "test": [4],
        "stage sft": [12],
    }


def test_versions_of_weights_grow_over_the_whole_run(finished: Path) -> None:
    """Step 1 of the second stage is generated by the weights after all 3 steps of the first."""
    for step in (1, 2, 3, 4):
        records = read_trajectories(finished / f"stages/02-grpo/rollouts/step_{step:06d}.jsonl", arrays=True)
        turns = [turn for record in records for each in record.trajectories for turn in each.turns]
        assert turns and {int(version) for turn in turns for version in turn.versions} == {3 + step - 1}


def test_a_finished_run_returns_at_once(finished: Path, world: World, place: Path) -> None:
    run = copy_run(finished, place)
    write_report(run)  # it shows the ledger of the cache, to which runs of other tests may have added since
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    curves = run / "curves.png"
    drawn = curves.stat().st_mtime_ns
    _, shown = train(world.config())
    assert "is finished" in shown and "checking" not in shown
    assert curves.stat().st_mtime_ns == drawn, "nothing new to draw"
    whole = curves.read_bytes()
    for damage in (whole[:-40], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
        curves.write_bytes(damage)
        assert write_curves(run, redraw=False).read_bytes() == whole
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path.name for path in before if after[path] != before[path]] == []


@pytest.mark.parametrize("damage", ["flipped byte", "missing file", "damaged state", "no evaluation"])
def test_damage_to_a_finished_run_is_made_good(finished: Path, world: World, place: Path, damage: str) -> None:
    run = copy_run(finished, place)
    checkpoint = run / "stages/02-grpo/checkpoints/step_000004"
    if damage == "flipped byte":
        content = bytearray((checkpoint / "model.safetensors").read_bytes())
        content[len(content) // 2] ^= 1
        (checkpoint / "model.safetensors").write_bytes(content)
    elif damage == "missing file":
        (checkpoint / "optimizer.safetensors").unlink()
    elif damage == "damaged state":
        state = (checkpoint / "state.json").read_text()
        (checkpoint / "state.json").write_text(state.replace('"step": 4', '"step": 3'))
    else:
        (run / "evaluations/02-grpo.json").unlink()
    assert lasting(run) != lasting(finished)
    _, shown = train(world.config())
    assert lasting(run) == lasting(finished)
    assert ("resuming after step 2" in shown) == (damage != "no evaluation")


def change_a_digit(file: Path) -> None:
    """Of the first number with decimals: the file still reads well."""
    content, count = re.subn(rb"(\d\.)(\d)", lambda m: m[1] + bytes([m[2][0] ^ 1]), file.read_bytes(), count=1)
    assert count == 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("02-grpo/metrics.jsonl", "stages/02-grpo/metrics.jsonl"),
        ("01-sft/rollouts/step_000001.jsonl", "stages/01-sft/rollouts/step_000001.jsonl"),
        ("grpo-000002.json", "evaluations/grpo-000002"),
        ("grpo-000002.jsonl", "evaluations/grpo-000002"),
    ],
)
@pytest.mark.parametrize("stopped", [True, False])
def test_a_digit_that_was_changed_is_told_and_ends_no_run(
    finished: Path, world: World, place: Path, name: str, where: str, stopped: bool
) -> None:
    run = copy_run(finished, place)
    if stopped:
        shutil.rmtree(run / "stages/02-grpo/checkpoints/step_000004")
    file = run / ("evaluations" if name.startswith("grpo") else "stages") / name
    change_a_digit(file)
    hurt = file.read_bytes()
    _, shown = train(world.config())
    assert shown.count("DAMAGED: ") == 1
    (line,) = [line for line in shown.splitlines() if line.startswith("DAMAGED: ")]
    assert line.startswith(f"DAMAGED: {where}: ") and "not what was written" in line
    page = (run / "report.html").read_text()
    assert where in page and "not what was written" in page
    if stopped and name == "02-grpo/metrics.jsonl":
        assert hurt.startswith(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    else:
        assert file.read_bytes() == hurt, "it stays to be looked at"
    weights = "stages/02-grpo/checkpoints/step_000004/model.safetensors"
    assert (run / weights).read_bytes() == (finished / weights).read_bytes()


@pytest.mark.parametrize("name", ["before.json", "before.jsonl", "02-grpo.json"])
def test_a_damaged_test_evaluation_is_done_again(finished: Path, world: World, place: Path, name: str) -> None:
    run = copy_run(finished, place)
    change_a_digit(run / "evaluations" / name)
    _, shown = train(world.config())
    (line,) = [line for line in shown.splitlines() if line.startswith("DAMAGED: ")]
    assert line.startswith(f"DAMAGED: evaluations/{name.split('.')[0]}: ") and "not what was written" in line
    assert line.endswith("this evaluation is repeated")
    assert lasting(run) == lasting(finished)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"name: [", b"seed: 2026-99-99"])
def test_a_configuration_that_cannot_be_read_any_more_is_told(
    finished: Path, world: World, place: Path, content: bytes
) -> None:
    run = copy_run(finished, place)
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged: .*remove the file, and it is written again"):
        train(world.config())
    (run / "config.yaml").unlink()
    train(world.config())
    assert lasting(run) == lasting(finished)


@pytest.mark.parametrize(("old", "new"), [(b'"threads"', b'"threadt"'), (b'"starts": 1', b'"starts": 3')])
def test_a_damaged_status_is_told(finished: Path, world: World, place: Path, old: bytes, new: bytes) -> None:
    run = copy_run(finished, place)
    content = (run / "run.json").read_bytes()
    assert old in content
    (run / "run.json").write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=r"run\.json: not the status of a run .*remove it and start again"):
        train(world.config())
    (run / "run.json").unlink()
    train(world.config())
    assert lasting(run) == lasting(finished)


def test_a_run_of_a_version_without_digests_goes_on(finished: Path, world: World, place: Path) -> None:
    run = copy_run(finished, place)
    shutil.rmtree(run / "stages/02-grpo/checkpoints/step_000004")
    for file in (*run.glob("stages/*/checkpoints/*/state.json"), *run.glob("evaluations/*.json"), run / "run.json"):
        values = json.loads(file.read_text())
        for key in ("record", "records", "checksum"):
            values.pop(key, None)
        file.write_bytes(json_bytes(seal(values) if file.name == "state.json" else values, indent=2))
    train(world.config())
    weights = "stages/02-grpo/checkpoints/step_000004/model.safetensors"
    assert (run / weights).read_bytes() == (finished / weights).read_bytes()


def test_a_half_written_line_is_dropped(finished: Path, world: World, place: Path) -> None:
    run = copy_run(finished, place)
    stage = run / "stages/02-grpo"
    for step in (3, 4):
        (stage / f"rollouts/step_{step:06d}.jsonl").write_text("{")
    for path in (stage / "checkpoints/step_000004").iterdir():
        path.unlink()
    lines = (stage / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (stage / "metrics.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:25])
    (stage / "checkpoints/.step_000004.0123abcd.tmp").mkdir()
    (run / "evaluations/.02-grpo.json.0123abcd.tmp").write_text("{")
    train(world.config())
    assert lasting(run) == lasting(finished)


def test_another_configuration_is_refused(finished: Path, world: World, place: Path) -> None:
    run = copy_run(finished, place)
    before = lasting(run)
    with pytest.raises(ConfigError, match=r"stages\.0\.steps is 3 there, 5 here") as refused:
        train(world.config(stages__0__steps=5))
    assert "another name" in str(refused.value)
    assert lasting(run) == before


def test_rows_that_changed_are_refused(world: World, place: Path) -> None:
    rows = world.read()
    path = write_rows(place / "rows.jsonl", rows)
    config = world.short(data__train=[{"path": path}])
    train(config)
    run = place / "runs/small"
    for file in (run / "stages/01-rl/checkpoints/step_000002").iterdir():
        file.unlink()
    before = lasting(run)
    write_rows(place / "rows.jsonl", rows[1:])
    with pytest.raises(ConfigError, match=r"rows of .*rows\.jsonl have changed"):
        train(config)
    assert lasting(run) == before


def test_seeds_decide_everything(world: World, place: Path) -> None:
    metrics = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(world.short(name=name, seed=seed))
        metrics[name] = (place / f"runs/{name}/stages/01-rl/metrics.jsonl").read_bytes()
    assert metrics["one"] == metrics["again"] != metrics["other"]
    first, second = (place / f"runs/{name}/stages/01-rl/checkpoints/step_000002" for name in ("one", "again"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("reward", "count"), [("never", 6.0), ("same", 0.0)])
def test_a_step_without_a_usable_group_changes_nothing(world: World, place: Path, reward: str, count: float) -> None:
    config = world.short(rewards__custom={"*": f"own_parts:{reward}"}, stages__0__max_unusable_steps=3)
    stage = place / "runs/small/stages/01-rl"
    if reward == "never":
        with pytest.raises(StoppedError):
            train(config)
    else:
        train(config)
    for row in json_lines(stage / "metrics.jsonl"):
        assert row["groups/used"] == 0 and row["groups/all"] == 2 and row["response/not_applicable"] == count
        assert "loss" not in row and ("reward/total" in row) == (reward == "same")
    if reward == "same":
        start = load_file(world.checkpoint / "model.safetensors")
        end = load_file(stage / "checkpoints/step_000002/model.safetensors")
        assert start.keys() == end.keys() and all(torch.equal(start[name], end[name]) for name in start)
    (row, _) = json_lines(stage / "rollouts/step_000001.jsonl")
    assert row["used"] is False and {each["advantage"] for each in row["trajectories"]} == {None}
    if reward == "never":
        assert all("does not apply" in each["score"]["reason"] for each in row["trajectories"])


def test_parts_of_the_user_are_used(world: World, place: Path) -> None:
    changes = {
        "stages__0__advantage": "own_parts:centred",
        "stages__0__objective": "own_parts:noisy",
        "stages__0__transforms": ["own_parts:shout"],
    }
    train(world.short(**changes))
    rows = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    assert all(1 < row["own/noise"] < 1.1 for row in rows) and rows[0]["own/noise"] != rows[1]["own/noise"]
    groups = json_lines(place / "runs/small/stages/01-rl/rollouts/step_000001.jsonl")
    assert all(group["question"].endswith("!") and group["prompt"].count("!") > 0 for group in groups)
    advantages = [each["advantage"] for group in groups for each in group["trajectories"]]
    assert sum(advantages) == pytest.approx(0, abs=1e-5)


def test_a_stage_may_draw_from_some_of_the_sources(world: World, place: Path) -> None:
    sources = [{"path": world.rows("train")}, {"path": world.rows("validation")}]
    train(world.short(data__train=sources, stages__0__sources=[world.rows("validation")]))
    rollouts = sorted((place / "runs/small/stages/01-rl/rollouts").glob("*.jsonl"))
    drawn = {group["sample"] for file in rollouts for group in json_lines(file)}
    assert drawn and all(name.startswith("validation") for name in drawn)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stages__1__objective", "own_parts:nothing", "own_parts"),
        ("stages__1__transforms", ["nowhere:at_all"], "no module 'nowhere'"),
        ("rewards__custom", {"math": "nowhere:at_all"}, "no module 'nowhere'"),
        ("stages__1__sources", ["elsewhere.jsonl"], "not a path of data.train"),
        ("rollout__engine", "remote", "local"),
        ("rollout__engine", "pathlib:Path", "has no submit, results, cancel, update_weights, sleep, wake, close; an"),
        ("output_dir", "runs/{date}", "only {name} and {seed}"),
        ("model__path", "nowhere", "was not found"),
        ("model__path", "", "model.path is not set"),
        ("stages", [], "no stages"),
        ("data__train", [], "data.train is empty"),
    ],
)
def test_wrong_names_cost_no_training(world: World, place: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train(world.config(**{key: value}))
    assert message in str(refused.value)
    assert [path.name for path in place.iterdir() if path.name != "__pycache__"] == ["own_parts.py"]
