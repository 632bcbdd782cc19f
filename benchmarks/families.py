"""Every family beside transformers, and how fast its tiny model runs: ``python -m benchmarks.families``.

Parity first: the conversations of ``benchmarks.family_cases`` through family and transformers, number by number. Logits
are compared in float64, where nothing but what is computed can show, and in float32, where the order of sums shows too.
That order depends on the machine; ``rounding`` is what float32 does to transformers alone. Then tokens per second of
this machine, prompts and responses together, of a forward pass and of a training step over a mixed batch of text,
images and videos, three responses to each prompt. The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.family_cases import CASES, corpus, load_noise, render_case
from benchmarks.family_parity import Contender, Parity, compare
from benchmarks.measure import check_packages, versions
from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.tiny import TINY_FAMILIES, write_tiny_checkpoint
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.types import Prompt, Turn

#: The conversations of a step, and how many tokens each of the three responses has.
MIXED = ("text", "image", "video", "images", "interleaved", "long video")
RESPONSES = (24, 32, 40)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens that the model reads per second, and calls of the vision tower."""

    forward: float
    train: float
    calls_per_forward: float
    calls_per_step: float


def main(
    width: Annotated[int, typer.Option(help="Hidden size of both towers.")] = 64,
    layers: Annotated[int, typer.Option(help="Decoder layers.")] = 4,
    repetitions: Annotated[int, typer.Option(help="Times that each speed is measured; the median counts.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of torch, on both sides.")] = 1,
) -> None:
    """Compare and measure all families."""
    check_packages()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        checkpoints = {
            family: write_tiny_checkpoint(
                root / family, corpus(), family=family, width=width, layers=layers, vision_layers=2, vocabulary=400
            )
            for family in TINY_FAMILIES
        }
        (root / "oracle").mkdir()
        parities = compare({family: Contender(path) for family, path in checkpoints.items()}, root / "oracle")
        speeds = {family: _speed(path, repetitions) for family, path in checkpoints.items()}
    _print_table(parities, speeds)
    passing = [family for family, found in parities.items() if all(parity.passes() for parity in found)]
    every = [parity for found in parities.values() for parity in found]
    result = {
        "families": passing,
        "comparisons": len(every),
        "max_logit_error_float64": max(parity.exact_logits for parity in every),
        "max_logit_error": max(parity.logits for parity in every),
        "max_logit_rounding": max(parity.rounding for parity in every),
        "max_pixel_error": max(parity.pixels for parity in every),
        "vision_calls_per_forward": max(speed.calls_per_forward for speed in speeds.values()),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(("torch", "transformers")),
    }
    print(json.dumps(result))


def _speed(checkpoint: Path, repetitions: int) -> Speed:
    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu"))
    turns = [turn for case in MIXED for turn in _turns(render_case(policy.family, CASES[case]))]
    rows = pack_turns(turns, share_prefix=policy.family.shares_prefix)
    batch = collate(rows, policy.family, load_noise)
    tokens = int(sum(row.row_length for row in rows))
    calls: list[int] = []
    hook = policy.model.model.visual.register_forward_hook(lambda *_: calls.append(1))

    def forward() -> None:
        with torch.no_grad():
            response_logprobs(policy.family, policy.model, batch)

    stage = StageConfig(
        name="speed",
        objective="sft",
        advantage="ones",
        steps=1000,
        micro_batch_tokens=1 << 20,
        optimizer=OptimizerConfig(lr=1e-5, warmup_steps=0),
    )
    policy.begin(stage)
    update = UpdateBatch.of(turns, torch.ones(len(turns)), stage)

    def step() -> None:
        policy.forward_backward(update, load=load_noise)
        policy.optimizer_step(1)

    found = {}
    for name, work in (("forward", forward), ("train", step)):
        work()
        calls.clear()
        found[name] = _median(work, repetitions), len(calls) / repetitions
    hook.remove()
    (forward_s, forward_calls), (train_s, train_calls) = found["forward"], found["train"]
    return Speed(tokens / forward_s, tokens / train_s, forward_calls, train_calls)


def _median(work: Callable[[], None], repetitions: int) -> float:
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _turns(prompt: Prompt) -> list[Turn]:
    rng = np.random.default_rng(len(prompt))
    turns = []
    for length in RESPONSES:
        ids = rng.integers(7, 290, length)
        turns.append(Turn(prompt, ids, np.ones(length, dtype=bool), None, "length", ""))
    return turns


def _print_table(parities: dict[str, list[Parity]], speeds: dict[str, Speed]) -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"Threads: {torch.get_num_threads()}, kernels of torch: {capability}\n")
    header = ["family", "ids", "grids", "positions", "greedy", "pixels", "logits, float64", "logits, float32"]
    header += ["rounding", "forward tok/s", "train tok/s", "tower/forward", "tower/step"]
    rows: list[Sequence[Any]] = [header, ["---"] * len(header)]
    for family, found in parities.items():
        equal = [
            f"{sum(getattr(parity, part) for parity in found)}/{len(found)}"
            for part in ("ids", "grids", "positions", "generated")
        ]
        speed = speeds[family]
        rows.append(
            [
                f"`{family}`",
                *equal,
                f"{max(parity.pixels for parity in found):.1e}",
                *(
                    f"{max(getattr(parity, part) for parity in found):.1e}"
                    for part in ("exact_logits", "logits", "rounding")
                ),
                f"{speed.forward:,.0f}",
                f"{speed.train:,.0f}",
                f"{speed.calls_per_forward:g}",
                f"{speed.calls_per_step:g}",
            ]
        )
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


if __name__ == "__main__":
    typer.run(main)
