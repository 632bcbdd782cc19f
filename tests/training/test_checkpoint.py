"""Checkpoints are whole or passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.config import ModelConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.training.run_directory.checkpoint import (
    Latest,
    checkpoints,
    intact_state,
    latest_checkpoint,
    save_checkpoint,
)

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def policy(tiny_checkpoint: Path) -> Policy:
    return Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))


def test_the_newest_are_kept(policy: Policy, tmp_path: Path) -> None:
    for step in (2, 4, 10):
        save_checkpoint(policy.save, tmp_path, step, {"stage": "sft"}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000004", "step_000010"]
    assert latest_checkpoint(tmp_path) == Latest(tmp_path / "checkpoints/step_000010", 10)
    state = intact_state(tmp_path / "checkpoints/step_000010")
    assert state is not None and state["stage"] == "sft" and "model.safetensors" in state["files"]
    assert latest_checkpoint(tmp_path / "nothing") == Latest(None, 0)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_and_named(policy: Policy, tmp_path: Path, name: str, damage: str) -> None:
    for step in (1, 2):
        save_checkpoint(policy.save, tmp_path, step, {}, keep=2)
    file = tmp_path / "checkpoints/step_000002" / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-3])
    else:
        file.unlink()
    assert intact_state(file.parent) is None
    found = latest_checkpoint(tmp_path)
    assert (found.path, found.step) == (tmp_path / "checkpoints/step_000001", 1)
    (passed,) = found.passed_over
    assert passed.where.endswith("checkpoints/step_000002")
    assert passed.what.startswith(name) and ("missing" in passed.what) == (damage == "remove")


def test_damaged_ones_do_not_push_out_whole_ones(policy: Policy, tmp_path: Path) -> None:
    """A newer one that is damaged is none of the newest to keep: a kill now must find a whole one."""
    for step in (4, 6):
        save_checkpoint(policy.save, tmp_path, step, {}, keep=2)
    (tmp_path / "checkpoints/step_000006/model.safetensors").write_bytes(b"")
    (tmp_path / "checkpoints/step_000004.copy").mkdir()
    save_checkpoint(policy.save, tmp_path, 5, {}, keep=1)
    assert latest_checkpoint(tmp_path).path == tmp_path / "checkpoints/step_000005"
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000005", "step_000006"]


@pytest.mark.parametrize("text", ["[]", "null", '{"files": 3}', '{"files": {"a": 1}, "checksum": "x"}'])
def test_a_state_of_another_form_is_not_intact(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert intact_state(tmp_path) is None


def test_half_written_ones_are_not_seen(policy: Policy, tmp_path: Path) -> None:
    save_checkpoint(policy.save, tmp_path, 1, {}, keep=2)
    (tmp_path / "checkpoints/.step_000002.0123abcd.tmp").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000001"]


def test_a_checkpoint_may_be_of_any_number_of_files(tmp_path: Path) -> None:
    """As several ranks would write it: every shard is listed, and a lost one is named."""

    def write(directory: Path) -> None:
        for rank in range(3):
            (directory / f"rank_{rank}").mkdir()
            (directory / f"rank_{rank}/optimizer.safetensors").write_bytes(bytes([rank]))
        (directory / "config.json").write_text("{}")

    place = save_checkpoint(write, tmp_path, 1, {"world": 3}, keep=2)
    state = intact_state(place)
    assert state is not None and state["world"] == 3
    assert list(state["files"]) == ["config.json", *(f"rank_{rank}/optimizer.safetensors" for rank in range(3))]
    (place / "rank_1/optimizer.safetensors").unlink()
    (passed,) = latest_checkpoint(tmp_path).passed_over
    assert passed.what == "rank_1/optimizer.safetensors is missing"
