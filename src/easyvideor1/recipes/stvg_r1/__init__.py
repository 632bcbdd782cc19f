"""STVG-R1: a question about an object becomes a choice of the number that is painted on it, and of a time range."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from easyvideor1.data.media_transforms import SPAN_COLUMN, reference_spans, tracks_path
from easyvideor1.data.prompts import ANSWER_EXAMPLE, ANSWER_FORM
from easyvideor1.data.transforms import TransformContext
from easyvideor1.files import write_text
from easyvideor1.options import with_options
from easyvideor1.rewards.tags import grammar_of, is_well_formed, last_tag
from easyvideor1.toyworld.scene import Body
from easyvideor1.types import DataError, Sample, Score
from easyvideor1.video.tracks import Box, Track, Tracks, read_tracks, tracks_beside, tracks_file

_ANSWER = re.compile(
    r"\s*Target ID:\s*(\d{1,6}),\s*Time range:\s*(\d{1,6}(?:\.\d+)?)\s+to\s+(\d{1,6}(?:\.\d+)?)\s*", re.IGNORECASE
)
#: Least IoU with the true box that makes a track the one that lies on the target in a frame.
ON_TARGET = 0.5
#: Column with the number of the target, which ``ask_target`` writes.
TARGET = "target_id"


def write_answer(target: int, span: tuple[float, float]) -> str:
    """The answer that the prompt asks for."""
    return f"Target ID: {target}, Time range: {span[0]:g} to {span[1]:g}"


def read_answer(text: str) -> tuple[int, tuple[float, float]] | None:
    """The number and the span of an answer; ``None`` for any other text and for a span that ends before it begins."""
    found = _ANSWER.fullmatch(text)
    if found is None or float(found[2]) > float(found[3]):
        return None
    return int(found[1]), (float(found[2]), float(found[3]))


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return common / (areas - common)


def span_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two spans; 0 where both have no length."""
    common = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    union = (a[1] - a[0]) + (b[1] - b[0]) - common
    return common / union if union > 0 else 0.0


def ids_on_target(tracks: Tracks, truth: Mapping[int, Box]) -> list[int]:
    """The number that lies on the target in each frame in which one does, in order of time."""
    found = []
    for frame in sorted(truth):
        over = [
            (box_iou(track.boxes[frame], truth[frame]), -track.id) for track in tracks.objects if frame in track.boxes
        ]
        if over and max(over)[0] >= ON_TARGET:
            found.append(-max(over)[1])
    return found


def majority_id(tracks: Tracks, truth: Mapping[int, Box]) -> tuple[int | None, int]:
    """The number that lies on the target in most frames (of equals the lowest), and how often the number changes there.

    ``None`` where no track ever lies on the target.
    """
    ids = ids_on_target(tracks, truth)
    counts = Counter(ids)
    switches = sum(one != other for one, other in pairwise(ids))
    return (min(counts, key=lambda number: (-counts[number], number)) if ids else None), switches


def v_iou(
    tracks: Tracks, target: int, span: tuple[float, float], truth: Mapping[int, Box], true_span: tuple[float, float]
) -> float:
    """``1 / |S_u| sum over S_i of IoU(b, b*)``: the boxes of a number against the true ones (Zhang et al. 2020, vIoU).

    ``S_u`` are the frames in either span (its end is not in it) and ``S_i`` those in both. A frame without a box on
    either side counts 0.

    Raises:
        DataError: the tracks do not say the frame rate.
    """
    if tracks.fps is None:
        raise DataError("the tracks have no fps - write the frame rate of the video into tracks.json")
    frames = {
        name: {frame for frame in range(tracks.frames) if start <= frame / tracks.fps < end}
        for name, (start, end) in (("own", span), ("true", true_span))
    }
    union = frames["own"] | frames["true"]
    track = tracks.of(target)
    boxes = {} if track is None else track.boxes
    common = [frame for frame in frames["own"] & frames["true"] if frame in boxes and frame in truth]
    return sum(box_iou(boxes[frame], truth[frame]) for frame in common) / len(union) if union else 0.0


class AskOptions(BaseModel):
    """Columns that ``ask_target`` reads."""

    model_config = ConfigDict(extra="forbid")

    tracks: str = ""
    """As in the transform ``overlay_ids``."""
    boxes: str = "target_boxes"
    """Column with the true boxes of the target by the index of the frame, as in ``tracks.json``."""


