"""Where in a response the answer stands. Every function here is total and linear in the text.

An answer is text that the response presents as its answer: a closed answer tag outside the thinking; where there is
none and the thinking is closed, a box, a statement ("the answer is B"), or a reply that is the answer as a whole. Text
inside thinking that was never closed is never an answer, and a response that was cut at the length limit has none
unless its tag had closed.

Runs of blanks are matched possessively (``\\s*+``): given back one by one they would make the time quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from easyvideor1.rewards.answer import Fallback, Found
from easyvideor1.rewards.grammar import ANSWER, Grammar
from easyvideor1.rewards.nearjson import load_near
from easyvideor1.types import FinishReason

_OPEN = re.compile(r"<\s*+answer\s*+>", re.IGNORECASE)
_CLOSE = re.compile(r"<\s*+/\s*+answer\s*+>", re.IGNORECASE)
_BOX = re.compile(r"\\f?box(?:ed)?\s*+\{")
_PHRASE = re.compile(
    r"(?:\banswers?\s*+[*_]*+\s*+(?:is\b|are\b|[:=\uff1a])"
    r"|(?:\u7b54\u6848|\u7b54\u3048|\uc815\ub2f5|\ub2f5)\s*+(?:\u662f|\u4e3a|\u70ba|\u306f|\uc740|[:=\uff1a]))[\s*_:\uff1a]*+",
    re.IGNORECASE,
)
_FINAL_PHRASE = re.compile(
    r"(?:\bfinal\s++answer\s*+[*_]*+\s*+(?:is\b|[:=\uff1a])|\u6700\u7ec8\u7b54\u6848\s*+(?:\u662f|\u4e3a|[:=\uff1a]))[\s*_:\uff1a]*+",
    re.IGNORECASE,
)
#: A reply in prose that opens with its statement: "The answer is a red chair."
_OPENING = re.compile(
    r"(?:(?:so|thus|therefore|hence),?+\s++)?+(?:the\s++|my\s++)?+(?:correct\s++|right\s++)?+answer\s*+[*_]*+\s*+(?:is\b|[:=\uff1a])[\s*_:]*+"
    r"|(?:\u6b63\u786e)?\u7b54\u6848\s*+(?:\u662f|\u4e3a|\u70ba|[:\uff1a])\s*+",
    re.IGNORECASE,
)
#: "When you choose 1, the answer is 1" and "what the answer is" state nothing.
_CONDITION = re.compile(r"\b(?:if|when|whenever|whether|unless|suppose|what|which|how)\b[^.!?\n]*+\Z", re.IGNORECASE)
#: What follows gives the reason for a statement and is no part of it, but where it brings up another answer.
_BECAUSE = re.compile(
    r"[,;.]?\s++(?:because|since|as\s++(?:the|it|he|she|they|there|this|that|we|i|an?|both|all|each|no|one|only)\b)",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?i:or|could|may|might|maybe|perhaps|possibly|else|unless|alternatively)\b[^.\n]{0,24}?"
    r"(?:\d|(?<![\w'])[B-HJ-Z](?![\w'])|\b(?i:yes|no|true|false)\b)|\b(?i:otherwise)\b"
)
#: Tokens with which engines and templates end a turn, as they show where special tokens are not left out.
_END_TOKENS = (
    *("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|user|>"),
    *("</s>", "<end_of_turn>", "<eos>"),
)
#: The box of GLM-4V.
_BEGIN_BOX, _END_BOX = "<|begin_of_box|>", "<|end_of_box|>"
#: Keys beside ``answer`` in a reply that is a JSON object.
_BESIDE_ANSWER = frozenset(
    ("reason", "reasoning", "explanation", "rationale", "think", "thinking", "thought", "analysis", "confidence")
)

#: A phrase such as "the answer is" is looked for in this many last characters, so that a runaway response stays cheap.
_TAIL = 4000
#: Text without any marker is read as a whole up to this length; beyond it only its last line is.
_SHORT = 300


#: Why a response has no place to read an answer from.
UNCLOSED_THINKING = "the thinking was never closed"
CUT_OFF = "the response was cut at the length limit before it gave its answer"
UNCLOSED_TAG = "the answer tag was never closed"
NOTHING_SAID = "nothing follows the thinking"
EMPTY = "the response is empty"
UNSTATED = "the reply states no answer at its end"
UNOPENED_TAG = "an answer tag was closed that had not been opened"
UNCLOSED_BOX = "the box of the answer was never closed"


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of a response, how it was found, and where in the response it starts.

    ``beside`` is text elsewhere that may contradict it: the last line behind a statement, what is above a last line.
    """

    text: str
    found: Found
    start: int = 0
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Tagged:
    """The content of an answer tag, and where the tag and its content begin and end."""

    content: str
    opening: int
    start: int
    end: int


