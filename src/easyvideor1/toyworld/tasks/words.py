"""Answers in words: open questions, video questions, descriptions, and a word to read."""

from __future__ import annotations

from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import Scene
from easyvideor1.toyworld.tasks.kind import Question, action, article, kind, listed


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
