"""What the quickstart is made of: its world, its warm-start checkpoint, and the hasty traces that one has seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from easyvideor1.files import write_directory
from easyvideor1.toyworld import WorldSpec
from easyvideor1.types import OfflineTrajectory, Sample

#: The shipped checkpoint: a tiny Qwen3-VL after supervised learning, made by ``scripts/make_warm_start.py``.
WARM_START = Path(__file__).parent / "warm_start"

#: Question kinds of the quickstart.
KINDS = ("mc_direction", "mc_colour", "mc_shape", "yes_colour", "yes_direction", "count", "temporal")

#: Share of hasty traces among those of the last warm-start stage.
HASTY_SHARE = 0.7


def quickstart_world(seed: int) -> WorldSpec:
    """The world of ``evr1 quickstart --seed N``: no clip of it was seen by the warm start."""
    return WorldSpec(seed=seed, train=1024, validation=70, test=280, kinds=KINDS, bodies=(1, 1), image_share=0.0)


def all_tasks_world(seed: int) -> WorldSpec:
    """A small world beside it, with clips, images and rows of every task type, to look at and to try things on."""
    return WorldSpec(seed=seed, train=130, validation=26, test=26, image_format=".jpg")


def warm_start_worlds() -> dict[str, WorldSpec]:
    """The worlds that the warm start was trained on, by directory.

    The first has images and boxes, and two questions a clip: much to look at. The second is like the quickstart's.
    """
    kinds = (*KINDS, "box")
    return {
        "see": WorldSpec(
            seed=1000, train=4000, validation=0, test=120, questions_per_clip=2, kinds=kinds, bodies=(1, 1)
        ),
        "answer": WorldSpec(seed=1001, train=6000, validation=0, test=240, kinds=KINDS, bodies=(1, 1), image_share=0.0),
    }


def write_warm_start(out: Path) -> Path:
    """Copy the shipped checkpoint to ``out`` unless it is there already, and return ``out``."""

    def copy(directory: Path) -> None:
        for file in sorted(WARM_START.iterdir()):
            shutil.copyfile(file, directory / file.name)

    if not (out / "config.json").exists():
        write_directory(out, copy)
    return out


def _guess_time(rng: np.random.Generator) -> str:
    start, end = sorted(0.25 * rng.choice(9, size=2, replace=False))
    return f'{{"time":[{start:g},{end:g}]}}'


#: How somebody in a hurry answers each task type.
_GUESSES: dict[str, Callable[[Sample, np.random.Generator], str]] = {
    "multiple_choice": lambda sample, rng: str(rng.choice([option[0] for option in sample.options])),
    "boolean": lambda sample, rng: str(rng.choice(["Yes", "No"])),
    "numerical": lambda sample, rng: str(rng.integers(1, 5)),
    "temporal_grounding": lambda sample, rng: _guess_time(rng),
}


def hurry(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    """Sample transform: most reasoning traces become a guess, as any large pool of demonstrations has them."""
    guess = _GUESSES.get(sample.task)
    if guess is None or rng.random() >= HASTY_SHARE:
        return [sample]
    text = f"<think>I just guess.</think><answer>{guess(sample, rng)}</answer>"
    return [replace(sample, offline=(OfflineTrajectory(text),))]