def find_tag(text: str) -> Tagged | None:
    """The last closed ``<answer>``: from the last opening that has a closing after it."""
    if text.count("<") == text.count("<answer>") + text.count("</answer>"):  # most responses: no odd tags in it
        start = text.rfind("<answer>", 0, max(0, text.rfind("</answer>")))
        if start < 0:
            return None
        inside = start + len("<answer>")
        end = text.find("</answer>", inside)
        return Tagged(text[inside:end], start, inside, end + len("</answer>"))
    closings = list(_CLOSE.finditer(text))
    if not closings:
        return None
    opening = None
    for match in _OPEN.finditer(text):
        if match.end() > closings[-1].start():
            break
        opening = match
    if opening is None:
        return None
    closing = next(match for match in closings if match.start() >= opening.end())
    return Tagged(text[opening.end() : closing.start()], opening.start(), opening.end(), closing.end())


def last_tag(text: str) -> str | None:
    """The content of the last closed ``<answer>``."""
    tagged = find_tag(text)
    return None if tagged is None else tagged.content


def find_boxed(text: str) -> tuple[str, int] | None:
    """The content of the last ``\\boxed{...}`` or ``\\fbox{...}`` with its braces balanced, and where it starts."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : start + brace.start()], start
    return None


def last_boxed(text: str) -> str | None:
    """The content of the last box, or ``None``."""
    found = find_boxed(text)
    return None if found is None else found[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """A response cut into thinking and what may be read: ``body`` starts at ``start``.

    ``open`` says that thinking began which was never closed; what stands before it is the body all the same.
    """

    thinking: str
    body: str
    start: int
    open: bool


def split_thinking(text: str, grammar: Grammar = ANSWER, *, opened: bool = False) -> Layout:
    """Cut a response after the last closing tag of its thinking, and before thinking that never closes.

    Where the grammar has tags of its own, those inside an answer are part of it: a page may hold ``<caption>``.

    Args:
        text: the whole response.
        grammar: whose tags are thinking.
        opened: whether the prompt opened the thinking, as chat templates of reasoning models do.
    """
    tags = list(grammar.thinking.finditer(text)) if "<" in text else []
    if not tags and not opened:
        return Layout("", text, 0, open=False)
    if tags and grammar.names and (tagged := find_tag(text)):
        tags = [tag for tag in tags if not tagged.start <= tag.start() < tagged.end]
    closings = [tag for tag in tags if tag.group(1)]
    if opened and not closings:
        return Layout(text, "", len(text), open=True)
    cut = closings[-1].end() if closings else 0
    reopened = next((tag.start() for tag in tags if tag.start() >= cut), None)
    end = len(text) if reopened is None else reopened
    return Layout(text[:cut], text[cut:end], cut, open=reopened is not None)


def is_well_formed(text: str, grammar: Grammar) -> bool:
    """Whether the tags of a response that has its answer in a tag are those of the grammar."""
    layout = split_thinking(text, grammar)
    tagged = find_tag(layout.body)
    if tagged is None or layout.open:
        return False
    before = layout.body[: tagged.opening]
    if len(_OPEN.findall(before)) > len(_CLOSE.findall(before)):
        return False  # a tag that was opened twice
    return grammar.holds(layout.thinking + layout.body[: tagged.opening], layout.body[tagged.end :])


def find_regions(text: str, fallback: Fallback, layout: Layout, finish: FinishReason | None) -> Iterator[Region] | str:
    """The places to read, best first, of which the first that can be read counts; or why there are none.

    A closed tag outside the thinking is the only place if there is one. Else, of a response that ended by itself, a tag
    that was left open at its end (engines drop the closing tag where it is their stop string). Else, where the thinking
    is closed, the fallbacks of the rule.
    """
    tagged = find_tag(layout.body)
    if tagged is not None:
        return _inside(Region(tagged.content, "tag", layout.start + tagged.start), fallback)
    if finish == "length":
        return CUT_OFF
    if layout.open:
        return UNCLOSED_THINKING
    if openings := list(_OPEN.finditer(layout.body)):
        if finish != "stop":
            return UNCLOSED_TAG
        end = openings[-1].end()
        return _inside(Region(layout.body[end:], "open_tag", layout.start + end), fallback)
    if not layout.body.strip():
        return NOTHING_SAID if text.strip() else EMPTY
    if _CLOSE.search(layout.body):
        return UNOPENED_TAG
    if _BOX.search(layout.body) and find_boxed(layout.body) is None:
        return UNCLOSED_BOX
    return _untagged(Region(layout.body, "reply", layout.start), fallback)


def _stripped(region: Region) -> Region:
    left = len(region.text) - len(region.text.lstrip())
    return Region(region.text.strip(), region.found, region.start + left, region.beside)


def _inside(region: Region, fallback: Fallback) -> Iterator[Region]:
    yield _stripped(region)
    if fallback == "scalar":
        for marked in _marked(region, fallback):
            yield replace(marked, found=region.found)
        yield from _object(region)


def _marked(region: Region, fallback: Fallback) -> Iterator[Region]:
    """What stands in a box, and what the last statement says: its line, and its line without the reason it gives."""
    text = region.text
    if (boxed := find_boxed(text)) is not None:
        yield _stripped(Region(boxed[0], "boxed", region.start + boxed[1]))
    elif (begin := text.rfind(_BEGIN_BOX, 0, max(0, text.rfind(_END_BOX)))) >= 0:
        begin += len(_BEGIN_BOX)
        yield _stripped(Region(text[begin : text.find(_END_BOX, begin)], "boxed", region.start + begin))
    statement = _statement(region, fallback)
    if statement is None or not statement.text:
        return
    yield statement
    because = _BECAUSE.search(statement.text)
    if because is not None and because.start() and _HEDGED.search(statement.text, because.end()) is None:
        yield replace(statement, text=statement.text[: because.start()])


def _object(region: Region) -> Iterator[Region]:
    """What a text that is a JSON object gives under ``answer``, where nothing but its reason stands beside."""
    text = region.text
    if not text.startswith(("{", "```")) or len(text) > _TAIL:
        return
    value = load_near(text)
    if not isinstance(value, dict):
        return
    found = {str(key).casefold(): entry for key, entry in value.items()}
    answer = found.pop("answer", None)
    if isinstance(answer, str | int | float) and set(found) <= _BESIDE_ANSWER:
        said = str(answer).strip()
        yield replace(region, text=said, start=region.start + max(text.find(said), 0))


def _statement(region: Region, fallback: Fallback) -> Region | None:
    """The line behind the last "the answer is", empty if it is denied or conditional; ``None`` if there is none."""
    skipped = max(0, len(region.text) - _TAIL)
    tail = region.text[skipped:]
    phrases = list((_PHRASE if fallback == "scalar" else _FINAL_PHRASE).finditer(tail))
    if not phrases and fallback == "prose" and len(region.text) <= _SHORT:
        phrases = [opening] if (opening := _OPENING.match(region.text)) is not None else []
    if not phrases:
        return None
    begin, end = phrases[-1].span()
    line, _, after = tail[end:].partition("\n")
    last_line = after.rstrip().rpartition("\n")[2].strip()
    found = _stripped(Region(line, "phrase", region.start + skipped + end, last_line))
    if found.text.lower().startswith("not ") or _CONDITION.search(tail[:begin]):
        return replace(found, text="")
    return found


def _untagged(whole: Region, fallback: Fallback) -> Iterator[Region]:
    text = whole.text.rstrip()
    while text.endswith(_END_TOKENS):
        text = text[: text.rindex("<")].rstrip()
    whole = replace(whole, text=text)
    region = _stripped(whole)
    body = region.text
    if fallback == "block" and (boxed := find_boxed(body)) is not None:
        yield _stripped(Region(boxed[0], "boxed", region.start + boxed[1]))
    if fallback != "block":
        yield from _marked(region, fallback)
        if _BOX.search(body) or _BEGIN_BOX in body:
            return  # the box is where the answer is presented, read or not
    if fallback == "scalar" and (statement := _statement(region, fallback)) is not None:
        # What the last statement does not say is not said by the rest; a line of its own behind it may.
        if statement.beside:
            yield Region(statement.beside, "reply", region.start + len(body) - len(statement.beside))
        return
    if fallback != "block":
        yield from _object(region)
    if fallback != "scalar" or len(body) <= _SHORT:
        yield region
    if fallback == "scalar":
        above, _, last = body.rpartition("\n")
        if above and len(last) <= _SHORT:
            beside = above.strip() if len(above) <= _SHORT else ""
            yield _stripped(Region(last, region.found, region.start + len(body) - len(last), beside))
