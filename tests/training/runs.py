"""Small worlds, small runs, and what a user's own module may look like."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from easyvideor1.cli.train import train_and_report
from easyvideor1.config import RunConfig

#: Files of a run that hold times, or are drawn from such.
CLOCKS = {"run.json", "summary.json", "timings.jsonl", "trace.json", "report.html", "curves.png"}

#: What a user puts beside the configuration: a reward that differs between any two responses, and the rest.
OWN_PARTS = '''
from dataclasses import replace

import torch

from easyvideor1.types import Score


def vowels(sample, response):
    """Share of vowels: even an untrained model differs in it from response to response."""
    share = sum(letter in "aeiou" for letter in response) / max(len(response), 1)
    return Score(share, 0.0, share, parsed=response[:3])


def never(sample, response):
    return None


def same(sample, response):
    return Score(0.5, 0.5, 0.5)


def centred(rewards_N, group_N):
    return rewards_N - rewards_N.mean()


def noisy(batch, options):
    """Draws: a resumed run has to draw the same."""
    noise = 1 + 0.1 * torch.rand_like(batch.logprobs)
    return -batch.mean(noise * batch.advantages * batch.logprobs), {"own/noise": batch.mean(noise)}


def shout(sample, step, rng):
    return [replace(sample, question=sample.question + "!" * int(rng.integers(1, 4)))]
'''


#: Two turns; that of ``[row 0]`` cannot be asked: as the strategy says, or because it is too long.
OWN_TURNS = """
from easyvideor1.rollout.strategies import SecondLook
from easyvideor1.types import DataError


class Looking(SecondLook):
    def next(self, sample, trajectory):
        if len(trajectory.turns) > 1:
            return None
        return self.asked(trajectory, self.CHECK)

    def asked(self, trajectory, text):
        last = trajectory.last
        return self.prompts.family.extend(last.prompt.followed_by(last.response_ids), text, (), ())


class Failing(Looking):
    def next(self, sample, trajectory):
        if "[row 0]" in sample.question:
            raise DataError("no such clip")
        return super().next(sample, trajectory)


class Long(Looking):
    def next(self, sample, trajectory):
        if "[row 0]" in sample.question:
            return self.asked(trajectory, self.CHECK * 400)
        return super().next(sample, trajectory)
"""


class World:
    """A toy world, a checkpoint that knows its words, and a directory for frames; all are read only."""

    def __init__(self, home: Path) -> None:
        from easyvideor1.config import DataConfig, PromptConfig, SourceConfig
        from easyvideor1.data import load_source, prompt_text
        from easyvideor1.families.tiny import write_tiny_checkpoint
        from easyvideor1.toyworld import WorldSpec, write_world

        self.home = home
        spec = WorldSpec(train=12, validation=4, test=4, kinds=("mc_direction", "yes_colour", "box"), bare_share=0.0)
        write_world(spec, home / "world")
        loaded = load_source(SourceConfig(path=self.rows("train")), DataConfig())
        corpus = [prompt_text(sample, PromptConfig()) + sample.offline[0].text for sample in loaded.samples]
        self.checkpoint = home / "tiny"
        write_tiny_checkpoint(
            self.checkpoint, [*corpus, "<0.5 seconds>" * 9], width=64, layers=2, vision_layers=1, vocabulary=700
        )

    def rows(self, split: str) -> str:
        return str(self.home / "world" / f"{split}.jsonl")

    def read(self, split: str = "train") -> list[dict[str, Any]]:
        """The rows of a split, media by absolute path so that they may be written anywhere."""
        root = self.home / "world"
        rows = [json.loads(line) for line in Path(self.rows(split)).read_text().splitlines()]
        return [
            {**row, **{key: [str(root / path) for path in row[key]] for key in ("images", "videos")}} for row in rows
        ]

    def values(self, **changes: Any) -> dict[str, Any]:
        """A configuration of two short stages as plain values; ``a__b`` changes ``a.b``."""
        sft = {
            "name": "sft",
            "trajectories": "offline",
            "advantage": "ones",
            "objective": "sft",
            "steps": 3,
            "prompts_per_step": 2,
            "save_every": 1,
            "keep_checkpoints": 3,
            "optimizer": {"lr": 1e-3},
        }
        grpo = {
            "name": "grpo",
            "steps": 4,
            "prompts_per_step": 2,
            "group_size": 3,
            "save_every": 2,
            "kl": "k3",
            "optimizer": {"lr": 1e-3, "warmup_steps": 1, "schedule": "cosine"},
        }
        values: dict[str, Any] = {
            "name": "small",
            "seed": 7,
            "threads": 1,
            "model": {"path": str(self.checkpoint)},
            "data": {split: [{"path": self.rows(split)}] for split in ("train", "validation", "test")},
            "cache": {"dir": str(self.home / "frames"), "workers": 1},
            "rewards": {"custom": {"*": "own_parts:vowels"}},
            "rollout": {"max_new_tokens": 48},  # as many as the offline answers have
            "stages": [sft, grpo],
            "evaluation": {"every": 2, "samples": 1},
        }
        values["data"]["video"] = {"rule": "uniform", "frames": 4, "min_pixels": 4096, "max_pixels": 4096}
        values["data"]["image"] = {"min_pixels": 4096, "max_pixels": 4096}
        for key, value in changes.items():
            *sections, last = key.split("__")
            at: Any = values
            for section in sections:
                at = at[int(section)] if isinstance(at, list) else at.setdefault(section, {})
            at[last] = value
        return values

    def config(self, **changes: Any) -> RunConfig:
        return RunConfig.model_validate(self.values(**changes))

    def short(self, **changes: Any) -> RunConfig:
        """One short stage of reinforcement learning and no evaluation."""
        values = self.values()
        stage = {**values["stages"][1], "name": "rl", "steps": 2, "save_every": 50, "kl": "none"}
        only_train = {**values["data"], "validation": [], "test": []}
        return self.config(**{"stages": [stage], "data": only_train, "evaluation__every": 0, **changes})


def train(config: RunConfig) -> tuple[dict[str, Any], str]:
    """Run as ``evr1 train`` does; returns the summary and what was shown."""
    shown = io.StringIO()
    summary = train_and_report(config, Console(file=shown, width=200))
    return summary, shown.getvalue()


def write_rows(path: Path, rows: list[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def lasting(run_dir: Path) -> dict[str, bytes]:
    """Everything of a run that must not depend on how often it was interrupted, by the names of the files."""
    files = (path for path in sorted(run_dir.rglob("*")) if path.is_file() and path.name not in CLOCKS)
    return {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in files}


def differing(run_dir: Path, other: Path) -> list[str]:
    """Names of such files that differ between two runs, or that one of them lacks."""
    one, two = lasting(run_dir), lasting(other)
    return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def copy_run(run_dir: Path, place: Path) -> Path:
    target = place / "runs" / run_dir.name
    shutil.copytree(run_dir, target)
    return target
