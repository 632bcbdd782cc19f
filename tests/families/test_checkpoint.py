"""What is said of a model path that leads to no checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.families.checkpoint import checkpoint_fault, read_config
from easyvideor1.types import ConfigError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_of_the_hub_is_told_how_to_download_it(place: Path) -> None:
    said = checkpoint_fault("Qwen/Qwen3-VL-2B-Instruct")
    command = "hf download Qwen/Qwen3-VL-2B-Instruct --local-dir models/Qwen3-VL-2B-Instruct"
    assert command in said and said.endswith("set model.path=models/Qwen3-VL-2B-Instruct")


def test_a_path_is_told_what_is_near(place: Path) -> None:
    (place / "models/qwen3-vl-2b").mkdir(parents=True)
    said = checkpoint_fault("models/qwen3-vl-2B-it", ["models/qwen3-vl-2B-it", str(place / "study/models")])
    assert said == (
        f"model.path 'models/qwen3-vl-2B-it' was not found: looked for models/qwen3-vl-2B-it and {place}/study/models; "
        "did you mean models/qwen3-vl-2b?"
    )
    assert checkpoint_fault("runs/quickstart/warm-start").endswith("the one that the quickstart starts from")
    assert "write " in checkpoint_fault("~/models/qwen") and "/models/qwen" in checkpoint_fault("~/models/qwen")
    assert "hf download ORG/NAME" in checkpoint_fault("models/another")


def test_a_directory_around_a_checkpoint_a_run_and_a_file(place: Path) -> None:
    (place / "download/snapshot").mkdir(parents=True)
    (place / "download/snapshot/config.json").write_text("{}")
    assert checkpoint_fault("download").endswith("so it is not a checkpoint; did you mean download/snapshot?")
    for step in ("step_000020", "step_000040"):
        (place / "run/stages/01-grpo/checkpoints" / step).mkdir(parents=True)
    assert checkpoint_fault("run").endswith("did you mean run/stages/01-grpo/checkpoints/step_000040?")
    (place / "empty").mkdir()
    assert checkpoint_fault("empty").endswith("give the directory of a Hugging Face checkpoint")
    assert checkpoint_fault("download/snapshot/config.json", key="checkpoint").startswith(
        "checkpoint 'download/snapshot/config.json' is a file"
    )
    with pytest.raises(ConfigError, match="'empty' has no config"):
        read_config(Path("empty"))
