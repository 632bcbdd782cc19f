"""The words around a number: those of a sentence that states it, and those that only mention it or say "none"."""

from __future__ import annotations

import re

#: A text of more words than this is prose: what it states has to be said in so many words.
WORDS = 12
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
MENTIONED = "the text states no number"

#: Words that may stand before a number and say nothing.
_FILLERS = frozenset(
    {
        *("about", "approximately", "roughly", "around", "only", "exactly", "just", "nearly", "almost", "a", "an"),
        *("of", "total", "precisely", "altogether", "overall", "so", "thus", "hence", "therefore", "well", "okay"),
        *("ok", "in", "yes", "circa", "ca", "then", "now", "finally", "all", "maybe", "perhaps", "probably"),
        *("likely", "up", "my", "answer", "final", "estimate", "result", "and", "visible", "different", "equal"),
        *("to",),
    }
)
#: The last word before a number that is stated: "there are", "I count", "the distance is".
STATING = frozenset(
    {
        *("is", "are", "was", "were", "be", "equals", "count", "counted", "counts", "see", "saw", "get", "got"),
        *("found", "find", "estimated", "have", "has", "had", "contains", "contain", "shows", "show", "measures"),
        *("totals", "takes", "needs", "weighs", "makes", "say", "guess", "total", "answer", "there's", "it's"),
        *("that's", "they're", "measured", "observe", "observed", "gives", "left", "remain", "comes", "amounts"),
        *("lasts", "costs", "think", "moves", "moved", "travels", "covers", "spans", "speed", "length", "distance"),
    }
)
#: Words that may not stand before or behind a number that is stated.
_HEDGES = frozenset({"or", "either", "unless", "if", "versus", "vs", "whether", "wonder"})
_UNSURE = frozenset(
    {
        *("unclear", "unknown", "cannot", "can't", "unable", "impossible", "don't", "couldn't", "undetermined"),
        *("idea", "unsure", "uncertain", "incorrect", "wrong", "insufficient"),
    }
)
_AFTER = frozenset({"and", "but", "how", "then", "when", "which", "while", "because", "so", "nor"}) | _HEDGES
#: "5 or so" is about 5.
_OR_SO = re.compile(r"\A\s?or so\b")
_NOUN = r"[a-z]+(?:[ -][a-z]+){0,5}"
#: What says where something happened so many times.
_WHERE = frozenset(
    {"in", "during", "over", "throughout", "within", "before", "until", "on", "at", "altogether", "overall"}
)
_NO_ANSWER = frozenset(
    {
        *("answer", "idea", "clue", "number", "result", "information", "way", "need", "doubt", "evidence", "more"),
        *("less", "fewer", "longer", "clear", "matter", "problem", "data", "telling", "change", "difference"),
        *("reason", "one's"),
    }
)
_THERE = r"(?:there(?:'s| is| are| were| was| seem to be| appear to be) |(?:i|we) (?:can )?(?:see|count|find) |it has )"
#: None of what was to be counted.
_NONE = re.compile(
    rf"(?:none|nobody|nothing|no one|no-one)(?: of (?:them|these|those|the (?!above|below){_NOUN}))?"
    rf"(?: (?:is|are|was|were|can be|appear|seem) {_NOUN}| in {_NOUN}| at all)?"
    rf"|{_THERE}?(?:no|not any) (?P<noun>[a-z]+)(?: {_NOUN})?"
    rf"|there (?:aren't|isn't|are not|is not) any (?P<other>[a-z]+)(?: {_NOUN})?"
)


def says_none(text: str) -> bool:
    """Whether a text in lower case, without a full stop, says that there are none: "none of them", "no cups"."""
    match = _NONE.fullmatch(text)
    return match is not None and (match["noun"] or match["other"]) not in _NO_ANSWER


def why_only_mentioned(before: str, after: str, *, structured: bool) -> str:
    """Why the words around a number do not state it; empty if they do.

    ``structured`` asks for a sentence that states it; else any few words will do that do not take it back.
    """
    after = _OR_SO.sub(" ", after)
    lead, tail = WORD.findall(before), WORD.findall(after)
    if _UNSURE & {*lead, *tail} or "not sure" in after:
        return MENTIONED
    if _HEDGES & {*lead, *tail}:
        return "the text leaves open which number it means"
    if tail and tail[-1] in _AFTER:
        return MENTIONED  # it breaks off: "I count 3 squares, then"
    if not structured:
        return ""
    tail = WORD.findall(after.partition(":")[0])  # "There are 3 shapes: a circle, a square and a triangle."
    if (
        tail[:1] == ["times"]
        and (len(tail) == 1 or tail[1] in _WHERE)
        and len(lead) <= WORDS
        and not _AFTER & set(tail)
    ):
        return ""  # "He opens the door 3 times.", "... 3 times in the video."
    label = before.rstrip().endswith(":") and len(lead) <= 5
    while lead and lead[-1] in _FILLERS:
        lead.pop()
    if lead and not label and (lead[-1] not in STATING or len(lead) > WORDS):
        return MENTIONED
    if ":" in before and not label:
        return MENTIONED
    if len(tail) > 8 or _AFTER & set(tail):
        return MENTIONED
    return ""
