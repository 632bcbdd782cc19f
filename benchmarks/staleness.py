"""Learning from older responses: ``python -m benchmarks.staleness [--full] [--work DIRECTORY] [--show N]``.

GRPO of the quickstart's shape, shortened, on toy worlds of three seeds, with ``rollout.max_staleness`` 0, 1, 2 and 4,
with the default correction (``tis``) and without one. The engine is as late as the bound allows: it generates all that
is pending before it takes new weights, so that from step ``max_staleness + 1`` on every token is ``max_staleness``
steps old. A real engine is younger than that on average.

Accuracies are greedy, on held-out questions; ``gain`` is over the warm start and ``to sync`` over staleness 0, paired
by question and clustered by clip, over all seeds. ``--full`` trains longer, on more questions, and also shows
``tis_sequence``. Runs go through ``evr1 train``'s own code and may be interrupted: what is done is not done again.
``--show N`` prints N answers of the stalest run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.learning import OPTIMIZER
from benchmarks.measure import check_packages
from benchmarks.quickstart import show
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import RunConfig
from easyvideor1.engines.engine import Result, finished
from easyvideor1.engines.local import LocalEngine
from easyvideor1.evaluation import Evaluation
from easyvideor1.evaluation.metric_intervals import difference_interval
from easyvideor1.recipes.toy import KINDS, write_warm_start
from easyvideor1.toyworld import WorldSpec, write_world

SEEDS = (0, 1, 2)
STALENESS = (0, 1, 2, 4)


class LateEngine(LocalEngine):
    """A local engine with weights of its own that finishes all that is pending before it takes new ones."""

    runs_ahead = True

    def __init__(self, family: Any, model: Any, *given: Any, **options: Any) -> None:
        super().__init__(family, deepcopy(model).requires_grad_(False), *given, **options)
        self._kept: dict[int, Result] = {}

    def results(self) -> Iterator[Any]:
        """What was kept, then what is generated now."""
        while self._kept:
            yield self._kept.pop(next(iter(self._kept)))
        yield from super().results()

    def cancel(self, tickets: Collection[int]) -> None:
        """Also what was kept."""
        super().cancel(tickets)
        for ticket in tickets:
            self._kept.pop(ticket, None)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Generate what is pending, then take the weights."""
        kept = self._kept
        self._kept = {}
        self._kept = kept | {result.ticket: result for result in finished(self)}
        super().update_weights(version, tensors)


@dataclass(frozen=True, slots=True)
class Size:
    """Budgets of a run: questions, steps, prompts of a step."""

    train: int
    test: int
    steps: int
    prompts: int


SMALL = Size(train=256, test=84, steps=20, prompts=12)
FULL = Size(train=1024, test=280, steps=60, prompts=16)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting over all seeds: accuracies in [0, 1], differences with their 95% intervals, means of metrics."""

    staleness: int
    correction: str
    before: float
    after: float
    gain: tuple[float, float, float]
    to_sync: tuple[float, float, float] | None
    reward_late: float
    age: float
    kl: float
    corrected: float
    seconds: float


def main() -> None:
    """Run all settings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="60 steps on 1024 questions, and tis_sequence")
    parser.add_argument("--work", type=Path, help="directory of worlds, frames and runs; kept, and gone on with")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="answers of the stalest run to print")
    given = parser.parse_args()
    check_packages()
    with tempfile.TemporaryDirectory() as own:
        print(json.dumps(measure(given.work or Path(own), full=given.full, shown=given.show)))


def measure(work: Path, *, full: bool, shown: int = 0) -> dict[str, Any]:
    """All settings, as a table on the way and a mapping at the end."""
    size = FULL if full else SMALL
    corrections = ("tis", "none", *(("tis_sequence",) if full else ()))
    settings = [(0, "none"), *((age, name) for age in STALENESS[1:] for name in corrections)]
    bench = _Bench(work, size)
    sync = bench.answers(0, "none", "01-rl")
    rows = []
    head = f"{'stale':>5} {'correction':12} {'before':>6} {'after':>6}  gain [95%]              to sync [95%]"
    print(f"{head}           reward   age      kl   cut    s", flush=True)
    for staleness, correction in settings:
        row = bench.row(staleness, correction, sync)
        rows.append(row)
        text = f"{row.staleness:5} {row.correction:12} {row.before:6.3f} {row.after:6.3f}"
        both = "  ".join(_interval(found) for found in (row.gain, row.to_sync))
        rest = f"{row.reward_late:7.3f} {row.age:5.2f} {row.kl:7.4f} {row.corrected:5.3f} {row.seconds:4.0f}"
        print(f"{text}  {both}  {rest}", flush=True)
    if shown:
        show(bench.run(STALENESS[-1], "tis", SEEDS[0]) / "evaluations", "01-rl", shown)
    return {
        "benchmark": "staleness",
        "full": full,
        "seeds": SEEDS,
        "size": asdict(size),
        "rows": [asdict(row) for row in rows],
    }


