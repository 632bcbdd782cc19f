"""An update on one long video: ``python -m benchmarks.long_video [--tokens N] [--layers N] [--compare]``.

The model has the width of Qwen3-VL-2B with few layers and random weights. It is trained in bfloat16 with gradient
checkpointing, inputs of layers on the host (``model.offload``), the vision tower in chunks (``model.vision_chunk``) and
log-probs in chunks. Peak of torch's allocator and processor seconds of ``forward_backward`` are compared with the
prediction of ``evr1 fit``; the last line is JSON. ``--compare`` adds the same update with none of these savings, and
the distance of loss and gradients.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fit import video_plan
from benchmarks.measure import check_packages
from benchmarks.memory import allocator_peak
from benchmarks.released_shapes import random_model, write_shape
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, load_family
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sizing.devices import CPU_UTILISATION
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.memory import Placement, micro_batch_peak
from easyvideor1.policy.sizing.workload import Asked, micro_batches, stage_facts, step_flops
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Turn

LONG = {"gradient_checkpointing": True, "offload": ["activations"], "vision_chunk": 2048}
#: Side of the square frames, tokens of a response, and responses.
SIDE, RESPONSE, RESPONSES = 256, 128, 2


def write(out: Path, layers: int) -> Path:
    """The 2B shape with ``layers`` layers in language model and vision tower."""
    write_shape(out, "2b")
    config = json.loads((out / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = config["vision_config"]["depth"] = layers
    config["text_config"].pop("layer_types", None)
    config["vision_config"]["deepstack_visual_indexes"] = [0]
    (out / "config.json").write_text(json.dumps(config))
    return out


def asked(family: Family, tokens: int) -> tuple[Asked, list[Turn]]:
    """One question about a video of as many frames as make up the tokens, and its responses."""

    def prompt(frames: int) -> Prompt:
        plan = video_plan(family.geometry, frames, SIDE)
        return family.render("<video>What moves?", (MediaRef("video", "/hour"),), (plan,))

    few, more = len(prompt(64).token_ids), len(prompt(128).token_ids)
    frames = 2 * max(int((tokens - few) / ((more - few) / 32)) + 32, 1)
    found, rng = prompt(frames), np.random.default_rng(0)
    turns = [
        Turn(found, rng.integers(10, 250, RESPONSE), np.ones(RESPONSE, dtype=bool), None, "length", "")
        for _ in range(RESPONSES)
    ]
    return Asked(found, (RESPONSE,) * RESPONSES), turns


def noise(ref: MediaRef, plan: MediaPlan) -> Frames:
    """Frames of one random picture each time."""
    shape = (len(plan.frame_indices), plan.height, plan.width, 3)
    return Frames(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), plan)


def update(
    directory: Path, turns: list[Turn], options: StageConfig, **settings: Any
) -> tuple[int, float, float, dict[str, torch.Tensor]]:
    """Peak in bytes beyond the weights, processor seconds, loss, and gradients of one ``forward_backward``."""
    config = ModelConfig(path=str(directory), device="cpu", dtype="bfloat16", **settings)
    policy = Policy.of(
        load_family(directory), random_model(directory, torch.device("cpu"), plain=False), directory, config
    )
    policy.begin(options)
    batch = UpdateBatch.of(turns, torch.linspace(-1, 2, len(turns)), options)
    seconds: list[float] = []
    losses: list[float] = []

    def work() -> None:
        began = time.process_time()
        losses.append(policy.forward_backward(batch, load=noise).sums["loss"])
        seconds.append(time.process_time() - began)

    peak = allocator_peak(work)
    grads = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    return peak, seconds[0], losses[0], grads


def predicted(directory: Path, one: Asked, options: StageConfig, settings: Mapping[str, Any]) -> tuple[int, float]:
    """Peak beyond the weights and seconds, by ``evr1 fit``, of passes alone: there is no optimiser's step here."""
    family = load_family(directory)
    model = ModelConfig(path=str(directory), device="cpu", dtype="bfloat16", **settings)
    sizes = measure_model(family, model, directory)
    facts = stage_facts(options, checkpointing=model.gradient_checkpointing, lora=False, cached_features=False)
    batches = micro_batches([one], options, sizes.costs, shared=family.shares_prefix)
    place = Placement(offload=model.offload, on_cpu=True)
    peak = max(sum(micro_batch_peak(sizes, facts, batch, place, later=False).values()) for batch in batches)
    return peak, step_flops([one], batches, sizes, facts).trainer / (products_per_second() * CPU_UTILISATION)


def products_per_second(size: int = 768, count: int = 40) -> float:
    """Operations per second of processor time in a large product in bfloat16; ``evr1 fit`` takes those by the clock."""
    left, right = (torch.ones(size, size, dtype=torch.bfloat16) for _ in range(2))
    left @ right
    began = time.process_time()
    for _ in range(count):
        left @ right
    return 2 * size**3 * count / (time.process_time() - began)


def main() -> None:
    """One length, measured and predicted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--compare", action="store_true", help="the same without savings, and the distance")
    arguments = parser.parse_args()
    check_packages()
    with tempfile.TemporaryDirectory() as folder:
        directory = write(Path(folder) / "model", arguments.layers)
        one, turns = asked(load_family(directory), arguments.tokens)
        options = StageConfig(name="grpo", prompts_per_step=1, group_size=RESPONSES, micro_batch_tokens=1 << 20)
        peak, seconds, loss, grads = update(directory, turns, options, **LONG)
        wanted_peak, wanted_seconds = predicted(directory, one, options, LONG)
        found = {
            "tokens": len(one.prompt) + RESPONSE * RESPONSES,
            "frames": len(one.prompt.plans[0].frame_indices),
            "peak_gib": peak / 2**30,
            "predicted_gib": wanted_peak / 2**30,
            "seconds": seconds,
            "predicted_seconds": wanted_seconds,
        }
        if arguments.compare:
            plain_peak, plain_seconds, plain_loss, plain = update(directory, turns, options)
            norm = sum(float(grad.square().sum()) for grad in plain.values()) ** 0.5
            apart = sum(float((grads[name] - plain[name]).square().sum()) for name in plain) ** 0.5
            found |= {
                "plain_peak_gib": plain_peak / 2**30,
                "plain_predicted_gib": predicted(directory, one, options, {})[0] / 2**30,
                "plain_seconds": plain_seconds,
                "loss_distance": abs(loss - plain_loss),
                "gradient_distance": apart / norm,
            }
    print(json.dumps({name: round(value, 6) for name, value in found.items()}))


if __name__ == "__main__":
    main()
