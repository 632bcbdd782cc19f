"""vLLM in a process of its own: pauses, adapters in the middle of responses, and a death."""

import os
import signal

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from easyvideor1.config import LoraConfig, ModelConfig
from easyvideor1.engines.engine import finished, generate
from easyvideor1.engines.worker_messages import Opening, TorchSettings, WorkerMedia
from easyvideor1.engines.worker_pool import open_worker
from easyvideor1.policy.adapters import weights
from tiny import load_frames

from .serving import requests_for, tokens_of
from .test_vllm import BOUND, adapted, gap, moved, turns_of

pytestmark = pytest.mark.model


def tiny_media() -> WorkerMedia:
    return WorkerMedia(load_frames, None, lambda: None)


def test_a_worker_takes_adapters_in_mid_response_and_is_replaced_when_it_dies(tiny_family, tiny_checkpoint, prompts):
    config = ModelConfig(path=str(tiny_checkpoint), lora=LoraConfig(rank=4, alpha=8.0))
    opening = Opening("vllm", tiny_checkpoint, config, 8192, tiny_media, TorchSettings.of_this_process())
    model = adapted(tiny_family, tiny_checkpoint)
    engine = open_worker(opening)
    try:
        assert engine.takes_adapters
        engine.update_weights(1, weights(model, merged=False))
        sent = engine.stats()["sync_bytes"]
        requests = requests_for(prompts, n=2, max_new_tokens=400, greedy=True)
        tickets = engine.submit(requests)
        while min(len(ids) for ticket in tickets for ids in engine.partial(ticket)) < 2:
            next(engine.results())
        moved(model, seed=1)
        engine.update_weights(2, weights(model, merged=False, base=False))
        assert 0 < engine.stats()["sync_bytes"] - sent < sent / 10
        turns = turns_of(result.trajectories for result in finished(engine))
        assert {1, 2} == {version for turn in turns for version in turn.versions.tolist()}

        before = generate(engine, requests_for(prompts, n=2))
        assert gap(tiny_family, model, turns_of(before)) < BOUND
        engine.submit(requests_for(prompts, n=2))
        os.kill(engine.ready().pid, signal.SIGKILL)
        again = {result.request.id: result.trajectories for result in finished(engine)}
        assert tokens_of(again[name] for name in prompts) == tokens_of(before), "base and adapters came again"
        assert engine.stats()["restarts"] == 1 and engine.stats()["resent"] == len(prompts)
        assert all(torch.from_numpy(turn.versions == 2).all() for turn in turns_of(again.values()))
    finally:
        engine.close()
