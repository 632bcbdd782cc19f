"""Predicted peaks of memory against measured ones: ``python -m benchmarks.fit [--case NAME ...]``.

Every case is a random model in a process of its own, or on two ranks, of which the first is measured. It makes two
updates. Measured is the peak, weights and optimiser state included, of what torch's allocator has given out, and for
some cases, in another process, of what the kernel counts as resident. The prediction is that of ``evr1 fit``, which
reads ``config.json`` alone. The last line is JSON; ``peak_prediction_error`` is the largest relative error of the
allocator's peaks, ``resident_prediction_error`` that of resident memory. The exit status is 1 if a case failed or was
refused.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.family_cases import corpus
from benchmarks.measure import check_packages, table
from benchmarks.memory import allocator_peak, extra_memory
from easyvideor1.config import ClusterConfig, ModelConfig, StageConfig
from easyvideor1.engines.worker_messages import WorkerMedia
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.memory import Placement, update_peak
from easyvideor1.policy.sizing.workload import Asked, micro_batches, stage_facts
from easyvideor1.policy.spread import local
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.policy import RankedPolicy
from easyvideor1.types import Frames, Geometry, MediaPlan, MediaRef, Prompt, Turn


@dataclass(frozen=True, slots=True)
class Case:
    """A model, how it is trained, and the update: prompts with a video each, and responses to them."""

    family: str = "qwen3_vl"
    width: int = 256
    layers: int = 4
    vocabulary: int = 4096
    frames: int = 8
    side: int = 256
    prompts: int = 2
    responses: int = 4
    tokens: int = 64
    ranks: int = 1
    model: Mapping[str, Any] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint, which cases of one shape share."""
        return f"{self.family}-{self.width}-{self.layers}-{self.vocabulary}"


LORA = {"rank": 8, "targets": ["language"]}
CHECKPOINTED: dict[str, Any] = {"gradient_checkpointing": True}

CASES = {
    "plain": Case(),
    "checkpointed": Case(model=CHECKPOINTED),
    "bfloat16": Case(model={"dtype": "bfloat16"}),
    "bfloat16, checkpointed": Case(model={"dtype": "bfloat16", **CHECKPOINTED}),
    "offloaded": Case(model={**CHECKPOINTED, "offload": ["activations", "optimizer"]}),
    "tower in chunks": Case(model={**CHECKPOINTED, "offload": ["activations"], "vision_chunk": 128}),
    "MLPs in chunks": Case(responses=8, tokens=128, model={**CHECKPOINTED, "mlp_chunk": 128}),
    "one micro-batch": Case(stage={"micro_batch_tokens": 65536}),
    "frozen tower": Case(model={"freeze": ["vision", "merger"]}),
    "adapters": Case(model={"lora": LORA}),
    "adapters, checkpointed": Case(model={"lora": LORA, "dtype": "bfloat16", **CHECKPOINTED}),
    "with a reference": Case(stage={"kl": "k3"}),
    "with a critic": Case(stage={"advantage": "gae"}),
    "two ranks": Case(ranks=2, prompts=4),
    "two ranks, bfloat16": Case(ranks=2, prompts=4, model={"dtype": "bfloat16", **CHECKPOINTED}),
    "width 768": Case(width=768, layers=3, prompts=1),
    "qwen2_vl": Case(family="qwen2_vl", side=252),
    "qwen2_5_vl": Case(family="qwen2_5_vl", side=252),
    "qwen3_vl_moe": Case(family="qwen3_vl_moe"),
    "qwen3_5": Case(family="qwen3_5", responses=2),
}
#: Cases whose resident memory is measured too, which takes a process more.
RESIDENT = ("plain", "bfloat16, checkpointed", "adapters", "width 768")


