"""Answers that are code: Python with tests in the row, SVG and HTML of what is seen."""

from __future__ import annotations

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import Scene
from easyvideor1.toyworld.tasks.kind import Question, kind, listed


@kind("code_count", "code", "video", "image", needs=Needs(counted=True))
def count(scene: Scene, draw: Draw) -> Question:
    """A function that needs the number of shapes."""
    shapes = len(scene.bodies)
    problem = "Write a Python function total(n) that returns n plus the number of shapes."
    tests = [f"assert total({n}) == {n + shapes}" for n in (0, 1, 10, -3)]
    thought = f"I count {shapes} shapes, so the function adds {shapes} to its argument."
    return Question(problem, f"def total(n):\n    return n + {shapes}", thought, extra={"tests": tests})


@kind("code_position", "code", "video", needs=Needs(even=("motion",)))
def position(scene: Scene, draw: Draw) -> Question:
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
