"""Bad rows, media and settings: one clear message, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.commands import numbered
from easyvideor1.cli import main
from easyvideor1.config import load_config, write_config
from easyvideor1.types import ConfigError, DataError

from .runs import OWN_PARTS, OWN_TURNS, World, json_lines, train, write_rows

pytestmark = pytest.mark.model

Row = dict[str, Any]


def without(row: Row, place: Path) -> Row:
    return {key: value for key, value in row.items() if key != "problem_type"}


def null_question(row: Row, place: Path) -> Row:
    return {**row, "problem": None}


def unknown_task(row: Row, place: Path) -> Row:
    return {**row, "problem_type": "multiple choise"}


def missing_video(row: Row, place: Path) -> Row:
    return {**row, "videos": [str(place / "gone.mp4")]}


def truncated_video(row: Row, place: Path) -> Row:
    content = Path(row["videos"][0]).read_bytes()
    (place / "cut.mp4").write_bytes(content[: len(content) // 2])
    return {**row, "videos": [str(place / "cut.mp4")]}


def damaged_pixels(row: Row, place: Path) -> Row:
    """The index is whole, so that the file probes; what it points at is noise."""
    content = bytearray(Path(row["videos"][0]).read_bytes())
    begin = content.index(b"mdat") + 4
    end = content.index(b"moov", begin) - 4 if content.find(b"moov", begin) > 0 else len(content)
    content[begin:end] = bytes(255 for _ in range(end - begin))
    (place / "noise.mp4").write_bytes(content)
    return {**row, "videos": [str(place / "noise.mp4")]}


def unusable_answer(row: Row, place: Path) -> Row:
    return {**row, "problem_type": "numerical", "answer": "many"}


def image_as_video(row: Row, place: Path) -> Row:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(place / "still.png")
    return {**row, "videos": [str(place / "still.png")]}


def long_question(row: Row, place: Path) -> Row:
    return {**row, "problem": row["problem"] + " and so on" * 500}


def endless_trace(row: Row, place: Path) -> Row:
    return {**row, "offline_output": "<think>" + "so and so " * 200 + "</think><answer>A</answer>"}


FAULTS: list[tuple[Callable[[Row, Path], Row], str, str]] = [
    (without, "problem_type", "problem_type"),
    (null_question, "problem", "null"),
    (unknown_task, "problem_type", "multiple_choice"),
    (missing_video, "videos", "gone.mp4"),
    (truncated_video, "videos", "cut.mp4"),
    (damaged_pixels, "videos", "cannot be decoded"),
    (unusable_answer, "answer", "many"),
    (image_as_video, "videos", "still.png"),
    (long_question, "problem", "data.max_prompt_tokens is 800"),
    (endless_trace, "offline_output", "rollout.max_new_tokens is 48"),
]
IDS = [fault.__name__ for fault, _, _ in FAULTS]


def videos(world: World) -> list[Row]:
    return [row for row in world.read() if row["videos"]][:4]


def supervised(world: World, path: str, **changes: Any):
    stage = {**world.values()["stages"][0], "steps": 1}
    source = [{"path": path}]
    return world.short(**{"stages": [stage], "data__train": source, "data__max_prompt_tokens": 800, **changes})


@pytest.mark.parametrize(("fault", "field", "words"), FAULTS, ids=IDS)
def test_a_bad_row_stops_before_anything_is_written(
    world: World, place: Path, fault: Callable[[Row, Path], Row], field: str, words: str
) -> None:
    rows = videos(world)
    rows[2] = fault(rows[2], place)
    path = write_rows(place / "rows.jsonl", rows)
    with pytest.raises(DataError) as refused:
        train(supervised(world, path))
    message = str(refused.value)
    assert f"{path}:3: field {field!r}: " in message and words in message
    assert "1 of 4 rows cannot be used" in message and "data.on_bad_row" in message
    assert not (place / "runs").exists()
    # Corrected, it runs under the same name.
    write_rows(place / "rows.jsonl", videos(world))
    train(supervised(world, path))


def test_bad_rows_may_be_skipped_and_are_counted(world: World, place: Path) -> None:
    rows = videos(world)
    bad = [{**fault(rows[index % 4], place), "problem_id": f"bad{index}"} for index, (fault, _, _) in enumerate(FAULTS)]
    path = write_rows(place / "rows.jsonl", [*bad, *rows])
    train(supervised(world, path, data__on_bad_row="skip"))
    report = json.loads((place / "runs/small/data_report.json").read_text())
    (source,), (trained,) = report["train"], report["stage sft"]
    # A trace that is too long spoils its row for supervised learning only.
    assert (source["rows"], source["used"], source["refused"]) == (14, 5, 9)
    assert (trained["rows"], trained["used"], trained["refused"]) == (14, 4, 10)
    for number, (_, field, _) in enumerate(FAULTS, 1):
        assert sum(entry.startswith(f"{path}:{number}: field {field!r}") for entry in trained["bad"]) == 1
    used = {row["sample"] for row in json_lines(place / "runs/small/stages/01-sft/rollouts/step_000001.jsonl")}
    assert not any(name.startswith("bad") for name in used)


def test_a_stage_needs_something_to_learn_from(world: World, place: Path) -> None:
    rows = [{**row, "has_offline_trajectory": False, "offline_output": ""} for row in videos(world)]
    path = write_rows(place / "rows.jsonl", rows)
    with pytest.raises(DataError, match="'sft' trains on offline trajectories, but no row of"):
        train(supervised(world, path))
    with pytest.raises(DataError, match="asked for the tasks"):
        train(world.short(stages__0__tasks=["ocr"]))
    assert not (place / "runs").exists()


def test_a_fault_of_the_last_stage_costs_nothing(world: World, place: Path) -> None:
    """The second stage is supervised and has no trajectory to learn from: the first must not be trained for that."""
    rows = [{**row, "has_offline_trajectory": False, "offline_output": ""} for row in videos(world)]
    path = write_rows(place / "rows.jsonl", rows)
    stages = world.values()["stages"][::-1]
    with pytest.raises(DataError, match="offline trajectories"):
        train(world.short(stages=stages, data__train=[{"path": path}]))
    assert not (place / "runs").exists()


@pytest.mark.parametrize(("content", "words"), [("", "is empty"), (None, "no such data file"), ("[1, 2", "rows.json")])
def test_files_without_rows(world: World, place: Path, content: str | None, words: str) -> None:
    path = place / "rows.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        train(world.short(data__train=[{"path": str(path)}]))
    assert not (place / "runs").exists()


def test_a_directory_that_was_there_is_left_alone(world: World, place: Path) -> None:
    (place / "runs/small").mkdir(parents=True)
    (place / "runs/small/notes.txt").write_text("mine")
    with pytest.raises(ConfigError):
        train(world.short(model__path="nowhere"))
    assert [path.name for path in (place / "runs/small").iterdir()] == ["notes.txt"]


def test_the_command_line_tells_it_in_one_message(
    world: World, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(world.short(), place / "run.yaml")
    (place / "run.yaml").write_text((place / "run.yaml").read_text().replace("steps: 2", "steps: many"))
    with pytest.raises(SystemExit) as ended:
        main(["train", "run.yaml"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: run.yaml:") and "steps" in said and "Traceback" not in said
    assert not (place / "runs").exists()


def test_a_medium_that_fails_during_training_is_left_out_and_counted(world: World, place: Path) -> None:
    """As when a transform brings in a file that nobody has checked."""
    (place / "swap.py").write_text(
        "from dataclasses import replace\n"
        "def swap(sample, step, rng):\n"
        "    if step != 0: return [sample]\n"
        "    return [replace(sample, media=tuple(replace(ref, path='gone.mp4') for ref in sample.media))]\n"
    )
    path = write_rows(place / "rows.jsonl", videos(world))
    train(world.short(stages__0__transforms=["swap:swap"], data__train=[{"path": path}]))
    stage = place / "runs/small/stages/01-rl"
    first, second = json_lines(stage / "metrics.jsonl")
    assert (first["groups/media_failed"], first["groups/used"]) == (2, 0)
    assert (second["groups/media_failed"], second["groups/used"]) == (0, 2)
    assert [group["trajectories"] for group in json_lines(stage / "rollouts/step_000001.jsonl")] == [[], []]
    health = json_lines(world.home / "frames/health.jsonl")
    assert any(entry["path"] == "gone.mp4" and "stage rl" in entry["action"] for entry in health)


def test_a_wrong_model_is_told_before_anything_else_of_the_run(world: World, place: Path) -> None:
    """Before files of rows are looked for, and before names are resolved."""
    wrong = {"data__train": [{"path": "gone.jsonl"}], "rewards__custom": {"*": "no_module:at_all"}}
    with pytest.raises(ConfigError, match="hf download Qwen/Qwen3-VL-2B-Instruct --local-dir"):
        train(world.short(model__path="Qwen/Qwen3-VL-2B-Instruct", **wrong))
    with pytest.raises(DataError, match=r"gone\.jsonl: no such data file"):
        train(world.short(**wrong))


def test_a_run_is_the_same_from_any_directory(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that are beside the YAML file stay as they are written, so the run is known again from elsewhere."""
    study = place / "study"
    study.mkdir()
    write_rows(study / "rows.jsonl", world.read())
    config = world.short(data__train=[{"path": "rows.jsonl"}], output_dir=str(place / "out"), stages__0__steps=1)
    write_config(config, study / "run.yaml")
    _, said = train(load_config("study/run.yaml"))
    assert "train: study/rows.jsonl: 12 samples" in said
    assert (place / "out/config.yaml").read_text() == (study / "run.yaml").read_text()
    assert list(json.loads((place / "out/run.json").read_text())["data"]) == ["rows.jsonl"]
    monkeypatch.chdir(study)
    (study / "own_parts.py").write_text(OWN_PARTS)
    _, said = train(load_config("run.yaml"))
    assert "this run is finished" in said


