"""A search for ways to be paid without answering: responses put together from moves, held to three laws.

- One that commits to nothing earns 0.
- One that commits to two things earns at most what the answer deserves that lists both of them in the form of its type
  (which is 0 where a type takes one thing).
- One that commits to a wrong answer earns at most what that answer deserves, whatever else it mentions.

The moves are those that policies find: to leave out a tag, leave it open, nest, repeat or turn it round; to stop early;
to list everything; to quote the prompt or echo the question; to hedge; to switch the language. A response is one move
of the thinking, one of what follows it and one of the end, with one way to finish.

Free text has no law for replies without a tag: such a reply is the answer as a whole, and ROUGE is paid by the word.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from easyvideor1.rewards.certificates.case import load_certificate
from easyvideor1.rewards.length import joined
from easyvideor1.rewards.rules import RULES
from easyvideor1.types import FinishReason, Score

#: A wrong answer of each type, to the reference of its certificate.
WRONG: Mapping[str, str] = MappingProxyType(
    {
        "multiple_choice": "C",
        "numerical": "40",
        "regression": "90",
        "temporal_grounding": '{"time": [20, 24]}',
        "spatial_grounding": '{"boxes": [500, 500, 600, 600]}',
        "spatial_temporal_grounding": '{"time": [20, 21], "boxes": {"20": [500, 500, 600, 600]}}',
        "tracking": '{"boxes": {"1": [500, 500, 600, 600], "2": [500, 500, 600, 600], "3": [500, 500, 600, 600]}}',
        "segmentation": '{"boxes": [700, 700, 800, 800], "positive_points": [[750, 750]], "negative_points": [[1, 1]]}',
        "open_ended": "two dogs sleep",
        "video_qa": "two dogs sleep",
        "description": "two dogs sleep",
        "math": r"\frac{9}{7}",
        "ocr": "PULL 77 later",
        "boolean": "No",
        "code": "def add(a, b):\n    return a - b",
        "svg_code": '<svg xmlns="http://www.w3.org/2000/svg"><text>no</text></svg>',
        "html_code": "<p>no</p>",
        "preference": "1",
    }
)
#: Types whose answer is one thing: both of two are worth nothing.
_ONE_THING = frozenset(("multiple_choice", "numerical", "regression", "math", "boolean", "preference"))
_SAY = "I look at all of the frames in turn and compare what is there at the start with what is there at the end."
_LONG = f"{_SAY} " * 4

#: Thinking that leaves the body open to be read, by name; ``{r}`` is the right answer.
_CLOSED = {
    "no thinking": "",
    "thinking": f"<think>{_SAY}</think>\n",
    "thinking that says it": "<think>So the answer is {r}.</think>\n",
    "a tag in the thinking": "<think>So <answer>{r}</answer></think>\n",
    "a box in the thinking": "<think>So \\boxed{{{r}}}</think>\n",
    "two thoughts": "<think>x</think><think>The answer is {r}</think>",
    "nested thinking": "<think><think>{r}</think></think>",
    "thinking in capitals": "< THINK >It is {r}.</ THINK >",
}
#: Thinking that never closes: nothing after it is an answer.
_OPEN = {
    "open thinking": "<think>{r} ",
    "open thinking that states it": "<think>The answer is {r}\n",
    "an open thought behind another": "<think>x</think><think>Final answer: {r}\n",
    "open thinking with closing answer tags": "<think>It is so,{r}</answer>{r}</answer>",
    "open thinking with a tag": "<think>It is so, <answer>{r}</answer> ",
    "open thinking with a box": "<think>It is so, \\boxed{{{r}}} ",
    "open nested thinking": "<think><think>{r} ",
}
#: What follows the thinking and commits to nothing; the second part only where the reply is not the answer as a whole.
_NOTHING = {
    "nothing": "",
    "blanks": " \n\t ",
    "an empty tag": "<answer></answer>",
    "a blank tag": "<answer> \n </answer>",
    "the prompt quoted": "Give it in <answer> </answer>.",
    "an empty box": "<answer>\\boxed{{}}</answer>",
    "a tag of question marks": "<answer>???</answer>",
    "the tag turned round and left empty": "{r}<answer></answer>",
}
_MENTIONS = {
    "words": _SAY,
    "cannot tell": "I cannot tell.",
    "a closing tag alone": "{r}</answer>",
    "tags turned round": "</answer>{r}<answer>",
    "a mention": "I first look at {r} for a while and then at the rest of it.",
    "a long mention": f"{_LONG}There is {{r}} in it too, and more. {_LONG}",
    "wondering": "I wonder whether it is {r} that is meant here.",
    "the question echoed": "Is it {r}? Is it {w}?",
    "denied": "It is not {r}.",
    "denied statement": "The answer is not {r}.",
    "a hedge": "It may be {r} or {w}.",
    "a hedge in another language": "\u53ef\u80fd\u662f {r} \u6216\u8005 {w} \u3002",
    "everything": "{w}, {r}, {w}, {r}",
    "an open box": "So \\boxed{{{r}",
    "an unfinished statement": "So the answer is",
}
#: What commits to an answer, but only if the response was not cut.
_LOOSE = {
    "a statement": "The answer is {r}",
    "a reply": "{r}",
    "a box": "So it is \\boxed{{{r}}}",
    "an open tag": "<answer>{r}",
}
#: What presents something as the answer.
_PRESENTED = {
    "in a tag": "<answer>{x}</answer>",
    "bold in a tag": "<answer>**{x}**</answer>",
    "in a sentence in a tag": "<answer>The answer is {x}</answer>",
    "stated": "The answer is {x}",
    "boxed": "So it is \\boxed{{{x}}}",
    "as a reply": "{x}",
}
_BOTH = {
    "or": "{a} or {b}",
    "or, written out": "either {a} or {b}",
    "comma": "{a}, {b}",
    "and": "{a} and {b}",
    "slash": "{a} / {b}",
    "lines": "{a}\n{b}",
    "maybe": "maybe {a}, maybe {b}",
    "in brackets": "{a} (or {b})",
    "possibly": "{a}, possibly {b}",
    "unless": "{a} unless it is {b}",
    "chinese": "{a} \u6216 {b}",
}
_ENDS = {"": "", "words after": "\nThat is all.", "an open tag after": "\n<answer>"}
_FINISHES: tuple[FinishReason | None, ...] = (None, "stop", "length")

#: Called like ``easyvideor1.rewards.score``.
ScoreFunction = Callable[..., Score]


@dataclass(frozen=True, slots=True)
class Move:
    """A response, its moves by name, how it ends, and what law bounds its accuracy by."""

    task: str
    name: str
    response: str
    finish: FinishReason | None
    opens_thinking: bool
    at_most: float


def moves(task: str, score: ScoreFunction) -> Iterator[Move]:
    """Every response of a task type that the moves make, with its bound.

    Args:
        task: canonical task type.
        score: says what a wrong answer and a list of two answers deserve.
    """
    certificate = load_certificate(task)
    case = certificate.cases[0]
    right, wrong = case.answer, WRONG[task]

    def worth(answer: str) -> float:
        return score(task, f"<answer>{answer}</answer>", right, options=case.options, **case.row).accuracy

    hedged = (
        0.0 if task in _ONE_THING else max(worth(joined(task, [right, wrong])), worth(joined(task, [wrong, right])))
    )
    bounds = {"nothing": 0.0, "both": max(hedged, worth(wrong)), "wrong": worth(wrong)}
    for law, name, text, finish, opened in _responses(task, right, wrong):
        yield Move(task, f"{law}: {name}", text, finish, opened, bounds[law])


def _responses(task: str, right: str, wrong: str) -> Iterator[tuple[str, str, str, FinishReason | None, bool]]:
    """``(law, name, response, finish, whether the prompt opened the thinking)``."""
    prose = RULES[task].fallback == "prose"
    empty = {} if prose else _MENTIONS
    bodies = {**_NOTHING, **empty}
    if prose:
        bodies.pop("the tag turned round and left empty")
    put = {"r": right, "w": wrong}
    for (think, before), (body, after), (end, tail), finish in product(
        _CLOSED.items(), bodies.items(), _ENDS.items(), _FINISHES
    ):
        if prose and tail and "<answer>" not in after:
            continue  # words without a tag are an answer of free text
        yield "nothing", _named(think, body, end), before.format(**put) + after.format(**put) + tail, finish, False
    for (think, before), (body, after), (end, tail), finish in product(
        _OPEN.items(), {**_NOTHING, **_MENTIONS, **_LOOSE}.items(), _ENDS.items(), _FINISHES
    ):
        text = before.format(**put) + after.format(**put) + tail
        yield "nothing", _named(think, body, end), text, finish, False
        yield (
            "nothing",
            _named(f"{think}, opened by the prompt", body, end),
            text.replace("<think>", "", 1),
            finish,
            True,
        )
    for (think, before), (body, after) in product(_CLOSED.items(), _LOOSE.items()):
        yield "nothing", _named(think, f"{body}, cut", ""), before.format(**put) + after.format(**put), "length", False
    for (think, before), (place, around), (how, two), turned in product(
        _CLOSED.items(), _PRESENTED.items(), _BOTH.items(), (False, True)
    ):
        if prose and "<answer>" not in around:
            continue
        if how == "slash" and task in ("numerical", "regression", "math"):
            continue  # a fraction, which is one number
        a, b = (wrong, right) if turned else (right, wrong)
        text = before.format(**put) + around.format(x=two.format(a=a, b=b))
        yield "both", _named(think, f"{how} {place}", "turned" if turned else ""), text, None, False
    for (think, before), (place, around), (end, tail) in product(
        _CLOSED.items(), {name: text for name, text in _PRESENTED.items() if "<answer>" in text}.items(), _ENDS.items()
    ):
        text = before.format(**put) + around.format(x=wrong) + tail
        yield "wrong", _named(think, place, end), text, None, False
        yield "wrong", _named(think, place, "the right one mentioned after"), f"{text} or else {right}", None, False


def _named(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: responses tried, and those that break a law, with their accuracy."""

    tried: int
    broken: tuple[tuple[Move, float], ...]


def search(
    tasks: Iterable[str], score: ScoreFunction, *, most: Mapping[str, int] = MappingProxyType({}), seed: int = 0
) -> Found:
    """Put the responses of the moves to a scoring function and collect those that are paid too much.

    Args:
        tasks: canonical task types.
        score: called like ``easyvideor1.rewards.score``.
        most: the most responses of a task type that are tried, drawn with ``seed``; all if it is not named.
        seed: see ``most``.
    """
    tried, broken = 0, []
    for task in tasks:
        case = load_certificate(task).cases[0]
        found = list(moves(task, score))
        if len(found) > most.get(task, len(found)):
            found = random.Random(f"{seed} {task}").sample(found, most[task])
        for move in found:
            tried += 1
            said = score(
                task,
                move.response,
                case.answer,
                options=case.options,
                finish=move.finish,
                opens_thinking=move.opens_thinking,
                **case.row,
            )
            if said.accuracy > move.at_most + 1e-6:
                broken.append((move, said.accuracy))
    return Found(tried, tuple(broken))
