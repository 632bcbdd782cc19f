"""What tests of several rooms share: one tiny checkpoint, its family, and a fresh model of it."""

import os
import signal
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub during a test
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads that wait for each other only cost time

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs us in the background has Ctrl-C ignored, and every process that a test starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does; what must be fast has a test that measures it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the real format, small enough for a forward pass in milliseconds. Read only."""
    from easyvideor1.families.tiny import write_tiny_checkpoint

    corpus = ["What moves? Answer with a letter.", "<answer>A</answer> a red circle", "<1.5 seconds><0.2 seconds>"]
    out = tmp_path_factory.mktemp("tiny") / "checkpoint"
    return write_tiny_checkpoint(out, corpus, seed=3, width=64, layers=3, vision_layers=2, vocabulary=300)


@pytest.fixture(scope="session")
def tiny_family(tiny_checkpoint: Path):
    from easyvideor1.families.family import load_family

    return load_family(tiny_checkpoint)


@pytest.fixture(scope="session")
def _loaded_model(tiny_checkpoint: Path, tiny_family):
    import torch

    return tiny_family.load_model(
        tiny_checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False
    ).eval()


@pytest.fixture
def tiny_model(_loaded_model):
    """A model that the test may change."""
    import copy

    return copy.deepcopy(_loaded_model)
