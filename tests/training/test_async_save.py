"""Checkpoints that are written while training goes on are those of their step, or none."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.training.run_directory import saver as saver_module
from easyvideor1.training.run_directory.best import BestCheckpoint
from easyvideor1.training.run_directory.checkpoint import checkpoints, latest_checkpoint
from easyvideor1.training.run_directory.saver import CheckpointSaver
from tiny import make_plan, make_prompt, random_turns, update

from .runs import World, differing, train

pytestmark = pytest.mark.model

KINDS = {
    "critic and moving reference": ({}, {"advantage": "gae", "kl": {"estimator": "k2", "reference": "ema"}}),
    "adapters and a frozen tower": ({"lora": {"rank": 4}}, {}),
}


def opened(checkpoint: Path, kind: str) -> Policy:
    model, stage = KINDS[kind]
    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **model))
    policy.begin(StageConfig(name="rl", optimizer=OptimizerConfig(lr=1e-2), async_save=True, **stage))
    return policy


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may have more bytes than this."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_is_of_its_moment(tiny_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    """It is written after a further step, and equals what was saved before that."""
    if "lora" in KINDS[kind][0]:
        pytest.importorskip("peft")
    policy = opened(tiny_checkpoint, kind)
    turns = random_turns(make_prompt(policy.family, "<image>?", make_plan("image")), [5, 3], seed=1)

    def step(number: int) -> None:
        update(policy, turns, torch.tensor([1.0, -0.5]), objective="sft", step=number)

    step(1)
    for name in ("saved", "held", "later"):
        (tmp_path / name).mkdir()
    policy.save(tmp_path / "saved")
    with closing(policy.snapshot()) as snapshot:
        step(2)
        snapshot.write(tmp_path / "held")
    policy.save(tmp_path / "later")
    assert differing(tmp_path / "saved", tmp_path / "held") == []
    changed = set(differing(tmp_path / "saved", tmp_path / "later"))
    assert changed >= {"model.safetensors", "optimizer.safetensors"}


def test_a_save_that_fails_leaves_the_one_before(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The next call says so, and the next save is as if nothing had been."""
    policy = opened(tiny_checkpoint, "critic and moving reference")
    best = BestCheckpoint(tmp_path, "", list)
    said: list[str] = []
    options = policy.options.model_copy(update={"keep_checkpoints": 1})
    with CheckpointSaver(policy, tmp_path, options, best, None, said.append) as saver:
        saver.save(1, {})
        saver.wait()
        assert saver.last == tmp_path / "checkpoints/step_000001"
        with full_disk(10_000):
            saver.save(2, {})
            with pytest.raises(OSError, match=r"File too large: .*step_000002"):
                saver.save(3, {})
        assert latest_checkpoint(tmp_path).path == saver.last == tmp_path / "checkpoints/step_000001"
        saver.check()
        saver.save(4, {})
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000004"], "the end waits"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000004"]
    error = ValueError("the stage fails")
    with (
        pytest.raises(ValueError, match="the stage fails"),
        full_disk(10_000),
        CheckpointSaver(policy, tmp_path, options, best, None, said.append) as saver,
    ):
        saver.save(5, {})
        raise error
    assert (
        len(said) == 1 and said[0].startswith("the last checkpoint could not be saved: ") and "step_000005" in said[0]
    )


class OnADiskThatHangs:
    """A policy whose snapshots are not written before ``hangs`` is set."""

    def __init__(self) -> None:
        self.hangs = threading.Event()

    def snapshot(self) -> OnADiskThatHangs:
        return self

    def write(self, directory: Path) -> None:
        self.hangs.wait()

    def close(self) -> None:
        pass


def test_an_error_does_not_wait_for_a_save_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver_module, "_PATIENCE", 0.2)
    policy: Any = OnADiskThatHangs()
    said: list[str] = []
    options = StageConfig(name="rl", async_save=True)
    with (
        pytest.raises(ValueError, match="the stage fails"),
        CheckpointSaver(policy, tmp_path, options, BestCheckpoint(tmp_path, "", list), None, said.append) as saver,
    ):
        saver.save(1, {})
        raise ValueError("the stage fails")
    policy.hangs.set()
    assert said == ["the last checkpoint is given up, 0.2 s after the error: its disk or a rank hangs"]


def test_a_full_disk_ends_the_run_which_then_resumes(world: World, place: Path) -> None:
    config = world.short(stages__0__steps=3, stages__0__save_every=1, stages__0__async_save=True)
    with full_disk(500_000), pytest.raises(OSError, match=r"File too large: .*checkpoints/step_00000[12]"):
        train(config)
    assert checkpoints(place / "runs/small/stages/01-rl") == []
    _, said = train(config)
    assert "there is no checkpoint yet" in said
    assert [path.name for path in checkpoints(place / "runs/small/stages/01-rl")] == ["step_000002", "step_000003"]
