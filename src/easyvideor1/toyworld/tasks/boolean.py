"""Yes or no, each for half of the rows."""

from __future__ import annotations

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import DIRECTIONS, Scene
from easyvideor1.toyworld.tasks.kind import Question, article, kind


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
