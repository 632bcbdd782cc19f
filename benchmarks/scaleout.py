"""One process against several ranks, and what runs get over: ``python -m benchmarks.scaleout``.

- Ten steps of training on 1, 2 and 4 ranks: the largest difference of metrics, weights and log-probs from one process.
- Failures injected into whole runs of ``evr1 train``: a run has got over one if it comes to the metrics and weights of
  a run that nothing was done to.
- Bytes that the first rank sends to the others per sample, for long videos.
- What shared prefixes gain on two ranks over what they gain on one (``benchmarks.shared_prefix``).
- Peak memory of an update that ``evr1 fit`` predicts against what torch's allocator gives out, in one process with its
  savings and on two ranks (``benchmarks.fit`` has all cases).
- A run exported: logits of transformers on the exported directory against those of the run's last checkpoint.

The last line is JSON. ``--only`` runs some of the sections.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.chaos.judge import Judge
from benchmarks.measure import check_packages, table
from benchmarks.scaleout_bytes import driver_bytes_per_sample
from benchmarks.scaleout_faults import Place, Start, injections
from benchmarks.scaleout_steps import largest_difference, logit_difference, write_checkpoint
from easyvideor1.cli.export import checkpoint_to_use
from easyvideor1.config import load_config

#: How the policy is spread, by name; the first is what the others are compared with.
LAYOUTS: dict[str, dict[str, int]] = {
    "one process": {"ranks": 1},
    "2 ranks": {"ranks": 2},
    "4 ranks": {"ranks": 4},
    "2 x 2 ranks, hybrid": {"ranks": 4, "shard_size": 2},
    "2 ranks, one row": {"ranks": 2, "sequence_parallel": 2},
    "2 x 2 ranks, one row each": {"ranks": 4, "sequence_parallel": 2},
}

Figures = dict[str, Any]


def steps(work: Path) -> Figures:
    """Ten steps in every layout."""
    checkpoint = write_checkpoint(work / "checkpoint")
    rows, worst, first = [], 0.0, work / "steps-0"
    for number, (name, cluster) in enumerate(LAYOUTS.items()):
        out, begin = work / f"steps-{number}", time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.scaleout_steps", str(checkpoint), str(out)]
        subprocess.run([*command, "--cluster", json.dumps(cluster)], check=True, stderr=subprocess.DEVNULL)
        found = largest_difference(first, out)
        worst = max(worst, found)
        rows.append([name, f"{found:.1e}", f"{time.perf_counter() - begin:.0f}"])
    print(table("ten steps of training", ["layout", "largest difference", "s"], rows), flush=True)
    return {"max_step_difference": worst}


def faults(work: Path) -> Figures:
    """Every failure, injected once."""
    judge = Judge(work / "judge.log")
    try:
        place, rows, found = Place(work / "runs", judge.url), [], {}
        for injection in injections(judge):
            begin = time.perf_counter()
            found[injection.name] = place.recovers(injection)
            words = found[injection.name] or "yes"
            print(f"{injection.name}: {words}", file=sys.stderr, flush=True)
            rows.append([injection.name, f"{time.perf_counter() - begin:.0f}", words.splitlines()[0][:60]])
    finally:
        judge.close()
    print(table("failures", ["injected", "s", "got over"], rows), flush=True)
    return {
        "injected_failures": len(found),
        "recovered_failures": sum(not words for words in found.values()),
        # These compare to the bit, on the layout in which the run was interrupted.
        "resume_bitwise": not any(found[each.name] for each in injections(judge) if each.like and not each.tolerance),
    }


def export(work: Path) -> Figures:
    """Logits of an exported run by transformers alone, against the policy of the run's last checkpoint."""
    run, _, fault = Place(work / "exported-run", "").run([Start(("cluster.ranks=2",))])
    if fault:
        raise RuntimeError(fault)
    out = work / "exported"
    command = [sys.executable, "-m", "easyvideor1.cli", "export", str(run), str(out), "--max-shard-size", "1M"]
    subprocess.run(command, check=True, capture_output=True)
    found = logit_difference(checkpoint_to_use(run, load_config(str(run / "config.yaml"))), out)
    print(table("export", ["checkpoint", "largest difference"], [["of two ranks", f"{found:.1e}"]]), flush=True)
    return {"export_roundtrip": found}


def prefix(work: Path) -> Figures:
    """Gain of shared prefixes, data parallel and sequence parallel; the lower one counts."""
    command = [sys.executable, "-m", "benchmarks.shared_prefix", "--rounds", "3"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    *lines, last = done.stdout.splitlines()
    print("\n".join(lines), flush=True)
    found = json.loads(last).values()
    return {
        "shared_prefix_kept": round(min(each["shared_prefix_kept"] for each in found), 3),
        "shared_prefix_kept_cpu": round(min(each["cpu_kept"] for each in found), 3),
    }


def traffic(work: Path) -> Figures:
    """Bytes per sample with 8 responses; the figures are those of 256 frames and responses of 500 tokens."""
    cases = [(frames, tokens, ranks) for frames, tokens in ((256, 500), (256, 1000), (768, 1000)) for ranks in (2, 4)]
    found = {case: driver_bytes_per_sample(*case[:2], 8, ranks=case[2]) for case in cases}
    rows = [
        [*map(str, case), f"{sum(each) / len(each) / 1000:.1f}", f"{sum(each) / 1000:.1f}"]
        for case, each in found.items()
    ]
    head = ["frames", "tokens per response", "ranks", "kB per sample to each other", "to all others"]
    print(table("what travels to ranks", head, rows), flush=True)
    return {
        "driver_bytes_per_sample": round(sum(found[256, 500, 2])),
        "driver_bytes_per_sample_to_each_of_4": round(sum(found[256, 500, 4]) / 3),
    }


def memory(work: Path) -> Figures:
    """Two cases of ``benchmarks.fit``; that fails if one of them does."""
    names = ("tower in chunks", "two ranks")
    command = [sys.executable, "-m", "benchmarks.fit", *(word for name in names for word in ("--case", name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    *lines, last = done.stdout.splitlines()
    print("\n".join(lines), flush=True)
    return {"peak_prediction_error": json.loads(last)["peak_prediction_error"]}


SECTIONS: Mapping[str, Callable[[Path], Figures]] = {
    "steps": steps,
    "prefix": prefix,
    "traffic": traffic,
    "memory": memory,
    "faults": faults,
    "export": export,
}


def main() -> None:
    """All sections, or some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(SECTIONS), action="append", help="a section; repeatable")
    asked = parser.parse_args()
    check_packages()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only or SECTIONS:
            work = Path(folder) / name
            work.mkdir()
            figures |= SECTIONS[name](work)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
