"""Scene-R1's recipe: rows of two turns with a track and a depth, the reward of each turn, and the lifting of a box."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import json_bytes, write_atomic
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.score import score
from easyvideor1.toyworld.questions import compact, seconds
from easyvideor1.toyworld.scene import BOX_SCALE, Body
from easyvideor1.types import Completion, Sample, Score, Trajectory

#: Pixels of a side of the toy world, and the focal length of its camera in pixels.
SIDE, FOCAL = 64, 64.0

#: Metres to the wall behind the shapes, and the side of every shape: a shape of 16 pixels stands at 4 metres.
WALL, SHAPE = 10.0, 1.0

_TIME = re.compile(r"taken at (\d+\.\d) seconds")


def write_rows(root: Path) -> None:
    """Write ``world/two-turns-train.jsonl`` and ``world/two-turns-test.jsonl`` beside the rows they are made of."""
    world = root / "world"
    lines = (world / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
    scenes = {scene["clip"]: scene for scene in map(json.loads, lines)}
    for split in ("train", "test"):
        rows = map(json.loads, (world / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
        found = [two_turns(row, scenes[row["clip"]]) for row in rows]
        write_atomic(world / f"two-turns-{split}.jsonl", b"".join(map(json_bytes, found)))


def two_turns(row: dict[str, Any], scene: dict[str, Any]) -> dict[str, Any]:
    """A row of the toy world as a question of two turns. Its answer has a box for every frame that shows the shape.

    Its trace has both turns: the span of the row's own trace, and the box in the frame that the strategy then shows.
    Where the shape is gone in that frame, which is the last of a short span, there is no trace.
    """
    body = Body(**scene["bodies"][0])
    boxes = {f"{t:g}": [_scaled(value) for value in body.box_at(t)] for t in scene["times"] if body.visible_at(t)}
    inside = [t for t in scene["times"] if body.appears <= t <= body.disappears]
    box = boxes.get(f"{inside[len(inside) // 2]:g}")
    traced = bool(row.get("offline_output")) and box is not None
    thought = f"I see the {body.name} and I draw a box around it."
    return {
        "problem_id": row["problem_id"],
        "problem": f"<video>\nWhen is the {body.name} visible, and where is it then?",
        "answer": compact({"time": [seconds(body.appears), seconds(body.disappears)], "boxes": boxes}),
        "problem_type": "spatial-temporal grounding",
        "data_type": "video",
        "videos": row["videos"],
        "images": [],
        "options": [],
        "data_source": "toyworld/two_turns",
        "name": body.name,
        "coordinates": "thousand",
        "box_scale": BOX_SCALE,
        "depth": FOCAL * SHAPE / body.size,
        "has_offline_trajectory": traced,
        "offline_output": {
            "before": [row["offline_output"]],
            "text": f"<think>{thought}</think><answer>{compact({'boxes': box})}</answer>",
        }
        if traced
        else "",
    }


def reward(sample: Sample, response: str, trajectory: Trajectory | None = None) -> Score:
    """Temporal IoU of the first turn, box IoU of the second, each with its format; one reward for each turn.

    The box is compared with the track at the moment that the second prompt names. A frame that does not show the shape
    has no box, and earns nothing. ``iou_3d`` is recorded and not rewarded: the IoU of the boxes of points in space that
    the answer and the track are lifted to.
    """
    truth = json.loads(sample.answer)
    if trajectory is None:
        return score("spatial_temporal_grounding", response, truth, **_columns(sample))
    first = trajectory.turns[0]
    span = score("temporal_grounding", first.text, compact({"time": truth["time"]}), finish=first.finish)
    box, lifted = _box(sample, truth["boxes"], trajectory)
    turns = (span.total,) if len(trajectory.turns) == 1 else (span.total, box.total)
    return Score(
        accuracy=(span.accuracy + box.accuracy) / 2,
        format=(span.format + box.format) / 2,
        total=(span.total + box.total) / 2,
        parts={"tiou": span.accuracy, "box_iou": box.accuracy, "iou_3d": lifted},
        parsed=box.parsed,
        turns=turns,
    )


def _box(sample: Sample, boxes: dict[str, list[int]], trajectory: Trajectory) -> tuple[Score, float]:
    """The score of the second turn, and the IoU in space."""
    turn = trajectory.last
    asked = _TIME.findall(turn.prompt.text)
    if len(trajectory.turns) == 1 or not asked:
        return Score(0.0, 0.0, 0.0), 0.0
    moment = float(asked[-1])
    time = min(boxes, key=lambda known: abs(float(known) - moment))
    shown = abs(float(time) - moment) < 0.1  # prompts round times to a tenth of a second
    found = score(
        "spatial_grounding", turn.text, compact({"boxes": boxes[time]}), finish=turn.finish, **_columns(sample)
    )
    if not shown:
        return Score(0.0, found.format, 0.1 * found.format, parsed=found.parsed), 0.0
    said = parse("spatial_grounding", Completion(turn.text, turn.finish)).value
    if not isinstance(said, tuple) or len(said) != 1:
        return found, 0.0
    camera, depth = Camera(FOCAL, SIDE / 2, SIDE / 2), depth_map(boxes[time], float(sample.extra["depth"]))
    clouds = [lift(foreground(one, depth), depth, camera) for one in (said[0], boxes[time])]
    return found, iou_3d(*clouds)


def _columns(sample: Sample) -> dict[str, Any]:
    return {name: sample.extra[name] for name in ("coordinates", "box_scale") if name in sample.extra}


def _scaled(value: float) -> int:
    return min(BOX_SCALE, max(0, round(value / SIDE * BOX_SCALE)))


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole: focal length and principal point in pixels, the camera at the origin, looking along z."""

    focal: float
    x: float
    y: float


