"""Joint image-video training against video alone, and budgets of one modality changed at a time, in the toy world.

``python -m benchmarks.joint [--work DIR] [--seeds 0 1] [--arms ...] [--steps N]``. Every arm starts from the shipped
warm start and makes equally many steps of GRPO with equally many questions. All are asked the same held-out questions
about videos, about images, and in text alone. Runs are kept under ``--work`` (a temporary directory if not given): what
is finished there is not done again, and the tables are of all seeds that are finished. Intervals are 95%, by resampling
media files over all seeds; differences are paired by question. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import check_packages, table
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import RunConfig
from easyvideor1.evaluation import Evaluation
from easyvideor1.evaluation.metric_intervals import difference_interval, mean_interval
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.recipes.toy import KINDS, write_warm_start
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.toyworld import WorldSpec, write_world

MODALITIES = ("video", "image", "text")

#: Kinds that can be asked about a single picture.
IMAGE_KINDS = ("mc_colour", "mc_shape", "yes_colour", "count")

Result = dict[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """What is trained on, in which parts, and under which budgets; evaluation has the budgets of training."""

    title: str
    shares: Mapping[str, float]
    image: Values = field(default_factory=dict)
    video: Values = field(default_factory=dict)


#: Rows of text alone take a smaller part: the toy world has one kind of them.
_JOINT = {"video": 1.0, "image": 1.0, "text": 0.25}

ARMS: Mapping[str, Arm] = {
    "video": Arm("video only", {"video": 1.0, "image": 0.0, "text": 0.0}),
    "joint": Arm("joint", _JOINT),
    "small-images": Arm("joint, a quarter of the pixels per image", _JOINT, image={"max_pixels": 1024}),
    "few-frames": Arm("joint, half the frames per video", _JOINT, video={"frames": 4}),
}

#: ``(arm, arm it is compared with)``.
COMPARISONS = (("joint", "video"), ("small-images", "joint"), ("few-frames", "joint"))


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in one run."""

    steps: int = 30
    prompts: int = 16
    responses: int = 8
    train: int = 480
    test: int = 112


QUICK = Size(steps=2, prompts=5, responses=2, train=24, test=8)


