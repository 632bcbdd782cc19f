"""The toy stream of VST's recipe: what a question is about is gone when the question comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from easyvideor1.files import json_bytes, write_atomic
from easyvideor1.toyworld.encode import Encoding, write_video
from easyvideor1.toyworld.questions import Decks, article
from easyvideor1.toyworld.scene import COLOURS, SHAPES, Body, Scene, frame_times, paint_all

#: Pixels of a side, seconds of a clip of the stream, clips, and frames a second.
SIDE, CLIP, CLIPS, RATE = 64, 1.0, 2, 4.0

#: Rows of each split.
ROWS = {"train": 384, "test": 160}

#: Share of the notes of traces that name the colour.
TELLING = 0.35


def write_stream(root: Path) -> None:
    """Write ``stream/train.jsonl``, ``stream/test.jsonl`` and ``stream/train-last.jsonl``, with their videos."""
    seen: set[Scene] = set()
    for split in ROWS:
        rows, last = [], []
        for number, scene in enumerate(scenes(split, seen)):
            path = root / "stream" / "media" / f"{split}_{number:04d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Also where a clip is there: it may be of an earlier version, which the rows would not fit.
            write_video(path, paint_all(scene), fps=RATE, timestamps=None, encoding=Encoding(None, 18, 12, 0, 0))
            rows.append(row(split, number, scene))
            last.append(last_row(split, number, scene))
        if split == "train":
            write_atomic(root / "stream" / "train-last.jsonl", b"".join(map(json_bytes, last)))
        write_atomic(root / "stream" / f"{split}.jsonl", b"".join(map(json_bytes, rows)))


def scenes(split: str, seen: set[Scene]) -> Iterator[Scene]:
    """Streams in which every clip shows one shape, in the middle, each of another colour than the others.

    No scene of ``seen`` comes again.
    """
    decks = Decks(f"vst/{split}")
    rng = random.Random(f"vst/{split}")
    for _ in range(ROWS[split]):
        first = decks.deal("colour", tuple(COLOURS))
        while (scene := _scene(first, rng)) in seen:
            pass
        seen.add(scene)
        yield scene


def _scene(first: str, rng: random.Random) -> Scene:
    colours = [first, *rng.sample([name for name in COLOURS if name != first], CLIPS - 1)]
    bodies = []
    for number, colour in enumerate(colours):
        size = round(rng.uniform(16, 24), 1)
        place = [round(rng.uniform(size / 2 + 1, SIDE - size / 2 - 1), 1) for _ in range(2)]
        body = Body(rng.choice(SHAPES), colour, size, place[0], place[1])
        bodies.append(replace(body, appears=number * CLIP, disappears=(number + 1) * CLIP))
    seconds = CLIPS * CLIP
    return Scene(SIDE, SIDE, seconds, RATE, frame_times(seconds, RATE), tuple(bodies))


def row(split: str, number: int, scene: Scene) -> dict[str, Any]:
    """The question about the first shape of a stream, with a trace of notes and answer.

    Most notes of the traces leave out the colour, as notes of somebody do who does not know the question: the form can
    be learnt from them, and what is worth a note only from the reward of the answer.
    """
    rng = random.Random(f"vst/{split}/{number}")
    notes = [
        f"I see {article(body)}." if rng.random() < TELLING else f"I see a {body.shape}." for body in scene.bodies[:-1]
    ]
    return _asked(split, number, scene, {"text": _answer(scene.subject.shape, scene), "before": notes})


def last_row(split: str, number: int, scene: Scene) -> dict[str, Any]:
    """The same question about the last clip alone, for the baseline: its trace can only guess."""
    return {
        **_asked(split, number, scene, {"text": _answer(scene.bodies[-1].shape, scene)}),
        "start": (CLIPS - 1) * CLIP,
        "end": CLIPS * CLIP,
    }


def _answer(shape: str, scene: Scene) -> str:
    colour = scene.subject.colour
    return f"<think>I see a {shape} and it is {colour}, so the answer is {colour}.</think><answer>{colour}</answer>"


def _asked(split: str, number: int, scene: Scene, trace: dict[str, Any]) -> dict[str, Any]:
    return {
        "problem_id": f"{split}-{number:04d}",
        "problem": "<video>\nWhat colour was the first shape?",
        "answer": scene.subject.colour,
        "problem_type": "video qa",
        "data_type": "video",
        "videos": [f"media/{split}_{number:04d}.mp4"],
        "images": [],
        "options": [],
        "data_source": "toyworld/first_colour",
        "has_offline_trajectory": split == "train",
        "offline_output": trace,
    }
