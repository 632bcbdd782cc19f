"""evr1 train."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import write_config
from training.runs import OWN_PARTS, World

pytestmark = pytest.mark.model

RUN = CliRunner()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("train"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_shown_and_summed_up(world: World, place: Path) -> None:
    test = [{"path": world.rows("test")}]
    write_config(world.short(data__test=test), place / "run.yaml")
    done = RUN.invoke(app, ["train", "run.yaml", "name=mine", "stages.rl.steps=1"])
    assert done.exit_code == 0, done.stderr
    for words in (
        "train: ",
        "12 samples of 12 rows, 0 bad",
        "frame cache:",
        "before: greedy accuracy",
        "rl 1/1: reward",
    ):
        assert words in done.stderr
    assert "Held-out accuracy" in done.stdout and "1 steps in" in done.stdout
    assert (place / "runs/mine/report.html").is_file() and not (place / "runs/small").exists()


def test_without_test_questions_there_is_no_table(world: World, place: Path) -> None:
    write_config(world.short(), place / "run.yaml")
    done = RUN.invoke(app, ["train", "run.yaml", "stages.rl.steps=1"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "" and "report: " in done.stderr


def test_mistakes_are_told_without_a_traceback(world: World, place: Path) -> None:
    write_config(world.short(), place / "run.yaml")
    done = RUN.invoke(app, ["train", "run.yaml", "stages.rl.objective=ppo"])
    assert done.exit_code == 2
    said = done.stderr.splitlines()[0]
    assert said.startswith(
        "error: override 'stages.rl.objective=ppo': stages.0.objective: unknown name 'ppo': did you "
    )
    assert "ppo_clip" in said
    assert sorted(path.name for path in place.iterdir() if path.name != "__pycache__") == ["own_parts.py", "run.yaml"]