class _Bench:
    """Worlds and runs below one directory."""

    def __init__(self, work: Path, size: Size) -> None:
        self.work = work
        self.size = size
        self.checkpoint = write_warm_start(work / "warm-start")
        self.seconds: dict[str, float] = {}

    def row(self, staleness: int, correction: str, sync: list[tuple[str, str, float]]) -> Row:
        """A setting against the warm start and against staleness 0."""
        before, after = (self.answers(staleness, correction, name) for name in ("before", "01-rl"))
        metrics = [row for seed in SEEDS for row in self._metrics(staleness, correction, seed)]
        late = [row for row in metrics if row["step"] > 0.75 * self.size.steps]
        return Row(
            staleness,
            correction,
            before=_mean([accuracy for _, _, accuracy in before]),
            after=_mean([accuracy for _, _, accuracy in after]),
            gain=_difference(before, after),
            to_sync=_difference(sync, after) if staleness else None,
            reward_late=_mean([row["reward/total"] for row in late]),
            age=_mean([row.get("staleness/mean", 0.0) for row in metrics]),
            kl=_mean([row["staleness/kl"] for row in metrics if "staleness/kl" in row]),
            corrected=_mean([row["mismatch/corrected"] for row in metrics if "mismatch/corrected" in row]),
            seconds=sum(self.seconds.get(self._name(staleness, correction, seed), 0.0) for seed in SEEDS),
        )

    def answers(self, staleness: int, correction: str, name: str) -> list[tuple[str, str, float]]:
        """``(question, clip, accuracy)`` of the greedy answers of an evaluation, over all seeds."""
        found = []
        for seed in SEEDS:
            evaluation = Evaluation.load(self.run(staleness, correction, seed) / "evaluations", name)
            for record in evaluation.records:
                accuracy = record.greedy.score.accuracy if record.greedy else 0.0
                found.append((f"{seed}/{record.sample}", f"{seed}/{record.media[0].path}", accuracy))
        return found

    def run(self, staleness: int, correction: str, seed: int) -> Path:
        """The run directory, done."""
        size, world = self.size, self.work / f"world-{seed}"
        spec = WorldSpec(
            seed=seed + 50, train=size.train, validation=0, test=size.test, kinds=KINDS, bodies=(1, 1), image_share=0.0
        )
        write_world(spec, world)
        stage = {
            "name": "rl",
            "steps": size.steps,
            "prompts_per_step": size.prompts,
            "group_size": 8,
            "save_every": 1000,
            "keep_checkpoints": 1,
            "correction": correction,
            "optimizer": {"lr": 5e-4, **OPTIMIZER},
        }
        config = RunConfig.model_validate(
            {
                "name": self._name(staleness, correction, seed),
                "output_dir": str(self.work / "runs" / "{name}"),
                "seed": seed,
                "threads": 1,
                "model": {"path": str(self.checkpoint)},
                "data": {
                    "train": [{"path": str(world / "train.jsonl")}],
                    "test": [{"path": str(world / "test.jsonl")}],
                    "video": {"rule": "uniform", "frames": 8, "min_pixels": 4096, "max_pixels": 4096},
                    "image": {"min_pixels": 4096, "max_pixels": 4096},
                },
                "cache": {"dir": str(self.work / "frames"), "workers": 1},
                "rollout": {
                    "max_new_tokens": 64,
                    "engine": "benchmarks.staleness:LateEngine",
                    "max_staleness": staleness,
                },
                "stages": [stage],
                "evaluation": {"samples": 0},
            }
        )
        directory, begun = self.work / "runs" / config.name, time.monotonic()
        if not (directory / "summary.json").exists():
            with (self.work / "log.txt").open("a") as log:
                train_and_report(config, Console(file=log, width=160))
            self.seconds[config.name] = time.monotonic() - begun
        return directory

    @staticmethod
    def _name(staleness: int, correction: str, seed: int) -> str:
        return f"staleness-{staleness}-{correction}-{seed}"

    def _metrics(self, staleness: int, correction: str, seed: int) -> list[dict[str, Any]]:
        path = self.run(staleness, correction, seed) / "stages" / "01-rl" / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _difference(
    first: list[tuple[str, str, float]], second: list[tuple[str, str, float]]
) -> tuple[float, float, float]:
    if [question for question, _, _ in first] != [question for question, _, _ in second]:
        raise RuntimeError("the two sides answered different questions")
    old, new = ([accuracy for _, _, accuracy in side] for side in (first, second))
    found = difference_interval(old, new, [clip for _, clip, _ in first])
    return found.mean, found.low, found.high


def _interval(found: tuple[float, float, float] | None) -> str:
    return f"{'-':23}" if found is None else f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}]"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


if __name__ == "__main__":
    main()
