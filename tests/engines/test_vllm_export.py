"""vLLM opens what evr1 export writes."""

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.engine import generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.export import model_export
from easyvideor1.policy.policy import Policy
from tiny import load_frames, make_plan, make_prompt, random_turns, update

from .serving import requests_for

pytestmark = pytest.mark.model


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)], ids=["whole", "merged"])
def test_vllm_loads_an_export_of_several_files(tiny_checkpoint, tmp_path, lora) -> None:
    """And draws from the policy of the run: it reads nothing but the exported directory."""
    if lora is not None:
        pytest.importorskip("peft")
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", lora=lora))
    policy.begin(StageConfig(name="stage", optimizer=OptimizerConfig(lr=1e-2)))
    prompts = {
        "video": make_prompt(policy.family, "<video>?", make_plan("video")),
        "text": make_prompt(policy.family, "What moves?"),
    }
    turns = random_turns(prompts["video"], [5, 3], seed=1)
    update(policy, turns, torch.tensor([1.0, -0.5]), objective="sft")
    (checkpoint := tmp_path / "checkpoint").mkdir()
    (out := tmp_path / "out").mkdir()
    policy.save(checkpoint)
    model_export(checkpoint, policy.config, dtype=None, shard_bytes=200_000).write(out)
    assert len(list(out.glob("model-*.safetensors"))) > 2
    engine = open_engine("vllm", policy.family, out, load_frames, batch_tokens=8192)
    try:
        results = generate(engine, requests_for(prompts, n=2))
    finally:
        engine.close()
    batch = collate(
        pack_turns([one.last for group in results for one in group], share_prefix=True), policy.family, load_frames
    )
    with torch.no_grad():
        expected, _ = response_logprobs(policy.family, policy.model.eval(), batch)
    assert float((batch.engine_logprobs - expected).abs().max()) < 1e-4
