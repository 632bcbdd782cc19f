"""A whole run whose responses come from vLLM."""

import json

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from .runs import train

pytestmark = pytest.mark.model


def test_a_run_trains_on_responses_of_vllm(world, place):
    train(world.config(rollout__engine="vllm"))
    run = place / "runs" / "small"
    lines = (run / "stages" / "02-grpo" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert len(metrics) == 4
    assert any(step["grad_norm"] > 0 for step in metrics)
    assert max(step["mismatch/largest"] for step in metrics) < 1e-4, "every sync reached the engine, to the last weight"
