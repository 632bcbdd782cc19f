"""Why two results differ: what their certificates say, and what differs about each question that moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from easyvideor1.benchmarks.metrics import Answered
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.comparison import Flip
from easyvideor1.files import flat

#: Section of ``Certificate.asking`` -> what it decides.
_DECIDES = {
    "model": "model",
    "frames": "frames",
    "prompts": "prompt",
    "shown": "prompt",
    "questions": "questions",
}
#: Decided by all other sections of ``asking``: engine, sampling, versions.
_ENGINE = "engine"

#: Causes of a move, in the order in which they are named.
CAUSES = {
    "scoring": "scoring: the responses are equal",
    "failure": "a failure: one of the two has no response",
    "frames": "frames: other frames or sizes",
    "prompt": "prompt: another text, or other tokens",
    "model": "model: other weights or settings of the model",
    "engine": "engine: another engine, sampling or version",
    "chance": "chance: nothing that the certificates say differs",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs between two certificates; ``None`` where one has none. ``decides`` is the part of a result
    that it decides: ``model``, ``frames``, ``prompt``, ``questions``, ``engine`` or ``scoring``."""

    key: str
    before: Any
    after: Any
    decides: str


def certificate_changes(before: Certificate, after: Certificate) -> list[Change]:
    """What differs between two certificates, by dotted key; the labels of the models are no difference."""
    found = []
    for section in dict.fromkeys((*before.asking, *after.asking)):
        decides = _DECIDES.get(section, _ENGINE)
        found += _changes(section, before.asking.get(section), after.asking.get(section), decides)
    found += _changes("scoring", dict(before.scoring), dict(after.scoring), "scoring")
    one, other = ({"benchmark": each.benchmark, "version": each.version} for each in (before, after))
    return [*_changes("", one, other, "questions"), *found]


def _changes(name: str, before: Any, after: Any, decides: str) -> list[Change]:
    one, other = flat(before, name), flat(after, name)
    keys = dict.fromkeys((*one, *other))
    return [Change(key, one.get(key), other.get(key), decides) for key in keys if one.get(key) != other.get(key)]


@dataclass(frozen=True, slots=True)
class Moved:
    """A question that moved, and what its move can be because of: one cause, where it can be told, or several."""

    flip: Flip
    causes: tuple[str, ...]

    @property
    def words(self) -> str:
        """``frames``, or ``frames or model``."""
        return " or ".join(self.causes)


def explain(flips: Sequence[Flip], changes: Sequence[Change]) -> list[Moved]:
    """The causes of each move.

    Equal responses with another score moved by the scoring, and a question that one result has no response to by that
    failure. Else its own frames and prompt are looked at; weights and engine are the same for all questions, so that
    they are causes wherever the certificates differ in them.
    """
    decided = {change.decides for change in changes}
    return [Moved(flip, _causes(flip.before, flip.after, decided)) for flip in flips]


def _causes(before: Answered, after: Answered, decided: set[str]) -> tuple[str, ...]:
    one, other = before.response, after.response
    if one is None or other is None or bool(one.fault) != bool(other.fault):
        return ("failure",)
    if one.response == other.response:
        return ("scoring",)
    frames = _frames(before) != _frames(after)
    text = (before.record.prompt, before.record.tokens.get("text")) != (
        after.record.prompt,
        after.record.tokens.get("text"),
    )
    # The text of a prompt may have the times of its frames in it.
    prompt = "prompt" in decided if frames else text or before.record.prompt_tokens != after.record.prompt_tokens
    holds = {"frames": frames, "prompt": prompt, "model": "model" in decided, "engine": _ENGINE in decided}
    return tuple(cause for cause, held in holds.items() if held) or ("chance",)


def _frames(answered: Answered) -> list[Any]:
    """What the model saw, without where the files lie."""
    return [
        (media.kind, media.digest, media.frame_indices, media.timestamps, media.height, media.width)
        for media in answered.record.media
    ]


def counted(moved: Sequence[Moved]) -> list[tuple[str, int, int]]:
    """``(causes, gained, lost)`` for each combination of causes, the most frequent first."""
    gained = Counter(each.words for each in moved if each.flip.change > 0)
    lost = Counter(each.words for each in moved if each.flip.change < 0)
    found = [(words, gained[words], lost[words]) for words in dict.fromkeys(each.words for each in moved)]
    return sorted(found, key=lambda each: -(each[1] + each[2]))
