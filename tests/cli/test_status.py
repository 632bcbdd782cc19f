"""evr1 status: running, finished, interrupted and damaged runs; nothing is changed."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.run_state import read_state, resume_command
from easyvideor1.files import seal, write_json
from easyvideor1.training.run_directory.layout import claimed

RUN = CliRunner(env={"COLUMNS": "160"})
FACTS = {
    "name": "mine",
    "seed": 0,
    "command": ["/opt/venv/bin/evr1", "train", "run.yaml", "name=a b"],
    "directory": "/data/here",
    "versions": {},
    "threads": 1,
    "started": "2026-11-30T10:00:00+0000",
    "data": {},
    "starts": 2,
    "stage": "02-grpo",
    "seconds": 123.0,
    "steps": {"sft": 2, "grpo": 50},
    "epochs": {},
    "incidents": [
        {"start": 2, "time": "", "text": "DAMAGED: step_000008: model.safetensors is cut short; it is skipped"},
        {"start": 2, "time": "", "text": "stage grpo gets longer: 50 steps, 10 until now"},
    ],
}
LEDGER = [
    {"time": "2026-11-30T09:00:00+00:00", "path": "/old.mp4", "reason": "missing", "detail": "", "action": ""},
    {"time": "2026-11-30T11:00:00+00:00", "path": "/new.mp4", "reason": "timeout", "detail": "", "action": ""},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two stages, interrupted in the second, as its files tell it."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "runs" / "mine"
    write_json(directory / "run.json", seal(FACTS))
    (directory / "config.yaml").write_text("name: mine\ncache: {dir: frames}\n")
    lines(tmp_path / "frames" / "health.jsonl", LEDGER)
    report = [{"path": "rows.jsonl", "rows": 12, "used": 9, "refused": 3}]
    write_json(directory / "data_report.json", {"train": report, "validation": [], "test": []})
    for name, count in (("01-sft", 2), ("02-grpo", 10)):
        stage = directory / "stages" / name
        steps = range(1, count + 1)
        lines(stage / "metrics.jsonl", [{"step": s, "reward/total": s / 10, "reward/accuracy": 0.25} for s in steps])
        lines(stage / "timings.jsonl", [{"step": s, "total": 3.0 if s < 10 else 33.0} for s in steps])
    alarm = {"step": 7, "alarm": "tagless", "now": 1, "before": 0, "message": "answers without a tag", "examples": []}
    lines(directory / "stages" / "02-grpo" / "canary.jsonl", [alarm])
    (directory / "stages" / "02-grpo" / "checkpoints" / "step_000010").mkdir(parents=True)
    (directory / "stages" / "02-grpo" / "checkpoints" / "step_000010" / "model.safetensors").write_bytes(b"0" * 5000)
    return directory


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def status(*words: str) -> Any:
    return RUN.invoke(app, ["status", *words])


def test_an_interrupted_run_says_how_to_resume(run: Path) -> None:
    before = snapshot(run)
    done = status("runs/mine")
    assert done.exit_code == 0, done.output
    for words in (
        "runs/mine: interrupted; last step 0:0",
        "2 of 2, grpo: step 10 of 50, about 0:04:00 of it left",
        "reward 1.000, accuracy 0.250",
        "1, the last at step 7 of 02-grpo: answers without a tag",
        "3 of 12",
        "1 files since the run began, such as /new.mp4: timeout",
        "checkpoints 4.88 KiB",
        "0:02:03 in 2 starts, which found 1 item damaged (evr1 doctor runs/mine)",
        "cd /data/here && evr1 train run.yaml 'name=a b'",
    ):
        assert words in done.stdout, f"{words}\n{done.stdout}"
    assert snapshot(run) == before


def test_a_run_that_works_names_its_process(run: Path) -> None:
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    os.utime(metrics, (time.time() - 7200, time.time() - 7200))
    with claimed(run):
        state = read_state(run)
        done = status("runs/mine")
    assert (state.state, state.pid, state.host) == ("running", os.getpid(), socket.gethostname())
    assert state.begun is not None and state.begun < 60 and state.resume == ""
    assert state.idle is not None and state.idle > 3600, "that of the last step, not of the start"
    told = f"running, process {os.getpid()} on {socket.gethostname()}; begun 0:0"
    assert told in done.stdout and ", last step 2:00:0" in done.stdout
    assert "resume" not in done.stdout
    assert not (run / ".lock").exists()


def test_a_lock_that_a_kill_left_is_no_process(run: Path) -> None:
    (run / ".lock").write_text(json.dumps({"pid": 1, "host": socket.gethostname()}))
    assert read_state(run).state == "interrupted"
    (run / ".lock").write_text("")
    assert read_state(run).state == "interrupted", "that of an earlier version"
    (run / ".lock").write_text(json.dumps({"pid": 4, "host": "elsewhere.example"}))
    for file in run.rglob("*"):
        os.utime(file, (time.time() - 7200, time.time() - 7200))
    done = status("runs/mine").stdout
    words = "begun, process 4 on elsewhere.example, which cannot be seen from this machine; last file written 2:00:0"
    assert words in done
    assert "if that process is gone: cd /data/here && evr1 train run.yaml 'name=a b'" in done
    (run / "run.json").write_text("{")
    assert read_state(run).state == "damaged", "whoever has it"


def test_a_finished_run_needs_nothing(run: Path) -> None:
    write_json(run / "run.json", seal({**FACTS, "stage": "finished"}))
    done = status("runs/mine")
    assert done.exit_code == 0 and "runs/mine: finished\n" in done.stdout
    assert "resume" not in done.stdout and "left" not in done.stdout


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_damaged_run_fails_and_shows_what_can_be_read(run: Path, name: str) -> None:
    (run / name).write_text("{")
    done = status("runs/mine")
    assert done.exit_code == 1 and "runs/mine: damaged" in done.stdout and f"{name}" in done.stdout
    assert "grpo: step 10" in done.stdout
    (run / name).unlink()
    done = status("runs/mine")
    assert done.exit_code == 1 and f"{name} is missing" in done.stdout


def test_files_that_end_in_the_middle_of_a_line_are_read_as_far_as_they_go(run: Path) -> None:
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-9])
    assert read_state(run).step == 9


def test_a_run_that_has_just_begun(run: Path) -> None:
    for path in sorted((run / "stages").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (run / "stages").rmdir()
    with claimed(run):
        done = status("runs/mine")
    assert done.exit_code == 0 and "; begun 0:0" in done.stdout and "stage" not in done.stdout


def test_a_run_whose_rows_are_being_read_has_only_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with claimed(Path("runs/my run")):
        assert [path.name for path in Path("runs/my run").iterdir()] == [".lock"]
        done = status()
    assert done.exit_code == 0, done.output
    assert f"my run: running, preparing data, process {os.getpid()} on" in done.stdout and "fault" not in done.stdout


def test_paths_with_blanks_are_quoted_in_commands(run: Path) -> None:
    write_json(run / "run.json", seal({**FACTS, "directory": "/data/my runs"}))
    run.rename(run.parent / "my run")
    done = status("runs/my run").stdout
    assert "cd '/data/my runs' && evr1" in done and "(evr1 doctor 'runs/my run')" in done


def test_several_runs_are_a_table_and_json_has_everything(run: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "runs" / "group" / "other" / "run.json", seal({**FACTS, "stage": "finished"}))
    (tmp_path / "runs" / "group" / "other" / "config.yaml").write_text("name: other\n")
    done = status()
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "10/50" in rows["runs/mine"] and "0:04:00" in rows["runs/mine"] and "finished" in rows["runs/group/other"]
    found = [json.loads(line) for line in status("runs", "--json").stdout.splitlines()]
    assert {one["state"] for one in found} == {"interrupted", "finished"}
    (mine,) = (one for one in found if one["directory"] == "runs/mine")
    assert mine["alarms"][0]["step"] == 7 and mine["left"] == pytest.approx(240) and mine["steps"] == 50
    narrow = RUN.invoke(app, ["status"], env={"COLUMNS": "80"})
    assert all(len(line) <= 80 for line in narrow.stdout.splitlines()) and "runs/group/other" in narrow.stdout


def test_places_without_a_run_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "runs: no such directory" in status().stderr and status().exit_code == 2
    (tmp_path / "runs").mkdir()
    assert "runs: no run in it" in status().stderr


def test_the_command_is_as_it_was_typed() -> None:
    assert resume_command(["/x/evr1", "quickstart", "--seed", "1"]) == "evr1 quickstart --seed 1"
    assert resume_command(["/x/easyvideor1/cli/__main__.py", "train", "a"]) == "python -m easyvideor1.cli train a"
    assert resume_command(None) == "" and resume_command([]) == ""
