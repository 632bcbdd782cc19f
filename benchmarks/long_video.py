"""An update on one long video: ``python -m benchmarks.long_video [--tokens N ...] [--compare N] [--predict N]``.

The model has the width of Qwen3-VL-2B with two decoder layers, one block in the vision tower, a small vocabulary and
random weights. It is trained with gradient checkpointing, inputs of layers on the host (``model.offload``), vision
tower, MLPs and log-probs in chunks, and attention over the shared prompt. Every length has a process of its own:
measured are resident memory at its peak beyond what is resident before ``forward_backward`` (Linux only), and processor
seconds.
Memory is compared with the prediction of ``evr1 fit``, seconds with its operations at the rate of the shortest length.

``--compare N`` is the same update on about N tokens against transformers' own model, which is given each response with
its prompt in a row of its own and saves nothing: log-probs, loss and gradients in float32. ``--predict N`` adds what a
length that is not run would take. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fit import video_plan
from benchmarks.long_video_plain import distance
from benchmarks.measure import check_packages, table
from benchmarks.memory import extra_memory
from benchmarks.released_shapes import random_model, write_shape
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, load_family
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.memory import Placement, micro_batch_peak
from easyvideor1.policy.sizing.workload import Asked, micro_batches, stage_facts, step_flops
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Turn

LONG = {"gradient_checkpointing": True, "offload": ["activations"], "vision_chunk": 2048, "mlp_chunk": 2048}
#: Side of the square frames, tokens of a response, and responses.
SIDE, RESPONSE, RESPONSES = 256, 128, 2
LAYERS, BLOCKS, VOCABULARY = 2, 1, 8192
STAGE = StageConfig(
    name="long",
    prompts_per_step=1,
    group_size=RESPONSES,
    micro_batch_tokens=1 << 20,
    objective={"name": "sft"},
    advantage="reward",
)


def write(out: Path) -> Path:
    """The 2B shape with few layers and tokens."""
    write_shape(out, "2b")
    config = json.loads((out / "config.json").read_text())
    config["text_config"] |= {"num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
    config["text_config"].pop("layer_types", None)
    config["vision_config"] |= {"depth": BLOCKS, "deepstack_visual_indexes": [0]}
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
    """Random frames."""
    shape = (len(plan.frame_indices), plan.height, plan.width, 3)
    return Frames(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), plan)


def opened(directory: Path, dtype: str) -> Policy:
    """The policy at the beginning of the stage."""
    config = ModelConfig(path=str(directory), device="cpu", dtype=dtype, **LONG)
    model = random_model(directory, torch.device("cpu"), plain=False)
    policy = Policy.of(load_family(directory), model, directory, config)
    policy.begin(STAGE)
    return policy


def update(turns: list[Turn]) -> UpdateBatch:
    """The update on the responses, of which one is better than the other."""
    return UpdateBatch.of(turns, torch.linspace(-1, 2, len(turns)), STAGE)


def measured(directory: Path, tokens: int, dtype: str) -> dict[str, float]:
    """Peak and seconds of one ``forward_backward``, in this process, which is to do no more."""
    policy = opened(directory, dtype)
    batch = update(asked(policy.family, tokens)[1])
    times: list[float] = []

    def work() -> None:
        clocks = (time.process_time, time.perf_counter)
        began = [clock() for clock in clocks]
        policy.forward_backward(batch, load=noise)
        times.extend(clock() - start for clock, start in zip(clocks, began, strict=True))

    peak = extra_memory(work)
    return {"gib": peak / 2**30, "seconds": times[0], "wall_seconds": times[1]}


def predicted(directory: Path, lengths: list[int], dtype: str) -> dict[int, dict[str, float]]:
    """By length: tokens of the row, peak beyond the weights, and operations, by ``evr1 fit``, of passes alone.

    There is no optimiser's step here.
    """
    family = load_family(directory)
    model = ModelConfig(path=str(directory), device="cpu", dtype=dtype, **LONG)
    sizes = measure_model(family, model, directory)
    facts = stage_facts(STAGE, checkpointing=True, lora=False, cached_features=False)
    place = Placement(offload=model.offload, on_cpu=True)
    found = {}
    for tokens in lengths:
        one, _ = asked(family, tokens)
        (batch,) = micro_batches([one], STAGE, sizes.costs, shared=family.shares_prefix)
        parts = micro_batch_peak(sizes, facts, batch, place, later=False)
        operations = step_flops([one], [batch], sizes, facts).trainer
        found[tokens] = {"tokens": batch.tokens, "gib": sum(parts.values()) / 2**30, "operations": operations}
        print(tokens, {name: round(size / 2**30, 2) for name, size in parts.items()}, file=sys.stderr, flush=True)
    return found


def compared(directory: Path, tokens: int) -> dict[str, float]:
    """Largest distances from the plain path in float32: see ``long_video_plain.distance``."""
    policy = opened(directory, "float32")
    _, turns = asked(policy.family, tokens)
    batch = update(turns)
    result = policy.forward_backward(batch, load=noise)
    gradients = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    plain = random_model(directory, torch.device("cpu"), plain=True)
    frames = noise(turns[0].prompt.media[0], turns[0].prompt.plans[0])
    return distance(policy.family, plain, batch, frames, result, gradients)


def run(name: str, directory: Path, tokens: int, dtype: str) -> dict[str, float]:
    """One of the functions above in a process of its own, whose memory goes back to the system when it is freed."""
    command = [sys.executable, "-m", "benchmarks.long_video", "--run", name, "--model", str(directory)]
    freed = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [*command, "--tokens", str(tokens), "--dtype", dtype],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | freed,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(name, tokens, found, file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Some lengths, measured and predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, action="append", help="a length; repeatable (default: 2048 and 8192)")
    parser.add_argument("--predict", type=int, action="append", default=[], help="a length that is not run; repeatable")
    parser.add_argument("--compare", type=int, metavar="TOKENS", help="the distance from the plain path")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--run", choices=("measured", "compared"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        (tokens,) = arguments.tokens
        work = measured(arguments.model, tokens, arguments.dtype) if arguments.run == "measured" else None
        print(json.dumps(compared(arguments.model, tokens) if work is None else work))
        return
    check_packages()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = write(Path(folder) / "model")
        if arguments.compare:
            found["plain"] = run("compared", directory, arguments.compare, "float32")
        lengths = sorted(arguments.tokens or [2048, 8192])
        found |= lengths_of(directory, lengths, arguments.predict, arguments.dtype)
    print(json.dumps(found))


def lengths_of(directory: Path, lengths: list[int], others: list[int], dtype: str) -> dict[str, Any]:
    """The table of lengths that are run, and of ``others``; errors of memory, and of seconds behind the first."""
    wanted = predicted(directory, lengths + others, dtype)
    found = {tokens: run("measured", directory, tokens, dtype) for tokens in lengths}
    rate = wanted[lengths[0]]["operations"] / found[lengths[0]]["seconds"]
    rows, memory, seconds = [], [], []
    for tokens in lengths + others:
        row, here = wanted[tokens], found.get(tokens)
        expected = row["operations"] / rate
        rows.append([f"{row['tokens']:,}", f"{row['gib']:.2f}", "", "", f"{expected:,.0f}", "", ""])
        if here is not None:
            memory.append(row["gib"] / here["gib"] - 1)
            seconds.append(expected / here["seconds"] - 1)
            rows[-1][2:4] = [f"{here['gib']:.2f}", f"{memory[-1]:+.1%}"]
            rows[-1][5:] = [f"{here['seconds']:,.0f}", f"{seconds[-1]:+.1%}"]
    header = ["tokens", "GiB predicted", "measured", "error", "seconds predicted", "measured", "error"]
    print(table(f"an update on one video, {dtype}, {rate / 1e9:.0f} GFLOP/s at the shortest", header, rows))
    return {
        "measured": found,
        "predicted": wanted,
        "peak_prediction_error": round(max(map(abs, memory)), 4),
        "seconds_prediction_error": round(max(map(abs, seconds)), 4),
    }


if __name__ == "__main__":
    main()