@with_options(AskOptions)
def ask_target(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Ask for number and time range. The number is that of the track that lies on the target in most frames.

    Raises:
        DataError: the row lacks a column, its tracks cannot be read, or none of them lies on the target.
    """
    options: AskOptions = context.options
    video = next((ref for ref in sample.media if ref.kind == "video"), None)
    if video is None:
        raise DataError("it has no video - STVG-R1 asks about videos")
    tracks = read_tracks(tracks_file(tracks_path(sample, video, options.tracks)))
    target, switches = majority_id(tracks, true_boxes(sample, options.boxes))
    if target is None:
        raise DataError(f"no track of {tracks_path(sample, video, options.tracks)} lies on the target - track it again")
    (span, *_) = reference_spans(sample)
    extra = {
        **sample.extra,
        TARGET: target,
        "id_switches": switches,
        SPAN_COLUMN: [*span],
        ANSWER_FORM: "the number on the target and the seconds in which it is visible",
        ANSWER_EXAMPLE: write_answer(3, (2.5, 7)),
    }
    question = f"{sample.question}\nEvery object has a number on it. Which is the target, and when is it visible?"
    return [replace(sample, question=question, answer=write_answer(target, span), extra=extra)]


def true_boxes(sample: Sample, column: str = "target_boxes") -> dict[int, Box]:
    """The true boxes of the target of a row.

    Raises:
        DataError: the column does not hold boxes.
    """
    given: Any = sample.extra.get(column)
    try:
        boxes = {int(frame): (float(x1), float(y1), float(x2), float(y2)) for frame, (x1, y1, x2, y2) in given.items()}
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            f'the column {column!r} does not hold boxes by frame - write {{"0": [x1, y1, x2, y2], ...}}'
        ) from None
    return boxes


def reward(sample: Sample, response: str) -> Score:
    """``(r_t + r_s + r_f) / 3``: temporal IoU, 1 for the right number, 1 for the tags and the form that are asked for.

    The parts are ``time_iou``, ``right_id`` and ``v_iou``, whose means over a test set are m_tIoU, the share of right
    numbers, and m_vIoU.
    """
    answer = read_answer(last_tag(response) or "")
    form = float(answer is not None and is_well_formed(response, grammar_of("think-answer")))
    if answer is None:
        return Score(0.0, 0.0, 0.0, {"time_iou": 0.0, "right_id": 0.0, "v_iou": 0.0}, reason="no answer of the form")
    target, span = answer
    (true_span,) = reference_spans(sample)
    time, right = span_iou(span, true_span), float(target == sample.extra[TARGET])
    parts = {"time_iou": time, "right_id": right}
    if (tracks := _painted(sample)) is not None and tracks.fps is not None:
        parts["v_iou"] = v_iou(tracks, target, span, true_boxes(sample), true_span)
    return Score((time + right) / 2, form, (time + right + form) / 3, parts, parsed=write_answer(target, span))


def _painted(sample: Sample) -> Tracks | None:
    """The tracks whose numbers the model sees."""
    files = [effect.files[0] for ref in sample.media for effect in ref.effects if effect.name == "overlay_ids"]
    return read_tracks(files[0]) if files else None


#: Of the toy videos, one in so many has a tracker that takes its target for a new object at some moment.
_SWITCHED = 4


def write_toy(root: Path) -> None:
    """Write tracks beside the videos of ``world``, and ``world/stvg-SPLIT.jsonl``: questions about them."""
    world = root / "world"
    scenes = {line["clip"]: line for line in map(json.loads, (world / "scenes.jsonl").read_text("utf-8").splitlines())}
    rows: dict[str, list[str]] = {}
    for split in ("train", "test"):
        for number, text in enumerate((world / f"{split}.jsonl").read_text("utf-8").splitlines()):
            row = json.loads(text)
            scene, path = scenes[row["clip"]], row["videos"][0]
            rng = np.random.default_rng([27, number, split == "test"])
            tracks, truth = _toy_tracks(scene, rng, switched=number % _SWITCHED == 0)
            write_text(Path(tracks_beside(str(world / path))), json.dumps(tracks))
            rows.setdefault(split, []).append(json.dumps(_toy_row(row, scene, tracks, truth)))
    for split, lines in rows.items():
        write_text(world / f"stvg-{split}.jsonl", "\n".join(lines) + "\n")


def _toy_tracks(
    scene: Mapping[str, Any], rng: np.random.Generator, *, switched: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tracks of a scene with numbers in random order, and the true boxes of its subject."""
    bodies = [Body(**body) for body in scene["bodies"]]
    ids = (rng.permutation(9)[: len(bodies) + 1] + 1).tolist()
    found: dict[int, dict[str, list[float]]] = {}
    for place, body in enumerate(bodies):
        seen = [(index, time) for index, time in enumerate(scene["times"]) if body.visible_at(time)]
        cut = int(rng.integers(1, len(seen))) if switched and place == 0 else len(seen)
        for order, (index, time) in enumerate(seen):
            late = order >= cut
            own = found.setdefault(ids[-1] if late else ids[place], {})
            own[str(index)] = [round(value, 2) for value in body.box_at(time)]
    truth = {
        str(index): [round(value, 2) for value in bodies[0].box_at(time)]
        for index, time in enumerate(scene["times"])
        if bodies[0].visible_at(time)
    }
    objects = [{"id": number, "label": "", "boxes": boxes} for number, boxes in found.items()]
    size = {"width": scene["width"], "height": scene["height"], "frames": len(scene["times"]), "fps": scene["fps"]}
    return {**size, "objects": objects}, truth


def _toy_row(
    row: Mapping[str, Any], scene: Mapping[str, Any], tracks: Mapping[str, Any], truth: Mapping[str, Any]
) -> dict[str, Any]:
    """A row with the columns that a lab's rows have, and a trace for the warm start of the form."""
    subject = Body(**scene["bodies"][0])
    span = json.loads(row["answer"])["time"]
    first = {int(frame): tuple(box) for frame, box in truth.items()}
    target, _ = majority_id(_as_tracks(tracks), first)
    assert target is not None
    thought = f"The {subject.name} has number {target}."
    return {
        **{key: row[key] for key in ("problem_id", "videos", "images", "data_type", "clip")},
        "problem": f"<video>\nThe target is the {subject.name}.",
        "problem_type": "open-ended",
        "answer": f"{span[0]} to {span[1]} seconds",
        SPAN_COLUMN: span,
        "target_boxes": truth,
        "has_offline_trajectory": bool(row["has_offline_trajectory"]),
        "offline_output": f"<think>{thought}</think><answer>{write_answer(target, (span[0], span[1]))}</answer>",
    }


def _as_tracks(value: Mapping[str, Any]) -> Tracks:
    objects = tuple(
        Track(each["id"], each["label"], {int(frame): tuple(box) for frame, box in each["boxes"].items()})
        for each in value["objects"]
    )
    return Tracks(value["width"], value["height"], value["frames"], objects, value["fps"])
