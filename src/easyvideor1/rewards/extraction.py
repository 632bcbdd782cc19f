"""Answer extraction: from a response to a typed answer. Every function here is total and linear in the text.

An answer is text that the response presents as its answer: a closed answer tag outside the thinking; without a tag, and
where the thinking is closed, a box, a statement ("the answer is B"), or a reply that is the answer as a whole. Text
inside thinking that was never closed is never an answer. A response that was cut at the length limit has no answer
unless its tag had closed.

Runs of blanks are matched possessively (``\\s*+``): backtracking over them would take quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from easyvideor1.rewards.readers.json_answers import load_lenient
from easyvideor1.rewards.readers.plain_text import takes_back
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.tags import ANSWER, CLOSING, OPENING, Grammar, SplitResponse, find_tag, split_thinking
from easyvideor1.rewards.types import Answer, Fallback, Found, Rule
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion, FinishReason

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
#: "The opposite of the answer is red", "a wrong answer is B": what is said of another than the answer.
_NOT_THE_ANSWER = re.compile(
    r"\b(?:wrong|incorrect|false|worst|mistaken|bad|(?:opposite|reverse|contrary|negation)\s++(?:of|to)|far\s++from|unlike)"
    r"\s++(?:(?:the|my|this|that|a|an|his|her|your|correct|right|true|best|final)\s++){0,3}\Z",
    re.IGNORECASE,
)
#: "I deny that the answer is red", "it is not the case that the answer is red": a denial in the same clause.
_DENIED = re.compile(
    r"\b(?:nobody|no\s++one|none|never|hardly|cannot|deny|denies|denied|doubt|doubts|disagree|disagrees|reject|rejects|"
    r"refuse|refuses|not|don't|doesn't|didn't|can't|won't|wouldn't|isn't|unlikely|impossible)\b"
    r"(?:(?!\b(?:so|thus|hence|therefore|but)\b)[^.,;:!?\n])*+\Z"
    r"|\bnon-\Z",
    re.IGNORECASE,
)
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
class Candidate:
    """A candidate for the answer: a piece of a response, how it was found, and where in the response it starts.

    ``beside`` is text elsewhere that may contradict it: the last line after a statement, or what is above a last line.
    """

    text: str
    found: Found
    start: int = 0
    beside: str = ""


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


def find_candidates(
    text: str, fallback: Fallback, layout: SplitResponse, finish: FinishReason | None
) -> Iterator[Candidate] | str:
    """The candidates, best first; the first that can be read counts. Without candidates, the reason.

    A closed tag outside the thinking is the only place if there is one. Else, of a response that ended by itself, a tag
    that was left open at its end (engines drop the closing tag where it is their stop string). Else, where the thinking
    is closed, the fallbacks of the rule.
    """
    tagged = find_tag(layout.body)
    if tagged is not None:
        return _inside(Candidate(tagged.content, "tag", layout.start + tagged.start), fallback)
    if finish == "length":
        return CUT_OFF
    if layout.open:
        return UNCLOSED_THINKING
    if openings := list(OPENING.finditer(layout.body)):
        if finish != "stop":
            return UNCLOSED_TAG
        end = openings[-1].end()
        return _inside(Candidate(layout.body[end:], "open_tag", layout.start + end), fallback)
    if not layout.body.strip():
        return NOTHING_SAID if text.strip() else EMPTY
    if CLOSING.search(layout.body):
        return UNOPENED_TAG
    if _BOX.search(layout.body) and find_boxed(layout.body) is None:
        return UNCLOSED_BOX
    return _untagged(Candidate(layout.body, "reply", layout.start), fallback)


def _stripped(region: Candidate) -> Candidate:
    left = len(region.text) - len(region.text.lstrip())
    return Candidate(region.text.strip(), region.found, region.start + left, region.beside)


def _inside(region: Candidate, fallback: Fallback) -> Iterator[Candidate]:
    yield _stripped(region)
    if fallback == "scalar":
        for marked in _marked(region, fallback):
            yield replace(marked, found=region.found)
        yield from _object(region)


def _marked(region: Candidate, fallback: Fallback) -> Iterator[Candidate]:
    """The content of a box, and the last statement: its line, and its line without the reason it gives."""
    text = region.text
    if (boxed := find_boxed(text)) is not None:
        yield _stripped(Candidate(boxed[0], "boxed", region.start + boxed[1]))
    elif (begin := text.rfind(_BEGIN_BOX, 0, max(0, text.rfind(_END_BOX)))) >= 0:
        begin += len(_BEGIN_BOX)
        yield _stripped(Candidate(text[begin : text.find(_END_BOX, begin)], "boxed", region.start + begin))
    statement = _statement(region, fallback)
    if statement is None or not statement.text:
        return
    yield statement
    because = _BECAUSE.search(statement.text)
    if because is not None and because.start() and _HEDGED.search(statement.text, because.end()) is None:
        yield replace(statement, text=statement.text[: because.start()])


def _object(region: Candidate) -> Iterator[Candidate]:
    """The value of ``answer`` in a text that is a JSON object, where the other keys only give a reason."""
    text = region.text
    if not text.startswith(("{", "```")) or len(text) > _TAIL:
        return
    value = load_lenient(text)
    if not isinstance(value, dict):
        return
    found = {str(key).casefold(): entry for key, entry in value.items()}
    answer = found.pop("answer", None)
    if isinstance(answer, str | int | float) and set(found) <= _BESIDE_ANSWER:
        said = str(answer).strip()
        yield replace(region, text=said, start=region.start + max(text.find(said), 0))


def _statement(region: Candidate, fallback: Fallback) -> Candidate | None:
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
    found = _stripped(Candidate(line, "phrase", region.start + skipped + end, last_line))
    if (
        found.text.lower().startswith("not ")
        or _CONDITION.search(tail[:begin])
        or _DENIED.search(tail[max(0, begin - 80) : begin])
        or _NOT_THE_ANSWER.search(tail[max(0, begin - 80) : begin])
    ):
        return replace(found, text="")
    return found


def _untagged(whole: Candidate, fallback: Fallback) -> Iterator[Candidate]:
    text = whole.text.rstrip()
    while text.endswith(_END_TOKENS):
        text = text[: text.rindex("<")].rstrip()
    whole = replace(whole, text=text)
    region = _stripped(whole)
    body = region.text
    if fallback == "block" and (boxed := find_boxed(body)) is not None:
        yield _stripped(Candidate(boxed[0], "boxed", region.start + boxed[1]))
    if fallback != "block":
        yield from _marked(region, fallback)
        if _BOX.search(body) or _BEGIN_BOX in body:
            return  # the box presents the answer, readable or not
    if fallback == "scalar" and (statement := _statement(region, fallback)) is not None:
        # Only the last statement counts, or a line of its own after it.
        if statement.beside:
            yield Candidate(statement.beside, "reply", region.start + len(body) - len(statement.beside))
        return
    if fallback != "block":
        yield from _object(region)
    if fallback != "scalar" or len(body) <= _SHORT:
        yield region
    if fallback == "scalar":
        above, _, last = body.rpartition("\n")
        if above and len(last) <= _SHORT:
            beside = above.strip() if len(above) <= _SHORT else ""
            yield _stripped(Candidate(last, region.found, region.start + len(body) - len(last), beside))


#: The reason where a rule gives none.
NO_ANSWER = "no answer of this task type is stated"
EMPTY_PLACE = "the place of the answer is empty"
TAKEN_BACK = "a line beside the answer takes it back"
CONTRADICTED = "two different answers are stated"
#: A longer line is not an answer by itself.
_LINE = 300


def parse(task: str, response: str | Completion, options: Sequence[str] = (), grammar: Grammar = ANSWER) -> Answer:
    """Read the answer that a response commits to.

    Total: no ``response`` makes it raise. Its time is linear in the length of the text. An answer without a ``value``
    has a ``reason``.

    Args:
        task: task type or an alias of one.
        response: the whole response; as a ``Completion`` it also says how it ended, and whether the prompt had opened
            the thinking.
        options: options of a choice question; with them an option's own words are understood.
        grammar: the tags of a well-formed response; what stands in those before the answer is thinking.

    Raises:
        DataError: ``task`` is no known task type.
    """
    rule = RULES[canonical_task(task)]
    given = response if isinstance(response, Completion) else Completion(response)
    layout = split_thinking(given.text, grammar, opened=given.opens_thinking)
    regions = find_candidates(given.text, rule.fallback, layout, given.finish)
    if isinstance(regions, str):
        return Answer(None, "", "nothing", reason=regions)
    reason, first = "", None
    for region in regions:
        first = first or region
        read = rule.read if region.found != "reply" or rule.read_reply is None else rule.read_reply
        reading = read(region.text, tuple(options)) if region.text else None
        if reading is not None and reading.value is not None:
            # The tag holds the answer, but in another form if the answer had to be searched for.
            canonical = reading.canonical and (region is first or region.found != "tag")
            if _taken_back(rule, region.beside.rpartition("\n")[2].strip(), tuple(options), reading.value):
                return Answer(None, region.text, region.found, start=region.start, reason=TAKEN_BACK)
            if 0 < len(region.beside) <= _LINE and _says_another(rule, region.beside, tuple(options), reading.value):
                return Answer(None, region.text, region.found, start=region.start, reason=CONTRADICTED)
            return Answer(reading.value, region.text, region.found, canonical, region.start)
        reason = reason or (reading.reason if reading is not None else "" if region.text else EMPTY_PLACE)
    if first is None:
        return Answer(None, "", "nothing", reason=UNSTATED)
    return Answer(None, first.text, first.found, start=first.start, reason=reason or NO_ANSWER)


#: What may stand before a second answer on a line of its own: "Or 13."
_JOINER = re.compile(
    r"(?:(?:or|else|alternatively|otherwise|maybe|perhaps|possibly|also|and|if\s++not)\b[\s,:]*+)++", re.IGNORECASE
)


def _says_another(rule: Rule, line: str, options: tuple[str, ...], value: object) -> bool:
    """Whether a line is, as a whole, another answer."""
    if (joiner := _JOINER.match(line)) is not None and joiner.end() < len(line):
        line = line[joiner.end() :]
    reading = (rule.read_reply or rule.read)(line, options)
    return reading is not None and reading.value is not None and reading.value != value


def _taken_back(rule: Rule, line: str, options: tuple[str, ...], value: object) -> bool:
    """Whether a line takes an answer back, and is not the same answer itself, as "That is false." may be."""
    if not takes_back(line):
        return False
    reading = (rule.read_reply or rule.read)(line, options)
    return reading is None or reading.value != value
