"""What learns: ``python -m benchmarks.learning [--quick] [--only NAME ...] [--work DIRECTORY]``.

On the toy world, from the shipped warm start, with fixed budgets and seeds; every number is the greedy accuracy on test
questions whose clips were never trained on, every interval of a gain is paired by question and clustered by clip, over
all seeds. Three questions:

- Does every advantage (with ``ppo_clip``) and every objective (with ``grpo``) improve over the warm start? With one
  update per rollout, and those that clip with four as well, where clipping is at work.
- Does a hybrid stage beat an on-policy stage of the same budget on a task that the warm start hardly ever gets right,
  and how much does it matter how its offline members are trained on?
- Does SFT followed by GRPO beat SFT alone, given the same number of steps? Once with demonstrations of which most are
  hasty guesses, as large pools hold them, and once with flawless ones.

Runs go through ``evr1 train``'s own code and may be interrupted: what is done is not done again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import check_packages
from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import RunConfig
from easyvideor1.evaluation.metric_intervals import difference_interval
from easyvideor1.recipes.toy import KINDS, write_warm_start
from easyvideor1.toyworld import WorldSpec, write_world

#: What some need beside their name.
SETTINGS: dict[str, dict[str, Any]] = {
    "gspo": {"aggregation": "sequence", "objective": {"name": "gspo", "clip_low": 3e-4, "clip_high": 4e-4}},
    "gspo_token": {"aggregation": "sequence", "objective": {"name": "gspo_token", "clip_low": 3e-4, "clip_high": 4e-4}},
    "gmpo": {"aggregation": "sequence", "objective": {"name": "gmpo", "clip_low": 0.4, "clip_high": 0.4}},
    "reg_grpo": {"aggregation": "sequence"},
    "dpo": {"aggregation": "sequence"},
    "pass_at_k": {"advantage": {"name": "pass_at_k", "k": 2}},
    "gae": {"critic": {"lr": 3e-4}},
    # Imitation of rewarded responses; with an advantage that can be negative its loss has no bound from below.
    "sft": {"advantage": "reward"},
    "reward_weighted_sft": {"advantage": "grpo"},
    "luffy": {"hybrid": {}},
    # Imitates whatever was sampled: the control that should not gain.
    "ones": {},
}
#: AdamW's settings, but for the rate.
OPTIMIZER = {"betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 3}
#: Objectives that hold the policy near that of the rollout, which takes more than one update per rollout to see. A step
#: of AdamW is as long as its rate says, so that four go as far as one does at four times the rate.
CLIPPING = ("ppo_clip", "gspo", "gspo_token", "gmpo", "cispo", "sapo", "reg_grpo")
SEVERAL = {"mini_batches": 2, "ppo_epochs": 2, "optimizer": {"lr": 1.5e-4, **OPTIMIZER}}
QUICK = ("advantage grpo", "advantage rloo", "objective cispo")
#: How offline members of groups are trained on (``off_policy``).
TREATMENTS = ("sft", "none", "luffy")
#: A question kind that the warm start has unlearned: where something is in a picture, as a box.
HARD = "box"


@dataclass(frozen=True, slots=True)
class Size:
    """Budgets: questions, seeds, and steps of a comparison."""

    train: int
    test: int
    seeds: tuple[int, ...]
    steps: int
    prompts: int
    sft_steps: int
    hard_steps: int


FULL = Size(train=512, test=140, seeds=(0, 1), steps=25, prompts=16, sft_steps=40, hard_steps=60)
SMALL = Size(train=256, test=70, seeds=(0,), steps=8, prompts=12, sft_steps=10, hard_steps=30)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: accuracies in [0, 1], the gain and its interval."""

    name: str
    before: float
    after: float
    gain: float
    low: float
    high: float
    seconds: float


