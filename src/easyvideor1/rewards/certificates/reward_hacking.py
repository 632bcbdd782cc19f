"""A search for reward hacking: responses composed of moves, tested against three invariants.

- A response that commits to nothing earns 0.
- A response that commits to two things earns at most what a list of both deserves in the form of its type (0 where a
  type accepts one thing).
- A response that commits to a wrong answer earns at most what that answer deserves, whatever else it mentions.

The moves are those that policies find: leave out a tag, leave it open, nest, repeat or reverse it; stop early; list
everything; quote the prompt or echo the question; hedge; switch the language. A response is one move of the thinking,
one of what follows it and one of the end, with one finish reason.

Free text has no invariant for replies without a tag: such a reply is the answer as a whole, and ROUGE rewards each
word.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from easyvideor1.rewards.audit.length_bias import joined_answers
from easyvideor1.rewards.certificates.case import load_certificate
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
_NUMBERS = frozenset(("numerical", "regression", "math"))
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
#: What follows the thinking and commits to nothing.
_NOTHING = {
    "nothing": "",
    "blanks": " \n\t ",
    "an empty tag": "<answer></answer>",
    "a blank tag": "<answer> \n </answer>",
    "the prompt quoted": "Give it in <answer> </answer>.",
    "an empty box": "<answer>\\boxed{{}}</answer>",
    "a tag of question marks": "<answer>???</answer>",
    "an empty tag behind it": "{r}<answer></answer>",
}
#: Signs that have no partner.
_UNMATCHED = {
    "a closing tag alone": "{r}</answer>",
    "tags turned round": "</answer>{r}<answer>",
    "an open box": "So \\boxed{{{r}",
}
#: Replies that mention answers and state none; of free text any reply is the answer.
_MENTIONS = {
    "words": _SAY,
    "cannot tell": "I cannot tell.",
    "a mention": "I first look at {r} for a while and then at the rest of it.",
    "a long mention": f"{_LONG}There is {{r}} in it too, and more. {_LONG}",
    "wondering": "I wonder whether it is {r} that is meant here.",
    "the question echoed": "Is it {r}? Is it {w}?",
    "denied": "It is not {r}.",
    "denied statement": "The answer is not {r}.",
    "a hedge": "It may be {r} or {w}.",
    "a hedge in another language": "\u53ef\u80fd\u662f {r} \u6216\u8005 {w} \u3002",
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
    "everything": "{b}, {a}, {b}, {a}",
    "chinese": "{a} \u6216 {b}",
}
_ENDS = {"": "", "words after": "\nThat is all.", "an open tag after": "\n<answer>"}
_FINISHES: tuple[FinishReason | None, ...] = (None, "stop", "length")

#: Called like ``easyvideor1.rewards.score``.
ScoreFunction = Callable[..., Score]


@dataclass(frozen=True, slots=True)
class Move:
    """A response, its moves by name, how it ends, and the bound of its accuracy."""

    task: str
    name: str
    response: str
    finish: FinishReason | None
    opens_thinking: bool
    at_most: float


@dataclass(frozen=True, slots=True)
class _Response:
    name: str
    text: str
    finish: FinishReason | None = None
    opens_thinking: bool = False


def moves(task: str, score: ScoreFunction) -> Iterator[Move]:
    """Every response of a task type that the moves make, with its bound.

    Args:
        task: canonical task type.
        score: scores a wrong answer and a list of two answers, which gives the bounds.
    """
    case = load_certificate(task).cases[0]
    right, wrong = case.answer, WRONG[task]

    def worth(answer: str) -> float:
        return score(task, f"<answer>{answer}</answer>", right, options=case.options, **case.row).accuracy

    listed = [] if task in _ONE_THING else [joined_answers(task, two) for two in ([right, wrong], [wrong, right])]
    invariants = (
        ("nothing", 0.0, (*_commit_nothing(task, right, wrong), *_never_close(right, wrong), *_cut(right, wrong))),
        ("both", max(map(worth, [wrong, *listed])), _commit_both(task, right, wrong)),
        ("wrong", worth(wrong), _commit_wrong(right, wrong)),
    )
    for invariant, at_most, responses in invariants:
        for one in responses:
            yield Move(task, f"{invariant}: {one.name}", one.text, one.finish, one.opens_thinking, at_most)


def _commit_nothing(task: str, right: str, wrong: str) -> Iterator[_Response]:
    """Closed thinking or none, then something that is not an answer."""
    bodies = _NOTHING | _UNMATCHED | ({} if _is_prose(task) else _MENTIONS)
    for (think, before), (body, after), (end, tail), finish in product(
        _CLOSED.items(), bodies.items(), _ENDS.items(), _FINISHES
    ):
        if not (_is_prose(task) and tail and "answer>" not in after):  # words alone are an answer of free text
            yield _Response(_named(think, body, end), (before + after).format(r=right, w=wrong) + tail, finish)


def _never_close(right: str, wrong: str) -> Iterator[_Response]:
    """Thinking that never closes, whatever follows; opened by the response or by its prompt."""
    bodies = _NOTHING | _UNMATCHED | _MENTIONS | _LOOSE
    for (think, before), (body, after), (end, tail), finish in product(
        _OPEN.items(), bodies.items(), _ENDS.items(), _FINISHES
    ):
        text, name = (before + after).format(r=right, w=wrong) + tail, _named(think, body, end)
        yield _Response(name, text, finish)
        yield _Response(f"{name}, opened by the prompt", text.replace("<think>", "", 1), finish, opens_thinking=True)


def _cut(right: str, wrong: str) -> Iterator[_Response]:
    """An answer without a closed tag, in a response that was cut at the limit."""
    for (think, before), (body, after) in product(_CLOSED.items(), _LOOSE.items()):
        yield _Response(_named(think, body, "cut"), (before + after).format(r=right, w=wrong), "length")


def _commit_both(task: str, right: str, wrong: str) -> Iterator[_Response]:
    """The right answer and a wrong one, in one place."""
    for (think, before), (place, around), (how, two), turned in product(
        _CLOSED.items(), _PRESENTED.items(), _BOTH.items(), (False, True)
    ):
        if _is_prose(task) and "<answer>" not in around:
            continue
        if how == "slash" and task in _NUMBERS:
            continue  # a fraction, which is one number
        first, second = (wrong, right) if turned else (right, wrong)
        text = before.format(r=right) + around.format(x=two.format(a=first, b=second))
        yield _Response(_named(think, f"{how} {place}", "turned" if turned else ""), text)


def _commit_wrong(right: str, wrong: str) -> Iterator[_Response]:
    """A wrong answer in the tag, and the right one mentioned around it."""
    for (think, before), (end, tail) in product(_CLOSED.items(), {**_ENDS, "or else": " or else {r}"}.items()):
        yield _Response(_named(think, end), before.format(r=right) + f"<answer>{wrong}</answer>" + tail.format(r=right))


def _is_prose(task: str) -> bool:
    return RULES[task].fallback == "prose"


def _named(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: responses tried, and those that break an invariant, with their accuracy."""

    tried: int
    broken: tuple[tuple[Move, float], ...]


def search(
    tasks: Iterable[str], score: ScoreFunction, *, most: Mapping[str, int] = MappingProxyType({}), seed: int = 0
) -> Found:
    """Score the responses of the moves and collect those that earn too much.

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
