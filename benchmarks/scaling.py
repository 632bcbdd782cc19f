"""A training step on 1 to 1,024 GPUs, simulated: ``python -m benchmarks.scaling [--gpus 8 32] [--per-gpu]``.

Events are responses that end, prompts whose frames have been read, passes of the trainer, and new weights. Unit costs
are counted from the published 8B shape, measured on this machine (what one process does for all samples), or assumed;
``docs/scaling.md`` lists every assumption and says what comes out. No GPU is used. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks.measure import table
from benchmarks.scaling_cluster import Cluster, Setting, draw, forward_operations
from benchmarks.scaling_costs import Controller, Hardware, Model, Workload, measured, released_8b
from benchmarks.scaling_step import Outcome, simulate
from benchmarks.scaling_trainer import UPDATE

GPUS = (1, 8, 32, 256, 1024)

#: Shares of GPUs that generate a step ahead, and steps that are simulated, by staleness.
SHARES = (0.375, 0.40625, 0.4375, 0.5)
STEPS = (2, 12)

#: Published seconds of a step of 32 prompts with 8 responses each, 256 frames, on 32 H200 (EasyVideoR1, 2026): rollout,
#: log-probs, update, with its frame cache. With videos decoded on the way rollout is 82.1 and log-probs 53.6.
PUBLISHED = (53.9, 18.8, 54.0)

_PHASES = ("generation", "calls", "passes", "uneven", "network", "frames", "weights")


def scaled(model: Model, controller: Controller, gpus: Sequence[int], *, per_gpu: bool) -> list[dict[str, Any]]:
    """Outcomes of both modes by number of GPUs; ``per_gpu`` lets the step grow with them, at 8 prompts each."""
    rows = []
    for count in gpus:
        for staleness in (0, 1):
            if staleness and count == 1:
                continue
            workload = Workload(prompts=8 * count) if per_gpu else Workload()
            # Of some shares of whole GPUs the best: generation and training then take about as long.
            shares = sorted({round(count * share) / count for share in SHARES}) if staleness else [0.5]
            found = {}
            for share in shares:
                setting = Setting(staleness, share, steps=STEPS[staleness] * (2 if count <= 32 else 1))
                found[share] = simulate(model, Hardware(count), workload, controller, setting)
            best = min(found, key=lambda each: found[each].seconds)
            rows.append(_row(count, staleness, best, workload, found[best]))
            rows[-1]["seconds_by_share"] = {share: each.seconds for share, each in found.items()}
    return rows


def _row(gpus: int, staleness: int, share: float, workload: Workload, outcome: Outcome) -> dict[str, Any]:
    samples = workload.prompts * workload.group
    return {
        "gpus": gpus,
        "staleness": staleness,
        "engine_share": share if staleness else None,
        "prompts": workload.prompts,
        "seconds": outcome.seconds,
        "samples_per_second_and_gpu": samples / outcome.seconds / gpus,
        **{name: outcome.phases[name] for name in _PHASES},
        "engines_busy": outcome.engines_busy,
        "ranks_busy": outcome.ranks_busy,
    }


def limits(model: Model, controller: Controller, gpus: Sequence[int]) -> dict[str, dict[int, float]]:
    """Seconds of a synchronous step of 8 prompts per GPU, as it is and with one limit taken away at a time."""
    equal = {"spread": 0.0, "median": Workload().median * float(np.exp(Workload().spread ** 2 / 2))}
    variants: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
        "as it is": ({}, {}, {}),
        "calls to ranks cost nothing": (
            {},
            {},
            dict.fromkeys(("call_bytes", "again_bytes", "pack", "unpack", "plan"), 0.0),
        ),
        "results cost the trainer nothing": ({}, {}, {"result": 0.0}),
        "responses of equal length": ({}, equal, {}),
        "videos of equal length": ({}, {"least": 1.0, "video_tokens": int(Workload().video_tokens * 0.65)}, {}),
        "GPUs of equal speed": ({"uneven": 0.0}, {}, {}),
        "a store without limit": ({"store": 1e18, "store_per_node": 1e18}, {}, {"read": 1e18}),
        "a network without limit": ({"ring_in_node": 1e18, "ring_between_nodes": 1e18, "card": 1e18}, {}, {}),
        "a tenth of the network": ({"ring_between_nodes": 2e10, "card": 4e9}, {}, {}),
        "new weights at the rate of a network card": ({"through_cpu": Hardware(1).card}, {}, {}),
        "a tenth of the store": ({"store": 4e9, "store_per_node": 1e9}, {}, {}),
    }
    found: dict[str, dict[int, float]] = {}
    for name, (hardware, workload, costs) in variants.items():
        found[name] = {
            count: simulate(
                model,
                replace(Hardware(count), **hardware),
                replace(Workload(prompts=8 * count), **workload),
                replace(controller, **costs),
                Setting(steps=STEPS[0] * (2 if count <= 32 else 1)),
            ).seconds
            for count in gpus
        }
    return found


def published(model: Model) -> dict[str, dict[str, float]]:
    """What the model says of the published step beside what was measured there.

    That stack computes every response with its whole prompt and logits at every token, and hands weights to its 16
    engines of two GPUs on the devices. Loading of videos is not predicted: no number for it is known but the published
    ones. The update is a fixed multiple of the log-probs, so that the two are one prediction.
    """
    workload, hardware = Workload(prompts=32, shared=False), Hardware(32)
    video, lengths = draw(workload, 0, 0)
    works = sorted(
        forward_operations(model, workload, float(tokens), [float(new)], logits=True)
        + (tokens + workload.text_tokens) * model.costs.target
        for tokens, group in zip(video, lengths, strict=True)
        for new in group
    )
    # Dealt out by length, as the published balance does: rank r has works r, r + 32, ...; their sums are nearly equal.
    ranks = [sum(works[rank :: hardware.gpus]) for rank in range(hardware.gpus)]
    forward = float(np.mean(ranks)) / hardware.arithmetic
    pairs = replace(hardware, gpus=16, per_node=4, arithmetic=2 * hardware.arithmetic, memory=2 * hardware.memory)
    nothing = Controller(0, 0, 0, 0, 0, 0, 1e18, 1e18, 0)
    generation = simulate(
        model, replace(pairs, store=1e15, store_per_node=1e15), workload, nothing, Setting(steps=STEPS[0])
    )
    on_devices = replace(hardware, through_cpu=hardware.card)
    weights = Cluster(model, on_devices, workload, nothing, Setting()).new_weights()
    return {
        "log-probs without loading": {"predicted": forward, "published": PUBLISHED[1]},
        "update, as 4 times the log-probs": {"predicted": UPDATE * forward, "published": PUBLISHED[2]},
        "rollout without loading": {
            "predicted": generation.phases["generation"] + weights,
            "published": PUBLISHED[0],
        },
    }


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The outcomes as a table."""
    header = ("GPUs", "mode", "prompts", "step", "samples/s/GPU", *_PHASES, "engines", "ranks")
    cells = []
    for row in rows:
        mode = f"stale 1, {row['engine_share']:.0%}" if row["staleness"] else "synchronous"
        cells.append(
            [
                f"{row['gpus']:,}",
                mode,
                f"{row['prompts']:,}",
                f"{row['seconds']:.1f}",
                f"{row['samples_per_second_and_gpu']:.3f}",
                *(f"{row[name]:.1f}" for name in _PHASES),
                f"{row['engines_busy']:.0%}",
                f"{row['ranks_busy']:.0%}",
            ]
        )
    return table(title, header, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=list(GPUS))
    options = parser.parse_args()
    model = released_8b()
    controller = measured(model.costs)
    costs = [[name, f"{value:.3g}"] for name, value in asdict(controller).items()]
    print(table("what one process does: seconds or bytes of a sample, bytes per second", ("cost", "value"), costs))
    fixed = scaled(model, controller, options.gpus, per_gpu=False)
    print()
    print(show("a step of 256 prompts with 8 responses each; seconds, and busy shares of engines and ranks", fixed))
    print()
    growing = scaled(model, controller, options.gpus, per_gpu=True)
    print(show("a step of 8 prompts per GPU", growing))
    bound = limits(model, controller, (8, 32, 1024))
    print()
    cells = [[name, *(f"{seconds:.0f}" for seconds in each.values())] for name, each in bound.items()]
    print(table("what limits it: seconds of a step of 8 prompts per GPU", ("", "8 GPUs", "32", "1,024"), cells))
    check = published(model)
    print()
    print(
        table("the published step on 32 GPUs; seconds", ("part", "predicted", "published", "ratio"), _compared(check))
    )
    result = {"controller": asdict(controller), "fixed": fixed, "growing": growing, "limits": bound, "published": check}
    print(json.dumps(result, default=float))


def _compared(check: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [
        [name, f"{each['predicted']:.1f}", f"{each['published']:.1f}", f"{each['predicted'] / each['published']:.2f}"]
        for name, each in check.items()
    ]


if __name__ == "__main__":
    main()