def main() -> None:
    """Run the comparisons that were asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a subset that takes about five minutes")
    parser.add_argument("--only", nargs="*", help="names of comparisons, as the table has them")
    parser.add_argument("--work", type=Path, help="directory of worlds, frames and runs; kept, and gone on with")
    given = parser.parse_args()
    check_packages()
    with tempfile.TemporaryDirectory() as own:
        print(json.dumps(measure(given.work or Path(own), quick=given.quick, only=given.only)))


def measure(work: Path, *, quick: bool, only: Sequence[str] | None = None) -> dict[str, Any]:
    """All comparisons, as a table on the way and a mapping at the end."""
    size = SMALL if quick else FULL
    pairs = {f"advantage {name}": {"advantage": name, **SETTINGS.get(name, {})} for name in ADVANTAGES.names()}
    pairs |= {f"objective {name}": {"objective": name, **SETTINGS.get(name, {})} for name in OBJECTIVES.names()}
    pairs |= {
        f"objective {name}, 4 updates": {"objective": name, **SETTINGS.get(name, {}), **SEVERAL} for name in CLIPPING
    }
    hybrids = [f"hybrid, {treatment}" for treatment in TREATMENTS[: 1 if quick else None]]
    others = (*hybrids, "sft then grpo, hasty", "sft then grpo, flawless")
    chosen = only or (*(QUICK if quick else pairs), *others)
    components = _Bench(work, size)
    rows = []
    print(f"{'comparison':48} {'before':>7} {'after':>7} {'gain':>7}  95% interval       s", flush=True)
    for name in chosen:
        if name.startswith("hybrid"):
            rows.append(components.hybrid(name.removeprefix("hybrid, ")))
        elif name in others:
            rows.append(components.sft_then_grpo(hasty=name.endswith("hasty")))
        else:
            rows.append(components.gain(name, [components.rl(**pairs[name])]))
        row = rows[-1]
        numbers = f"{row.before:7.3f} {row.after:7.3f} {row.gain:+7.3f}  [{row.low:+.3f}, {row.high:+.3f}]"
        print(f"{row.name:48} {numbers} {row.seconds:6.0f}", flush=True)
    improved = [row.name for row in rows if row.low > 0]
    return {
        "benchmark": "learning",
        "quick": quick,
        "size": asdict(size),
        "rows": [asdict(row) for row in rows],
        "improved": improved,
        "not_improved": [row.name for row in rows if row.name not in improved],
    }


class _Bench:
    """Worlds and runs below one directory."""

    def __init__(self, work: Path, size: Size) -> None:
        self.work = work
        self.size = size
        self.checkpoint = write_warm_start(work / "warm-start")

    def rl(self, **options: Any) -> dict[str, Any]:
        """A stage of reinforcement learning with this benchmark's budget."""
        return {
            "name": "rl",
            "steps": self.size.steps,
            "prompts_per_step": self.size.prompts,
            "group_size": 8,
            "save_every": 1000,
            "keep_checkpoints": 1,
            "optimizer": {"lr": 5e-4, **OPTIMIZER},
            **options,
        }

    def sft(self, steps: int, **options: Any) -> dict[str, Any]:
        """A supervised stage."""
        supervised = {"trajectories": "offline", "advantage": "ones", "objective": "sft"}
        return self.rl(**supervised, name="sft", steps=steps, **options)

    def gain(self, name: str, stages: Sequence[Mapping[str, Any]], kinds: Sequence[str] = KINDS) -> Row:
        """The last stage's checkpoint against the warm start, on the same questions."""
        begun = time.monotonic()
        runs = [self._run(name, stages, kinds, seed) for seed in self.size.seeds]
        before = [found for run in runs for found in self._answers(run, "before")]
        last = f"{len(stages):02d}-{stages[-1]['name']}"
        after = [found for run in runs for found in self._answers(run, last)]
        return _compare(name, before, after, time.monotonic() - begun)

    def hybrid(self, treatment: str) -> Row:
        """A hybrid stage against an on-policy one of the same budget, where the warm start hardly ever succeeds."""
        begun = time.monotonic()
        steps = {"steps": self.size.hard_steps}
        mixed = self.rl(**steps, hybrid={"policy": "replace-last", "responses": 4}, off_policy=treatment)
        both = []
        for name, stage in (("on-policy", self.rl(**steps)), (f"hybrid {treatment}", mixed)):
            runs = [self._run(f"hard {name}", [stage], (HARD,), seed) for seed in self.size.seeds]
            both.append([found for run in runs for found in self._answers(run, "01-rl")])
        return _compare(f"hybrid ({treatment}) over on-policy, boxes", both[0], both[1], time.monotonic() - begun)

    def sft_then_grpo(self, *, hasty: bool) -> Row:
        """SFT and then GRPO against SFT of as many steps, on the rows' traces or on what ``hurry`` makes of them."""
        begun, size = time.monotonic(), self.size
        seen = {"transforms": ["easyvideor1.recipes.toy:hurry"]} if hasty else {}
        plans = ([self.sft(size.sft_steps + size.steps, **seen)], [self.sft(size.sft_steps, **seen), self.rl()])
        quality = "hasty" if hasty else "flawless"
        both = []
        for stages in plans:
            name = f"{quality} {' then '.join(str(stage['name']) for stage in stages)}"
            runs = [self._run(name, stages, KINDS, seed) for seed in size.seeds]
            last = f"{len(stages):02d}-{stages[-1]['name']}"
            both.append([found for run in runs for found in self._answers(run, last)])
        return _compare(f"sft then grpo over sft, {quality} demonstrations", both[0], both[1], time.monotonic() - begun)

    def _run(self, name: str, stages: Sequence[Mapping[str, Any]], kinds: Sequence[str], seed: int) -> Path:
        """The run directory, done."""
        place = self.work / ("hard" if tuple(kinds) == (HARD,) else "world")
        world = place / str(seed)
        size = self.size
        spec = WorldSpec(
            seed=seed + 50,
            train=size.train,
            validation=0,
            test=size.test,
            kinds=tuple(kinds),
            bodies=(1, 1),
            image_share=1.0 if tuple(kinds) == (HARD,) else 0.0,  # boxes are asked of pictures
            bare_share=0.0,
        )
        write_world(spec, world)
        budget = {"min_pixels": 4096, "max_pixels": 4096}
        config = RunConfig.model_validate(
            {
                "name": f"{name}-{seed}".replace(" ", "-").replace(",", ""),
                "output_dir": str(self.work / "runs" / "{name}"),
                "seed": seed,
                "threads": 1,
                "model": {"path": str(self.checkpoint)},
                "data": {
                    "train": [{"path": str(world / "train.jsonl")}],
                    "test": [{"path": str(world / "test.jsonl")}],
                    "video": {"rule": "uniform", "frames": 8, **budget},
                    "image": budget,
                },
                "cache": {"dir": str(self.work / "frames"), "workers": 1},
                "rollout": {"max_new_tokens": 64},
                "stages": list(stages),
                "evaluation": {"samples": 0},
            }
        )
        with (self.work / "log.txt").open("a") as log:
            train_and_report(config, Console(file=log, width=160))
        return self.work / "runs" / config.name

    @staticmethod
    def _answers(run: Path, name: str) -> list[tuple[str, str, float]]:
        """``(question, clip, accuracy)`` of the greedy answers of an evaluation."""
        lines = (run / "evaluations" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        world = run.name.rsplit("-", 1)[-1]
        return [
            (f"{world}/{row['sample']}", row["media"][0]["path"], row["greedy"]["score"]["accuracy"]) for row in rows
        ]


def _compare(
    name: str, first: Sequence[tuple[str, str, float]], second: Sequence[tuple[str, str, float]], seconds: float
) -> Row:
    if [question for question, _, _ in first] != [question for question, _, _ in second]:
        raise RuntimeError(f"{name}: the two sides answered different questions")
    old, new = ([accuracy for _, _, accuracy in side] for side in (first, second))
    gain = difference_interval(old, new, [clip for _, clip, _ in first])
    return Row(name, sum(old) / len(old), sum(new) / len(new), gain.mean, gain.low, gain.high, seconds)


if __name__ == "__main__":
    main()
