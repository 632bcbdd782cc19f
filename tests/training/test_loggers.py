"""Loggers get what the files get, and never stop a run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from easyvideor1.training import loggers as loggers_module
from easyvideor1.types import ConfigError

from .runs import World, json_lines, train

OWN = """
import json
import threading


class Files:
    def __init__(self, config, run_dir):
        self.file = run_dir / "logged.jsonl"

    def log(self, step, metrics):
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\\n")

    def finish(self):
        (self.file.parent / "logged.done").touch()


class Raising(Files):
    def log(self, step, metrics):
        raise ConnectionError("no route to the service")


class Hanging(Files):
    def log(self, step, metrics):
        threading.Event().wait()
"""


@pytest.fixture
def own(place: Path) -> Path:
    (place / "own_loggers.py").write_text(OWN)
    return place


@pytest.mark.model
def test_a_logger_gets_what_the_files_get_and_one_that_fails_stops_nothing(world: World, own: Path) -> None:
    _, shown = train(world.short(loggers=["own_loggers:Files", "own_loggers:Raising"]))
    run = own / "runs/small"
    steps = json_lines(run / "stages/01-rl/metrics.jsonl")
    logged = json_lines(run / "logged.jsonl")
    assert [row["step"] for row in logged] == [1, 2] and (run / "logged.done").exists()
    speed = [{name: row.pop(name) for name in list(row) if name.startswith("rl/perf/")} for row in logged]
    assert logged == [{"step": row["step"], **{f"rl/{name}": value for name, value in row.items()}} for row in steps]
    clocks = json_lines(run / "stages/01-rl/timings.jsonl")
    for row, clock in zip(speed, clocks, strict=True):
        assert row["rl/perf/seconds/update"] == clock["update"] and row["rl/perf/seconds/total"] == clock["total"]
        assert row["rl/perf/tokens_per_second"] == clock["tokens_per_second"] > 0
        assert {name.removeprefix("rl/perf/idle/") for name in row if "/idle/" in name} == {
            "trainer",
            "engine",
            "rewards",
        }
    assert shown.count("WARNING: logger") == 1
    assert "own_loggers:Raising raised ConnectionError: no route to the service; the run continues without it" in shown
    train(world.short(loggers=[]))  # no part of what a run is


@pytest.mark.model
def test_a_logger_that_hangs_is_left_behind(world: World, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers_module, "_PATIENCE", 0.1)
    summary, shown = train(world.short(loggers=["own_loggers:Hanging"]))
    assert summary["steps"] == 2
    assert shown.count("WARNING: logger") == 1
    assert "own_loggers:Hanging did not finish in time and was abandoned" in shown


@pytest.mark.model
def test_a_logger_that_is_not_there_costs_nothing(world: World, own: Path) -> None:
    with pytest.raises(ConfigError, match="unknown logger 'wandbb'; known: tensorboard, wandb, trackio, swanlab"):
        train(world.short(loggers=["wandbb"]))
    missing = [name for name in loggers_module.LOGGERS if importlib.util.find_spec(name) is None]
    for name in missing:
        with pytest.raises(ConfigError, match=f"{name} is not installed; pip install {name}"):
            train(world.short(loggers=[name]))
    assert not (own / "runs").exists()


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_writes_its_files(world: World, place: Path) -> None:
    train(world.short(loggers=["tensorboard"]))
    assert list((place / "runs/small/tensorboard").glob("events*"))


def test_the_identity_of_a_run_at_a_service_lasts(tmp_path: Path) -> None:
    first = loggers_module._identity(tmp_path, "wandb")
    assert loggers_module._identity(tmp_path, "wandb") == first != loggers_module._identity(tmp_path, "swanlab")
    assert len(first) == 21 and first.isalnum()


@pytest.mark.model
def test_a_step_that_is_done_again_is_not_sent_again(world: World, own: Path) -> None:
    """A kill after the second step costs it; the first start had sent it already."""
    settings = {"loggers": ["own_loggers:Files"], "stages__0__steps": 3, "stages__0__save_every": 1}
    train(world.short(**settings))
    run = own / "runs/small"
    sent = json_lines(run / "logged.jsonl")
    assert [row["step"] for row in sent] == [1, 2, 3]
    for step in (2, 3):
        shutil.rmtree(run / f"stages/01-rl/checkpoints/step_00000{step}")
    (run / "loggers/own_loggers_Files.txt").write_text("2")
    train(world.short(**settings))
    again = json_lines(run / "logged.jsonl")
    for row in (*sent, *again):
        for name in [name for name in row if name.startswith("rl/perf/")]:
            del row[name]  # how fast it was differs from start to start
    assert again == [*sent, sent[-1]]
