"""Shell completion: what a shell is told, by the protocol that its script uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app

RUN = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("stages:\n  - {name: warm}\n  - {name: grpo}\n")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.json").touch()
    return tmp_path


def complete(line: str) -> list[str]:
    """What bash is offered for the last word of a line; a blank at its end begins a new word."""
    words = line.split()
    count = len(words) if line.endswith(" ") else len(words) - 1
    env = {"_EVR1_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(count)}
    done = RUN.invoke(app, [], env=env, prog_name="evr1")
    assert done.exit_code == 0 and not done.stderr, done.output
    return done.stdout.split()


def test_verbs(place: Path) -> None:
    assert complete("evr1 st") == ["status"]
    assert {"init", "train", "status", "doctor"} <= set(complete("evr1 "))


def test_configurations(place: Path) -> None:
    assert complete("evr1 train mi") == ["mine.yaml"]
    assert "veripo" in complete("evr1 train ver") and "notes.txt" not in complete("evr1 train no")
    assert complete("evr1 recipes strea") == ["stream_r1"]


def test_keys_and_values(place: Path) -> None:
    assert complete("evr1 train mine.yaml rollout.max_new") == ["rollout.max_new_tokens="]
    assert complete("evr1 train mine.yaml model.dtype=") == ["model.dtype=float32", "model.dtype=bfloat16"]
    assert complete("evr1 train mine.yaml data.shuffle=f") == ["data.shuffle=false"]
    assert "stages.grpo.objective=gspo" in complete("evr1 train mine.yaml stages.grpo.objective=g")


def test_stages_are_called_by_their_names(place: Path) -> None:
    found = complete("evr1 train mine.yaml stages.")
    assert "stages.warm.steps=" in found and "stages.grpo.optimizer.lr=" in found
    assert not any(key.startswith("stages.0") for key in found)
    assert "stages.0.steps=" in complete("evr1 train nowhere.yaml stages.0.step")
    (place / "broken.yaml").write_text("stages: [}")
    assert "stages.0.steps=" in complete("evr1 train broken.yaml stages.0.step")


def test_runs(place: Path) -> None:
    assert complete("evr1 status runs/f") == ["runs/first"]
    assert "runs/first" in complete("evr1 doctor runs/")
    assert complete("evr1 status nowhere/x") == []
