"""All question kinds, by the form of their answers: importing this module registers them.

Answers are dealt evenly, so that no constant answer beats chance. Times are in seconds; boxes and points are whole
numbers from 0 to 1000 of the width and the height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from easyvideor1.toyworld.questions import KINDS, Draw, Needs, Question, action, article, compact, kind, listed, seconds
from easyvideor1.toyworld.scene import BOX_SCALE, DIRECTIONS, SHAPES, Body, Scene

__all__ = ["KINDS"]


_LETTERS = "ABCD"


def _choose(draw: Draw, problem: str, right: str, classes: Sequence[str], thought: str) -> Question:
    """Four options (fewer if there are fewer classes) in random order; ``thought`` ends before the letter."""
    wrong = [name for name in classes if name != right]
    count = min(len(_LETTERS), len(classes))
    place = _LETTERS.index(draw.even("letter", _LETTERS[:count]))
    names = draw.rng.sample(wrong, count - 1)
    names.insert(place, right)
    options = tuple(f"{letter}. {name}" for letter, name in zip(_LETTERS, names, strict=False))
    return Question(problem, _LETTERS[place], f"{thought} so the answer is {_LETTERS[place]}.", options)


@kind("mc_direction", "multiple_choice", "video", needs=Needs(even=("motion",)))
def direction(scene: Scene, draw: Draw) -> Question:
    """Which way the subject moves."""
    body = scene.subject
    thought = f"The {body.name} goes {body.motion} over the frames,"
    return _choose(draw, f"Which way does the {body.name} move?", body.motion, DIRECTIONS, thought)


@kind("mc_colour", "multiple_choice", "video", "image", needs=Needs(even=("colour",)))
def colour(scene: Scene, draw: Draw) -> Question:
    """The colour of a shape that is named by its form."""
    body = scene.subject
    thought = f"I see a {body.shape} and it is {body.colour},"
    return _choose(draw, f"What colour is the {body.shape}?", body.colour, draw.colours, thought)


@kind("mc_shape", "multiple_choice", "video", "image", needs=Needs(even=("shape",)))
def shape(scene: Scene, draw: Draw) -> Question:
    """The form of a shape that is named by its colour."""
    body = scene.subject
    thought = f"I see something {body.colour} and it is a {body.shape},"
    return _choose(draw, f"What shape is {body.colour}?", body.shape, SHAPES, thought)


@kind("mc_moving_colour", "multiple_choice", "video", needs=Needs(even=("colour",), least=2))
def moving_colour(scene: Scene, draw: Draw) -> Question:
    """The colour of a shape that is named by its motion, with another one in the clip."""
    body = scene.subject
    thought = f"The shape that goes {body.motion} is {body.colour},"
    return _choose(draw, f"What colour is the shape moving {body.motion}?", body.colour, draw.colours, thought)


@kind("yes_direction", "boolean", "video", needs=Needs(even=("motion",)))
def moves(scene: Scene, draw: Draw) -> Question:
    """Whether the subject moves a given way."""
    body = scene.subject
    answer = draw.even("answer", ("Yes", "No"))
    other = draw.rng.choice([way for way in DIRECTIONS if way != body.motion])
    asked = body.motion if answer == "Yes" else other
    thought = f"The {body.name} goes {body.motion} over the frames, so the answer is {answer}."
    return Question(f"Does the {body.name} move {asked}?", answer, thought)


@kind("yes_colour", "boolean", "video", "image", needs=Needs(even=("colour",)))
def present(scene: Scene, draw: Draw) -> Question:
    """Whether there is a shape of a given colour."""
    body = scene.subject
    answer = draw.even("answer", ("Yes", "No"))
    absent = [name for name in draw.colours if name not in {other.colour for other in scene.bodies}]
    asked = body.colour if answer == "Yes" else draw.rng.choice(absent)
    seen = " and ".join(article(other) for other in scene.bodies[:2])
    thought = f"I look for {asked} and I see {seen}, so the answer is {answer}."
    return Question(f"Is there a {asked} shape?", answer, thought)


@kind("count", "numerical", "video", "image", needs=Needs(counted=True))
def count(scene: Scene, draw: Draw) -> Question:
    """How many shapes there are, one to four."""
    answer = str(len(scene.bodies))
    names = ", ".join(body.colour for body in scene.bodies)
    return Question(
        "How many shapes are there?", answer, f"I count the shapes one by one: {names}, that makes {answer}."
    )


@kind("distance", "regression", "video", needs=Needs(even=("motion",), wide=True, whole=True))
def distance(scene: Scene, draw: Draw) -> Question:
    """The way from the first frame to the last in percent of the frame width."""
    body = scene.subject
    answer = f"{100 * body.speed * scene.times[-1] / scene.width:.0f}"
    problem = f"How far does the {body.name} travel from the first to the last frame, in percent of the frame width?"
    return Question(problem, answer, f"The {body.name} goes {body.motion} by about {answer} percent of the width.")


@kind("speed", "regression", "video", needs=Needs(even=("motion",), wide=True))
def speed(scene: Scene, draw: Draw) -> Question:
    """Speed in percent of the frame width per second."""
    body = scene.subject
    answer = f"{100 * body.speed / scene.width:.0f}"
    problem = f"How fast does the {body.name} move, in percent of the frame width per second?"
    return Question(
        problem, answer, f"In one second the {body.name} goes {body.motion} by {answer} percent of the width."
    )


@kind("math_product", "math", "video", "image", needs=Needs(counted=True))
def product(scene: Scene, draw: Draw) -> Question:
    """A multiple of the number of shapes."""
    shapes, factor = len(scene.bodies), draw.even("factor", (2, 3, 5, 7))
    problem = f"Let $n$ be the number of shapes. What is ${factor}n$?"
    thought = f"I count {shapes} shapes, so n is {shapes} and the product is {factor * shapes}."
    return Question(problem, str(factor * shapes), thought)


@kind("math_fraction", "math", "video", "image", needs=Needs(counted=True))
def fraction(scene: Scene, draw: Draw) -> Question:
    """A fraction in lowest terms, written in LaTeX."""
    shapes, below = len(scene.bodies), draw.even("below", (5, 7, 11))  # primes above any count: lowest terms
    problem = f"Let $n$ be the number of shapes. What is $\\frac{{n}}{{{below}}}$? Answer in LaTeX."
    thought = f"I count {shapes} shapes, so n is {shapes} and I divide it by {below}."
    return Question(problem, f"\\frac{{{shapes}}}{{{below}}}", thought)


@kind("math_text", "math", "text")
def text_only(scene: Scene, draw: Draw) -> Question:
    """Arithmetic without any media."""
    pace, time = draw.even("pace", (2, 3, 4, 5)), draw.even("time", (3, 4, 6, 7))
    problem = f"A shape moves {pace} cells each second. How many cells does it move in {time} seconds?"
    thought = f"It moves {pace} cells each second for {time} seconds, that makes {pace * time}."
    return Question(problem, str(pace * time), thought)


def sentence(scene: Scene) -> str:
    """One sentence that says everything: shapes, colours and motions."""
    text = listed([f"{article(body)} {action(body)}" for body in scene.bodies])
    return f"{text[0].upper()}{text[1:]}."


@kind("open", "open_ended", "video", needs=Needs(even=("motion",)))
def happens(scene: Scene, draw: Draw) -> Question:
    """What the subject does, in a sentence."""
    body = scene.subject
    thought = f"I follow the {body.name} over the frames and it {action(body)}."
    return Question(f"What does the {body.name} do?", f"The {body.name} {action(body)}.", thought)


@kind("video_qa", "video_qa", "video", needs=Needs(even=("motion", "colour")))
def which(scene: Scene, draw: Draw) -> Question:
    """Which shape moves a given way."""
    body = scene.subject
    thought = f"I look for what goes {body.motion} and that is the {body.name}."
    return Question(f"Which shape moves {body.motion}?", f"The {body.name}.", thought)


@kind("describe", "description", "video")
def describe(scene: Scene, draw: Draw) -> Question:
    """The whole clip in one sentence."""
    seen = listed([article(body) for body in scene.bodies])
    thought = f"In the video I see {seen}, and I say what happens."
    return Question("Describe the video.", sentence(scene), thought)


@kind("read_word", "ocr", "image", "video", needs=Needs(word=True))
def read_word(scene: Scene, draw: Draw) -> Question:
    """A short word that is drawn in the picture."""
    if scene.label is None:
        raise AssertionError("a reading question was asked of a scene without a word")
    thought = f"There are {len(scene.label.text)} white letters and they read {scene.label.text}."
    return Question("Which word is written?", scene.label.text, thought)


@kind("prefer", "preference", "video", needs=Needs(even=("motion", "colour")))
def prefer(scene: Scene, draw: Draw) -> Question:
    """Two descriptions that differ in one word: one is true, or both are equally wrong.

    A tie of two equal sentences could be told without looking; two wrong ones cannot.
    """
    body = scene.subject
    answer = draw.even("answer", ("1", "2", "tie"))
    wrong = _mistaken(scene, body, draw)
    first, second = {"1": (body, wrong[0]), "2": (wrong[0], body), "tie": wrong}[answer]
    verdict = "both responses are wrong" if answer == "tie" else f"only response {answer} says so"
    problem = (
        "Which response describes the video better? Answer 1, 2 or tie.\n"
        f"Response 1: {article(first).capitalize()} {action(first)}.\n"
        f"Response 2: {article(second).capitalize()} {action(second)}."
    )
    return Question(problem, answer, f"I see {article(body)} that {action(body)}, and {verdict}.")


def _mistaken(scene: Scene, body: Body, draw: Draw) -> tuple[Body, Body]:
    """The subject with two wrong colours or two wrong motions; no body of the scene fits either."""
    present = {other.colour for other in scene.bodies}
    absent = [name for name in draw.colours if name not in present]
    if len(absent) >= 2 and draw.rng.random() < 0.5:
        one, two = draw.rng.sample(absent, 2)
        return replace(body, colour=one), replace(body, colour=two)
    left, right = draw.rng.sample([way for way in DIRECTIONS if way != body.motion], 2)
    return replace(body, motion=left), replace(body, motion=right)


_SCALE_TEXT = f"Coordinates run from 0 to {BOX_SCALE}."
#: The scale of the boxes, as the rewards read it.
_COORDINATES = {"coordinates": "thousand", "box_scale": BOX_SCALE}


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
    return Question(f"Give the box of the {body.name}. {_SCALE_TEXT}", answer, thought, extra=_COORDINATES)


@kind("tube", "spatial_temporal_grounding", "video", needs=Needs(window=True))
def when_and_where(scene: Scene, draw: Draw) -> Question:
    """The span in which the subject is visible and its box at every whole second that shows it."""
    body = scene.subject
    whole = [second for second in range(math.ceil(scene.seconds)) if body.visible_at(second)]
    answer = {
        "time": [seconds(body.appears), seconds(body.disappears)],
        "boxes": {str(second): scene.scaled_box(body, float(second)) for second in whole},
    }
    problem = f"When is the {body.name} visible, and where is it at each whole second of that time? {_SCALE_TEXT}"
    thought = f"The {body.name} comes into view, goes {body.motion} and then is gone again."
    return Question(problem, compact(answer), thought, extra=_COORDINATES)


@kind("track", "tracking", "video")
def track(scene: Scene, draw: Draw) -> Question:
    """The box of the subject at every whole second that has a frame."""
    body = scene.subject
    whole = [second for second in range(math.ceil(scene.seconds)) if body.visible_at(second)]
    answer = {"boxes": {str(second): scene.scaled_box(body, float(second)) for second in whole}}
    problem = f"Track the {body.name}: one box at each of the seconds {', '.join(map(str, whole))}. {_SCALE_TEXT}"
    thought = f"The {body.name} goes {body.motion}, so its box goes {body.motion} second by second."
    return Question(problem, compact(answer), thought, extra=_COORDINATES)


@kind("segment", "segmentation", "image")
def segment(scene: Scene, draw: Draw) -> Question:
    """Box, three points on the subject and three points off it."""
    body = scene.subject
    answer = {
        "boxes": scene.scaled_box(body, 0.0),
        "positive_points": [scene.scaled_point(*point) for point in _points_on(body, draw)],
        "negative_points": [scene.scaled_point(*point) for point in _points_off(scene, draw)],
    }
    problem = f"Segment the {body.name}: its box, 3 points on it and 3 points off it. {_SCALE_TEXT}"
    thought = f"The {body.name} is at the {_place(scene, body)}, I mark it and the ground around it."
    return Question(problem, compact(answer), thought, extra=_COORDINATES)


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


@kind("code_count", "code", "video", "image", needs=Needs(counted=True))
def code_count(scene: Scene, draw: Draw) -> Question:
    """A function that needs the number of shapes."""
    shapes = len(scene.bodies)
    problem = "Write a Python function total(n) that returns n plus the number of shapes."
    tests = [f"assert total({n}) == {n + shapes}" for n in (0, 1, 10, -3)]
    thought = f"I count {shapes} shapes, so the function adds {shapes} to its argument."
    return Question(problem, f"def total(n):\n    return n + {shapes}", thought, extra={"tests": tests})


@kind("code_position", "code", "video", needs=Needs(even=("motion",)))
def code_position(scene: Scene, draw: Draw) -> Question:
    """A function that needs the direction of motion."""
    body = scene.subject
    axis, sign = ("x", body.velocity[0]) if body.motion in ("left", "right") else ("y", body.velocity[1])
    step = "+" if sign > 0 else "-"
    problem = (
        f"The {body.name} moves along one axis; y grows downwards. Write a Python function step(x, y) that returns "
        f"the point (x, y) after moving one unit the same way."
    )
    moved = f"x {step} 1, y" if axis == "x" else f"x, y {step} 1"
    unit = 1 if sign > 0 else -1
    points = [(0, 0), (5, 2), (-1, 7)]
    tests = [f"assert step({x}, {y}) == ({x + unit * (axis == 'x')}, {y + unit * (axis == 'y')})" for x, y in points]
    thought = f"The {body.name} goes {body.motion}, so {axis} changes by {unit} and the rest stays."
    return Question(problem, f"def step(x, y):\n    return {moved}", thought, extra={"tests": tests})


@kind("svg", "svg_code", "image")
def svg(scene: Scene, draw: Draw) -> Question:
    """The picture as SVG."""
    parts = []
    for body in scene.bodies:
        x1, y1, x2, y2 = (round(value) for value in body.box_at(0.0))
        x, y, size = (x1 + x2) // 2, (y1 + y2) // 2, round(body.size)
        if body.shape == "circle":
            parts.append(f'<circle cx="{x}" cy="{y}" r="{size // 2}" fill="{body.colour}"/>')
        elif body.shape == "square":
            parts.append(f'<rect x="{x1}" y="{y1}" width="{size}" height="{size}" fill="{body.colour}"/>')
        else:
            parts.append(f'<polygon points="{x},{y1} {x2},{y2} {x1},{y2}" fill="{body.colour}"/>')
    box = f"0 0 {scene.width} {scene.height}"
    answer = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{"".join(parts)}</svg>'
    seen = listed([body.name for body in scene.bodies])
    return Question(
        f'Draw the shapes as SVG with viewBox="{box}".', answer, f"I see {seen}, so I draw each one in its place."
    )


@kind("html", "html_code", "image", "video", needs=Needs(whole=True))
def html(scene: Scene, draw: Draw) -> Question:
    """The shapes as an HTML table, from left to right."""
    ordered = sorted(scene.bodies, key=lambda body: body.x)
    rows = "".join(f"<tr><td>{body.colour}</td><td>{body.shape}</td></tr>" for body in ordered)
    answer = f"<table><tr><th>colour</th><th>shape</th></tr>{rows}</table>"
    problem = "Write an HTML table with columns colour and shape, one row per shape from left to right at the start."
    names = listed([body.name for body in ordered])
    return Question(problem, answer, f"From left to right I see {names}, one row for each.")
