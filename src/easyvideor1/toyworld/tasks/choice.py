"""Multiple choice: the right letter is dealt evenly, and so is the class behind it."""

from __future__ import annotations

from collections.abc import Sequence

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import DIRECTIONS, SHAPES, Scene
from easyvideor1.toyworld.tasks.kind import Question, kind

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
