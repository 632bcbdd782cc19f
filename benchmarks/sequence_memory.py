"""``python -m benchmarks.sequence_memory``: what an update with one long video takes of a rank's memory.

Alone, and with two ranks that compute every micro-batch together: bytes that forward and backward passes take at their
peak beyond what is resident before them, in the first rank, each in processes of its own. Linux only. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.measure import check_packages, table
from benchmarks.memory import extra_memory
from benchmarks.shared_prefix import CLUSTERS, STAGE, Noise, open_noise, passes_of
from benchmarks.step_paths import make_step_data, write_model
from easyvideor1.config import ModelConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.policy import RankedPolicy

WAYS = ("alone", "together")
RESPONSES = 4


def update_peak(checkpoint: Path, way: str, prompt: int) -> int:
    """Most bytes that passes over a prompt of ``prompt`` tokens take of this process, which is to do no more."""
    model, load = ModelConfig(path=str(checkpoint), device="cpu"), Noise().load
    with ExitStack() as stack:
        if way == "alone":
            policy = Policy.open(model)
        else:
            ranks = stack.enter_context(Ranks(CLUSTERS["sequence parallel"], None))
            policy = RankedPolicy.open_on(ranks, model, checkpoint, [STAGE], open_noise)
        policy.begin(STAGE)
        sizes = {"prompt_tokens": prompt, "responses": RESPONSES, "lengths": (56, 72)}
        small = make_step_data(policy.family, prompt_tokens=40, responses=2, lengths=(4, 4))
        data = make_step_data(policy.family, **sizes)  # type: ignore[arg-type]
        for turn in data.turns:
            load(turn.prompt.media[0], turn.prompt.plans[0])
        passes_of(policy, small, load)()  # gradients and what libraries set up are there from here on
        return extra_memory(passes_of(policy, data, load))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=8000, help="tokens of the prompt")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.way:
        print(json.dumps({"bytes": update_peak(args.model, args.way, args.prompt)}))
        return
    check_packages()
    found = {}
    with tempfile.TemporaryDirectory(prefix="easyvideor1-memory.") as temporary:
        model = write_model(Path(temporary) / "model")
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.sequence_memory", "--way", way, "--model", str(model)]
            done = subprocess.run([*command, "--prompt", str(args.prompt)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{way} failed:\n{done.stderr[-2000:]}")
            found[way] = json.loads(done.stdout.strip().splitlines()[-1])["bytes"]
    rows = [[way, f"{size / 2**20:.0f}", f"{found['alone'] / size:.2f}x"] for way, size in found.items()]
    print(table(f"MiB of a rank, one video of {args.prompt} tokens, {RESPONSES} responses", ["", "MiB", "less"], rows))
    print(json.dumps({**found, "memory_ratio": found["together"] / found["alone"]}))


if __name__ == "__main__":
    main()