def depth_map(box: list[int], metres: float) -> NDArray[np.float64]:
    """Depth of every pixel, ``(H, W)`` in metres: a flat shape in the place of its box, and the wall behind it."""
    depth = np.full((SIDE, SIDE), WALL)
    depth[_inside(box)] = metres
    return depth


def foreground(box: Any, depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask of a box: its pixels that are nearer than the wall, as a segmenter would cut them; all if none is."""
    inside = _inside(box)
    nearer = inside & (depth < WALL)
    return nearer if nearer.any() else inside


def _inside(box: Any) -> NDArray[np.bool_]:
    """Pixels whose centre lies in a box of the scale of answers, ``(H, W)``."""
    x1, y1, x2, y2 = (float(value) / BOX_SCALE * SIDE for value in box)
    centres = np.arange(SIDE) + 0.5
    rows, columns = (y1 <= centres) & (centres < y2), (x1 <= centres) & (centres < x2)
    return rows[:, None] & columns[None, :]


def lift(mask: NDArray[np.bool_], depth: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """Points ``(N, 3)`` in metres of the pixels of a mask: ``z = depth``, ``x = (u - c_x) z / f``, ``y`` alike.

    Hartley and Zisserman 2004, sec. 6.1, inverted; ``(u, v)`` are centres of pixels.
    """
    v, u = np.nonzero(mask)
    z = depth[v, u]
    return np.stack([(u + 0.5 - camera.x) * z / camera.focal, (v + 0.5 - camera.y) * z / camera.focal, z], axis=1)


def iou_3d(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of the upright boxes around two sets of points; each side is at least a millimetre."""
    if not len(one) or not len(other):
        return 0.0
    low = [points.min(axis=0) - 0.0005 for points in (one, other)]
    high = [points.max(axis=0) + 0.0005 for points in (one, other)]
    common = np.prod(np.clip(np.minimum(*high) - np.maximum(*low), 0, None))
    volumes = [float(np.prod(top - bottom)) for bottom, top in zip(low, high, strict=True)]
    return float(common / (sum(volumes) - common))
