"""The recipe of VideoHallu: its released rows, and toy clips in which something impossible happens."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.data.bad_rows import RowError
from easyvideor1.files import write_text
from easyvideor1.toyworld.encode import write_video
from easyvideor1.toyworld.scene import COLOURS, SHAPES, Body, Scene, frame_times, paint

#: What can be impossible; each has clips that show it and, beside every one of them, one that does not.
KINDS = ("teleport", "colour_flip", "gravity_reversed")
#: Pairs of clips of each split.
PAIRS = {"train": 192, "test": 60}

_SIZE, _SECONDS, _FPS = 64, 2.0, 4.0
_QUESTION = "<video>\nDoes something impossible happen?"


def published_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of VideoHallu's training files as one of ours, for ``format`` of a source.

    Identifiers get a part of their own, since ``synthetic_data_split.json`` gives one to many rows.

    Raises:
        RowError: the row has no question (424 of the 1,000 rows of ``physbench_train_split.json``), or no reference.
    """
    name = f"{row['data_source']}-{int(row['problem_id'])}"
    for column in ("problem", "solution"):
        if not str(row.get(column) or "").strip():
            raise RowError(column, f"of the row {name} is missing", "leave the row out, or ask its authors")
    own = hashlib.sha256(json.dumps([row["path"], row["problem"], row["solution"]]).encode()).hexdigest()[:8]
    return {
        "problem_id": f"{name}-{own}",
        "problem": row["problem"],
        "answer": row["solution"],
        "problem_type": "open-ended",
        "videos": [row["path"]],
        "data_source": row["data_source"],
    }


def write_impossible_clips(root: Path) -> None:
    """Write ``impossible/{train,test}.jsonl`` and the clips that they name.

    Each impossible clip has a negative control: the same shape on the same way, with nothing impossible in it.
    """
    for split, pairs in PAIRS.items():
        media = root / "impossible" / "media" / split
        media.mkdir(parents=True, exist_ok=True)
        rows = []
        for pair in range(pairs):
            rng = random.Random(f"videohallu/{split}/{pair}")
            kind = KINDS[pair % len(KINDS)]
            drawn = draw_clip(rng, kind)
            for impossible in (True, False):
                file = media / f"{pair:04d}-{'impossible' if impossible else 'control'}.mp4"
                # Also where a clip is there: it may be of an earlier version, which the rows would not fit.
                write_video(file, frames(drawn, kind, impossible=impossible), fps=_FPS)
                rows.append(_row(file, split, pair, kind, impossible=impossible))
        rng = random.Random(f"videohallu/{split}")
        rng.shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(root / "impossible" / f"{split}.jsonl", text)


def _row(file: Path, split: str, pair: int, kind: str, *, impossible: bool) -> dict[str, Any]:
    return {
        "problem_id": f"{split}-{file.stem}",
        "problem": _QUESTION,
        "answer": "Yes" if impossible else "No",
        "problem_type": "boolean",
        "data_type": "video",
        "videos": [f"media/{split}/{file.name}"],
        "images": [],
        "options": [],
        "data_source": kind,
        "pair": pair,
    }


def draw_clip(rng: random.Random, kind: str) -> dict[str, Any]:
    """What a pair of clips has in common: shape, colours, size, way, and when something happens."""
    first, second = rng.sample(list(COLOURS), 2)
    size = rng.uniform(14.0, 20.0)
    room = _SIZE - size - 2
    ways = {"along": rng.uniform(0.3, 0.45) * room, "side": rng.uniform(0.0, 0.35) * room}
    return {
        "shape": rng.choice(SHAPES),
        "colours": (first, second),
        "size": size,
        "low": size / 2 + 1,
        "room": room,
        "across": rng.random() < 0.5,
        **ways,
        "moment": rng.choice([3, 4, 5]),
    }


def body_at(clip: Mapping[str, Any], kind: str, number: int, *, impossible: bool) -> Body:
    """The shape on frame ``number`` of a clip; coordinates are pixels of the picture.

    ``teleport``: it jumps to the other side of the picture. ``colour_flip``: it has another colour from one frame on.
    ``gravity_reversed``: it falls up, faster and faster, where its control falls down.
    """
    frames_of_clip = round(_SECONDS * _FPS)
    share, later = number / (frames_of_clip - 1), number >= clip["moment"]
    along, side = clip["along"] * share, clip["side"]
    colour = clip["colours"][1 if kind == "colour_flip" and impossible and later else 0]
    if kind == "gravity_reversed":
        fallen = clip["room"] * share**2
        x, y = side, clip["room"] - fallen if impossible else fallen
    else:
        if kind == "teleport" and impossible and later:
            side = clip["room"] - side
        x, y = (along, side) if clip["across"] else (side, along)
    low = clip["low"]
    return Body(clip["shape"], colour, clip["size"], low + x, low + y)


def frames(clip: Mapping[str, Any], kind: str, *, impossible: bool) -> Iterator[NDArray[np.uint8]]:
    """The frames of a clip, uint8 RGB ``(H, W, 3)``."""
    for number in range(round(_SECONDS * _FPS)):
        body = body_at(clip, kind, number, impossible=impossible)
        yield paint(Scene(_SIZE, _SIZE, _SECONDS, _FPS, frame_times(_SECONDS, _FPS), (body,)), 0.0)