def main(arguments: list[str] | None = None) -> Result:
    """Run everything and print it; returns what the last line holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory for worlds and runs; kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of worlds and runs")
    parser.add_argument("--arms", choices=sorted(ARMS), nargs="+", default=list(ARMS), help="these arms only")
    parser.add_argument("--steps", type=int, help="steps of a run")
    parser.add_argument("--quick", action="store_true", help="two steps of everything, to see that it works")
    options = parser.parse_args(arguments)
    check_packages()
    size = QUICK if options.quick else Size()
    if options.steps is not None:
        size = Size(steps=options.steps)
    console = Console(stderr=True)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joint-")))
        begun = time.perf_counter()
        results: dict[tuple[str, int], Evaluations] = {}
        for seed in options.seeds:
            for name in options.arms:
                console.print(f"arm {name}, seed {seed}, {time.perf_counter() - begun:.0f} s", highlight=False)
                results[name, seed] = run_arm(name, seed, work, size, console)
        result = report(results, size) | {
            "wall_seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time(), 1),
        }
    print(json.dumps(result))
    return result


@dataclass(frozen=True, slots=True)
class Evaluations:
    """One run: what it could before and after, and the prompt tokens of a training step by kind."""

    before: Evaluation
    after: Evaluation
    tokens: Mapping[str, float]
    questions: Mapping[str, float]


def run_arm(name: str, seed: int, work: Path, size: Size, console: Console) -> Evaluations:
    """Do, or read, one run of an arm."""
    work = work.resolve()
    arm = ARMS[name]
    for modality in MODALITIES:
        write_world(_world(modality, seed, size), _place(work, modality, seed))
    config = _config(name, arm, seed, work, size)
    train_and_report(config, console)
    directory = Path(config.output_dir.format(name=config.name, seed=config.seed))
    (stage,) = sorted((directory / "stages").iterdir())
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return Evaluations(
        Evaluation.load(directory / "evaluations", "before"),
        Evaluation.load(directory / "evaluations", stage.name),
        {kind: sum(row[f"tokens/{kind}"] for row in rows) / len(rows) for kind in MODALITIES},
        {kind: sum(row.get(f"groups/modality/{kind}", 0.0) for row in rows) for kind in MODALITIES},
    )


def _world(modality: str, seed: int, size: Size) -> WorldSpec:
    kinds = {"video": KINDS, "image": IMAGE_KINDS, "text": ("math_text",)}[modality]
    share = 1.0 if modality == "image" else 0.0
    test = max(4, size.test // 4) if modality == "text" else size.test
    number = 7000 + 10 * seed + MODALITIES.index(modality)
    return WorldSpec(
        seed=number, train=size.train, validation=0, test=test, kinds=kinds, bodies=(1, 1), image_share=share
    )


def _place(work: Path, modality: str, seed: int) -> Path:
    return work / f"world-{modality}-{seed}"


def _config(name: str, arm: Arm, seed: int, work: Path, size: Size) -> RunConfig:
    def sources(split: str) -> list[dict[str, Any]]:
        return [
            {
                "path": str(_place(work, modality, seed) / f"{split}.jsonl"),
                **({"image": arm.image} if modality == "image" else {}),
                **({"video": arm.video} if modality == "video" else {}),
            }
            for modality in MODALITIES
        ]

    return RunConfig.model_validate(
        {
            "name": name,
            "output_dir": str(work / "runs-{seed}" / "{name}"),
            "seed": seed,
            "threads": 1,
            "model": {"path": str(write_warm_start(work / "warm-start"))},
            "data": {
                "train": sources("train"),
                "test": sources("test"),
                "balance": "modality",
                "modality_shares": dict(arm.shares),
                "video": {"rule": "uniform", "frames": 8, "min_pixels": 1024, "max_pixels": 4096},
                "image": {"min_pixels": 1024, "max_pixels": 4096},
            },
            "cache": {"dir": str(work / "frames"), "workers": 1},
            "rollout": {"max_new_tokens": 64},
            "stages": [
                {
                    "name": "grpo",
                    "steps": size.steps,
                    "prompts_per_step": size.prompts,
                    "group_size": size.responses,
                    "optimizer": {"lr": 3e-4, "betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 5},
                    "save_every": 10**6,
                }
            ],
            "evaluation": {"samples": 1},
        }
    )


def report(results: Mapping[tuple[str, int], Evaluations], size: Size) -> Result:
    """Print the tables; returns their numbers."""
    names = list(dict.fromkeys(name for name, _ in results))
    seeds = sorted({seed for _, seed in results})
    runs = {name: [results[name, seed] for seed in seeds] for name in names}
    arms: dict[str, Any] = {}
    rows = []
    for name in names:
        arms[name] = {
            moment: {
                modality: _accuracy([getattr(run, moment) for run in runs[name]], modality) for modality in MODALITIES
            }
            for moment in ("before", "after")
        }
        arms[name] |= {
            "step_tokens": {kind: round(_mean([run.tokens[kind] for run in runs[name]]), 1) for kind in MODALITIES},
            "prompt_tokens": _prompt_tokens(runs[name]),
            "questions": {kind: round(_mean([run.questions[kind] for run in runs[name]])) for kind in MODALITIES},
        }
        for moment in ("before", "after"):
            cells = [_shown(arms[name][moment][modality]) for modality in MODALITIES]
            rows.append([f"{ARMS[name].title}, {moment}", *cells])
    print(
        table(
            f"Accuracy, %, greedy and sampled together; {len(seeds)} seeds, {size.steps} steps", ["", *MODALITIES], rows
        ),
        end="\n\n",
    )
    tokens = [
        [ARMS[name].title, *(f"{arms[name]['prompt_tokens'][kind]:g}" for kind in ("video", "image"))]
        + [f"{arms[name]['questions'][kind]}" for kind in MODALITIES]
        for name in names
    ]
    header = ["", "tokens a video", "tokens an image", *(f"{kind} questions" for kind in MODALITIES)]
    print(table("Visual tokens of a prompt, and questions trained on", header, tokens), end="\n\n")
    differences = {
        f"{one} - {other}": {
            modality: _difference([run.after for run in runs[other]], [run.after for run in runs[one]], modality)
            for modality in MODALITIES
        }
        for one, other in COMPARISONS
        if one in runs and other in runs
    }
    rows = [[name, *(_shown(found[modality], "+") for modality in MODALITIES)] for name, found in differences.items()]
    print(table("Difference after training, percentage points, paired by question", ["", *MODALITIES], rows))
    return {
        "benchmark": "joint",
        "seeds": seeds,
        "steps": size.steps,
        "prompts_per_step": size.prompts,
        "arms": arms,
        "differences": differences,
    }


def _accuracy(evaluations: Sequence[Evaluation], modality: str) -> dict[str, float]:
    values, clusters = [], []
    for record in _records(evaluations, modality):
        values.append(_value(record))
        clusters.append(record.cluster)
    return _rounded(mean_interval(values, clusters))


def _difference(first: Sequence[Evaluation], second: Sequence[Evaluation], modality: str) -> dict[str, float]:
    old, new = _records(first, modality), _records(second, modality)
    assert [record.sample for record in old] == [record.sample for record in new]
    clusters = [record.cluster for record in new]
    return _rounded(difference_interval([_value(r) for r in old], [_value(r) for r in new], clusters))


def _records(evaluations: Sequence[Evaluation], modality: str) -> list[SampleRecord]:
    return [record for evaluation in evaluations for record in evaluation.records if record.modality == modality]


def _value(record: SampleRecord) -> float:
    """Mean accuracy of the greedy and the sampled responses: half the noise of either."""
    assert record.greedy is not None
    return _mean([response.score.accuracy for response in (record.greedy, *record.trajectories)])


def _prompt_tokens(runs: Sequence[Evaluations]) -> dict[str, float]:
    return {kind: _mean([run.after.modalities[kind].tokens[kind] for run in runs]) for kind in MODALITIES}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 4) for name, value in interval.to_json().items()}


def _shown(interval: Mapping[str, float], sign: str = "") -> str:
    mean, low, high = (100 * interval[name] for name in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


if __name__ == "__main__":
    main()