def video_plan(geometry: Geometry, frames: int, side: int, number: int = 0) -> MediaPlan:
    """A plan of square frames."""
    steps, patches = frames // geometry.temporal_patch_size, side // geometry.patch_size
    name = f"{frames}/{side}/{number}"
    times = tuple(index / 2 for index in range(frames))
    tokens = steps * patches**2 // geometry.merge_size**2
    return MediaPlan(
        "video", name, tuple(range(frames)), times, side, side, (steps, patches, patches), tokens, 2, 2, name
    )


def measured(case: Case, checkpoint: Path, *, resident: bool = False) -> int:
    """The peak of opening the model and two updates.

    On ranks the model passes through other threads, whose allocations the profiler does not see. So its weights are
    counted, and the updates measured.
    """
    _, turns = _asked(case, checkpoint)
    options, peak = _stage(case), extra_memory if resident else allocator_peak
    opened: list[Policy] = []

    def two_updates() -> None:
        policy = opened[0] if opened else Policy.open(_model(case, checkpoint))
        policy.begin(options)
        for step in (1, 2):
            values = [torch.zeros(len(turn.response_ids)) for turn in turns]
            fields: dict[str, Any] = {} if policy.critic is None else {"values": values, "returns": values}
            batch = UpdateBatch.of(turns, torch.linspace(-1, 1, len(turns)), options, **fields)
            if policy.critic is not None:
                policy.critic_forward_backward(batch, load=_noise)
                policy.critic_step(step)
            policy.forward_backward(batch, load=_noise)
            policy.optimizer_step(step)

    if case.ranks == 1:
        return peak(two_updates)
    with Ranks(ClusterConfig(ranks=case.ranks), None) as ranks:
        opened.append(_opened(case, checkpoint, options, ranks))
        return sum(local(weight).nbytes for weight in opened[0].model.parameters()) + peak(two_updates)


def _opened(case: Case, checkpoint: Path, options: StageConfig, ranks: Ranks) -> Policy:
    """The part of the first rank."""
    from benchmarks import fit  # other ranks know it by this name

    media = partial(WorkerMedia, fit._noise)
    return RankedPolicy.open_on(ranks, _model(case, checkpoint), checkpoint, [options], media)


def predicted(case: Case, checkpoint: Path) -> dict[str, int]:
    """The parts of the peak, by ``evr1 fit``."""
    model, options = _model(case, checkpoint), _stage(case)
    family = load_family(checkpoint)
    sizes = measure_model(family, model, checkpoint)
    facts = stage_facts(
        options, checkpointing=model.gradient_checkpointing, lora=model.lora is not None, cached_features=False
    )
    asked, _ = _asked(case, checkpoint)
    batches = micro_batches(asked, options, sizes.costs, shared=family.shares_prefix)
    place = Placement(case.ranks, case.ranks, model.offload, on_cpu=True)
    return update_peak(sizes, facts, batches, place).parts


def write(case: Case, out: Path) -> Path:
    """The checkpoint of a case."""
    return write_tiny_checkpoint(
        out,
        [*corpus(), _words(case.vocabulary)],
        family=case.family,
        width=case.width,
        layers=case.layers,
        vision_layers=case.layers // 2,
        vocabulary=case.vocabulary,
    )


def _words(count: int) -> str:
    """Random words, enough for a tokenizer of ``count`` tokens."""
    rng = np.random.default_rng(0)
    return " ".join("".join(map(chr, rng.integers(97, 123, 8))) for _ in range(count))


def _stage(case: Case) -> StageConfig:
    options = {"micro_batch_tokens": 600, "group_size": case.responses, **case.stage}
    return StageConfig(name="grpo", prompts_per_step=case.prompts, **options)


def _model(case: Case, checkpoint: Path) -> ModelConfig:
    return ModelConfig(path=str(checkpoint), device="cpu", **case.model)


