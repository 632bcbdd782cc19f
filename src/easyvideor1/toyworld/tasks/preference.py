"""Which of two responses describes the clip better; the first, the second and a tie come equally often."""

from __future__ import annotations

from dataclasses import replace

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import DIRECTIONS, Body, Scene
from easyvideor1.toyworld.tasks.kind import Question, action, article, kind


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
