"""What tests of engines in other processes share."""

from __future__ import annotations

import os
import signal
from functools import partial

from easyvideor1.config import ModelConfig
from easyvideor1.engines.worker_messages import Opening, TorchSettings, WorkerMedia
from tiny import load_frames


def opening_of(checkpoint, load=load_frames, batch_tokens=2000, engine="local"):
    """What a worker opens; ``load`` is a function of a module, or a ``partial`` of one."""
    config = ModelConfig(path=str(checkpoint), device="cpu")
    media = partial(WorkerMedia, load)
    return Opening(engine, checkpoint, config, batch_tokens, media, TorchSettings.of_this_process())


def scaled(model, factor):
    """The weights of a model times a number, by name."""
    return [(name, parameter.detach() * factor) for name, parameter in model.named_parameters()]


def kill(pid):
    os.kill(pid, signal.SIGKILL)