def _asked(case: Case, checkpoint: Path) -> tuple[list[Asked], list[Turn]]:
    family, rng = load_family(checkpoint), np.random.default_rng(0)
    asked, turns = [], []
    for number in range(case.prompts):
        plan = video_plan(family.geometry, case.frames, case.side, number)
        prompt: Prompt = family.render("<video>What moves?", (MediaRef("video", f"/{number}"),), (plan,))
        asked.append(Asked(prompt, (case.tokens,) * case.responses))
        for _ in range(case.responses):
            ids = rng.integers(10, 250, case.tokens)
            turns.append(Turn(prompt, ids, np.ones(case.tokens, dtype=bool), None, "length", ""))
    return asked, turns


def _noise(ref: MediaRef, plan: MediaPlan) -> Frames:
    rng = np.random.default_rng(0)
    return Frames(rng.integers(0, 256, (len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.uint8), plan)


def compare(name: str, folder: Path, *, resident: bool = False) -> dict[str, int]:
    """Bytes of a case: predicted and of the allocator, or resident. Run in a process of its own."""
    case = CASES[name]
    checkpoint = folder / case.checkpoint
    torch.set_num_threads(1)
    if resident:
        return {"resident": measured(case, checkpoint, resident=True)}
    return {"predicted": sum(predicted(case, checkpoint).values()), "allocator": measured(case, checkpoint)}


def compare_all(names: Sequence[str]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Bytes of every case, and of those that failed why.

    Each has a process of its own, as many at a time as there are cores, since it is not time that is measured. The
    processes are forked from one that has the libraries and has computed nothing.
    """
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.family_cases", "easyvideor1.training.ranks.policy", "transformers"])
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    failed: dict[str, str] = {}
    shapes = {CASES[name].checkpoint: CASES[name] for name in names}
    with (
        tempfile.TemporaryDirectory() as temporary,
        ProcessPoolExecutor(os.cpu_count(), context, max_tasks_per_child=1) as pool,
    ):
        folder = Path(temporary)
        for written in [pool.submit(write, case, folder / name) for name, case in shapes.items()]:
            written.result()
        running = {pool.submit(compare, name, folder): name for name in names}
        running |= {pool.submit(compare, name, folder, resident=True): name for name in names if name in RESIDENT}
        for done in as_completed(running):
            name = running[done]
            if (error := done.exception()) is not None:  # the other cases go on, and the exit status tells
                failed[name] = f"{type(error).__name__}: {error}"
            else:
                found[name] |= done.result()
            print(name, failed.get(name) or done.result(), file=sys.stderr, flush=True)
    return {name: one for name, one in found.items() if name not in failed}, failed


def main() -> int:
    """Every case, or some; a table of peaks and the largest errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append", help="one of them; repeatable")
    arguments = parser.parse_args()
    check_packages()
    began = time.perf_counter()
    found, failed = compare_all(arguments.case or list(CASES))
    rows = [
        [
            name,
            *(f"{one[key] / 2**20:,.1f}" if key in one else "" for key in ("predicted", "allocator", "resident")),
            *(f"{one['predicted'] / one[key] - 1:+.1%}" if key in one else "" for key in ("allocator", "resident")),
        ]
        for name, one in found.items()
    ]
    print(table("peak of an update, MiB", ["case", "predicted", "allocator", "resident", "error", "error"], rows))
    for name, why in failed.items():
        print(f"failed: {name}: {why}")
    print(
        json.dumps(
            {
                "cases": len(found),
                "failed": sorted(failed),
                "seconds": round(time.perf_counter() - began),
                "peak_prediction_error": largest_error(found, "allocator"),
                "resident_prediction_error": largest_error(found, "resident"),
            }
        )
    )
    return 1 if failed else 0


def largest_error(found: Mapping[str, Mapping[str, int]], measure: str) -> float | None:
    """The largest relative error of a prediction; None without any case that was measured so."""
    errors = [abs(one["predicted"] / one[measure] - 1) for one in found.values() if measure in one]
    return round(max(errors), 4) if errors else None


if __name__ == "__main__":
    sys.exit(main())
