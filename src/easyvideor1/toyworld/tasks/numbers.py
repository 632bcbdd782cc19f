"""Counting, measuring and a little arithmetic."""

from __future__ import annotations

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import Scene
from easyvideor1.toyworld.tasks.kind import Question, kind


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