def test_a_reward_that_fails_is_told_before_frames_are_decoded(world: World, place: Path) -> None:
    (place / "wrong_reward.py").write_text("def mine(sample, response):\n    return sample.extra['difficulty']\n")
    path = write_rows(place / "rows.jsonl", videos(world))
    config = world.short(
        rewards__custom={"*": "wrong_reward:mine"}, data__train=[{"path": path}], cache__dir=str(place / "frames")
    )
    with pytest.raises(ConfigError) as told:
        train(config)
    assert "reward 'wrong_reward:mine' raised KeyError: 'difficulty'. It was tried on sample" in str(told.value)
    assert str(told.value).endswith("\n  wrong_reward.py:2 in mine: return sample.extra['difficulty']")
    assert not list((place / "frames").glob("*/*.safetensors")) and not (place / "runs").exists()


@pytest.mark.parametrize(
    ("strategy", "words"), [("Failing", "no such clip"), ("Long", "data.max_prompt_tokens is 8192")]
)
def test_a_further_turn_without_a_prompt_costs_its_sample_only(
    world: World, place: Path, strategy: str, words: str
) -> None:
    (place / "own_turns.py").write_text(OWN_TURNS)
    path = write_rows(place / "rows.jsonl", numbered(world, 2))
    rollout = {"max_new_tokens": 8, "strategy": f"own_turns:{strategy}"}
    _, shown = train(world.short(rollout=rollout, data__train=[{"path": path}], stages__0__steps=1))
    assert f"step 1: left out: {path}:1, turn 2: " in shown.replace("\n", "") and words in shown
    stage = place / "runs/small/stages/01-rl"
    (row,) = json_lines(stage / "metrics.jsonl")
    assert (row["groups/turn_failed"], row["groups/media_failed"], row["groups/all"]) == (1, 0, 2)
    groups = json_lines(stage / "rollouts/step_000001.jsonl")
    (left_out,) = [group for group in groups if not group["trajectories"]]
    (answered,) = [group for group in groups if group["trajectories"]]
    assert words in left_out["error"] and len(answered["trajectories"]) == 3 and "error" not in answered
