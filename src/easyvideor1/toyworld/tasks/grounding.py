"""Where and when: times in seconds, boxes and points as whole numbers from 0 to 1000 of width and height."""

from __future__ import annotations

import math

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import BOX_SCALE, Body, Scene
from easyvideor1.toyworld.tasks.kind import Question, compact, kind, seconds

_SCALE = f"Coordinates run from 0 to {BOX_SCALE}."
#: The scale of the boxes, as the rewards read it.
_EXTRA = {"coordinates": "thousand", "box_scale": BOX_SCALE}


@kind("temporal", "temporal_grounding", "video", needs=Needs(window=True))
def when(scene: Scene, draw: Draw) -> Question:
    """The span in which the subject is visible."""
    body = scene.subject
    start, end = seconds(body.appears), seconds(body.disappears)
    thought = f"The {body.name} comes into view at {start} and is gone at {end} seconds."
    problem = f"When is the {body.name} visible? Give start and end in seconds."
    return Question(problem, compact({"time": [start, end]}), thought)


@kind("box", "spatial_grounding", "image")
def where(scene: Scene, draw: Draw) -> Question:
    """The box of the subject on an image."""
    body = scene.subject
    answer = compact({"boxes": scene.scaled_box(body, 0.0)})
    thought = f"The {body.name} is at the {_place(scene, body)} of the picture, I draw a box around it."
    return Question(f"Give the box of the {body.name}. {_SCALE}", answer, thought, extra=_EXTRA)


@kind("tube", "spatial_temporal_grounding", "video", needs=Needs(window=True))
def when_and_where(scene: Scene, draw: Draw) -> Question:
    """The span in which the subject is visible and its box at every whole second that shows it."""
    body = scene.subject
    whole = [second for second in range(math.ceil(scene.seconds)) if body.visible_at(second)]
    answer = {
        "time": [seconds(body.appears), seconds(body.disappears)],
        "boxes": {str(second): scene.scaled_box(body, float(second)) for second in whole},
    }
    problem = f"When is the {body.name} visible, and where is it at each whole second of that time? {_SCALE}"
    thought = f"The {body.name} comes into view, goes {body.motion} and then is gone again."
    return Question(problem, compact(answer), thought, extra=_EXTRA)


@kind("track", "tracking", "video")
def track(scene: Scene, draw: Draw) -> Question:
    """The box of the subject at every whole second that has a frame."""
    body = scene.subject
    whole = [second for second in range(math.ceil(scene.seconds)) if body.visible_at(second)]
    answer = {"boxes": {str(second): scene.scaled_box(body, float(second)) for second in whole}}
    problem = f"Track the {body.name}: one box at each of the seconds {', '.join(map(str, whole))}. {_SCALE}"
    thought = f"The {body.name} goes {body.motion}, so its box goes {body.motion} second by second."
    return Question(problem, compact(answer), thought, extra=_EXTRA)


@kind("segment", "segmentation", "image")
def segment(scene: Scene, draw: Draw) -> Question:
    """Box, three points on the subject and three points off it."""
    body = scene.subject
    answer = {
        "boxes": scene.scaled_box(body, 0.0),
        "positive_points": [scene.scaled_point(*point) for point in _points_on(body, draw)],
        "negative_points": [scene.scaled_point(*point) for point in _points_off(scene, draw)],
    }
    problem = f"Segment the {body.name}: its box, 3 points on it and 3 points off it. {_SCALE}"
    thought = f"The {body.name} is at the {_place(scene, body)}, I mark it and the ground around it."
    return Question(problem, compact(answer), thought, extra=_EXTRA)


def _place(scene: Scene, body: Body) -> str:
    x, y = body.centre_at(0.0)
    return f"{'top' if y < scene.height / 2 else 'bottom'} {'left' if x < scene.width / 2 else 'right'}"


def _points_on(body: Body, draw: Draw) -> list[tuple[float, float]]:
    """Three points well inside: around a point that lies inside every shape, closer than any edge."""
    x, y = body.centre_at(0.0)
    middle = y + (body.size / 6 if body.shape == "triangle" else 0.0)  # a triangle's centroid is below its box's centre
    turn = draw.rng.uniform(0, 2 * math.pi)
    angles = [turn + index * 2 * math.pi / 3 for index in range(3)]
    return [(x + body.size / 6 * math.cos(angle), middle + body.size / 6 * math.sin(angle)) for angle in angles]


def _points_off(scene: Scene, draw: Draw) -> list[tuple[float, float]]:
    """Three points that lie two pixels or more from the box of every shape."""
    found: list[tuple[float, float]] = []
    while len(found) < 3:
        x, y = draw.rng.uniform(0, scene.width), draw.rng.uniform(0, scene.height)
        boxes = [body.box_at(0.0) for body in scene.bodies]
        if all(not (x1 - 2 <= x <= x2 + 2 and y1 - 2 <= y <= y2 + 2) for x1, y1, x2, y2 in boxes):
            found.append((x, y))
    return found
