"""Multiple choice: letters A-Z, several letters, or the words of an option when they are the whole answer."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rapidfuzz import fuzz

from easyvideor1.rewards.readers.json_answers import load_json
from easyvideor1.rewards.readers.option_letters import DENIED, HEDGE, IS_RIGHT, NAMED, NEAR, chosen_letters
from easyvideor1.rewards.readers.plain_text import nfkc, takes_back, typed, unwrapped
from easyvideor1.rewards.readers.statements import stated_of_subject
from easyvideor1.rewards.types import Reading, Rule, Verdict, unread

_LABEL = re.compile(r"\s*+[(\[]?+\s*+([A-Z])\s*+[.:)\]\uff1a\u3001]\s*+(.*)", re.DOTALL)
_BRACKETS = r"(\[{<\"'\u3010\u300c\u300e\u300a"
_CLOSERS = r")\]}>\"'\u3011\u300d\u300f\u300b"
_WHOLE = re.compile(rf"[{_BRACKETS}]*+\s*+([A-Za-z])\s*+[{_CLOSERS}.,:;!\u3002\u3001]*+")
#: A letter that opens an answer as a label: "(B) words", "B. words", "B\nwords", "B - words", "B, because".
_LEADING = re.compile(
    r"(?:[(\[\u3010]\s*+([A-Za-z])\s*+[)\]\u3011][.:]?+(?!\s*+[A-Za-z]\s*+[.)])"
    r"|([A-Za-z])\s*+(?:[.:)](?=[A-Z]|\W|$|[^\x00-\x7f])|\u3001)(?!\s*+[A-Za-z]\s*+[.)])"
    r"|([A-Z])(?=[ \t]*+\n|,\s*+(?:because|since|as)\b|\s*+,?\s*+\u56e0\u4e3a)|([A-Z])\s++[-\u2013\u2014]\s)"
)
#: "A.chair", which is a label only before the words of an option.
_TIGHT = re.compile(r"([A-Z])[.:)](?=[a-z0-9])")
_LETTER = r"[(\[\"]?\b[A-Za-z]\b[)\]\"]?"
_SEPARATED = re.compile(
    rf"(?:both\s++)?+\[?{_LETTER}(?:(?:,|;|/|&|\band\b|\s|\u548c|\u3001)+{_LETTER})+\]?\.?", re.IGNORECASE
)
#: Words before an answer that are not part of it. Every piece is optional, and they may follow each other.
_LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore|well|in\s++short|i\s++(?:think|believe|say|choose|pick|select|would\s++(?:say|choose|pick|select))|"
    r"my\s++(?:answer|choice)|(?:the\s++)?(?:(?:final|correct|right|best|closest|likeliest)\s++)*+(?:answer|option|choice|match)(?:e?s)?+|"
    r"correct|it|this|that|choose|select|pick)\b\s*+(?:(?:is|are|(?:would|must|should|has\s++to)\s++be)\b|'s\b|:)?+[\s,:]*+|"
    r"(?:\u56e0\u6b64|\u6240\u4ee5|\u6545|\u5e94\u8be5|\u61c9\u8a72|\u5e94|\u61c9)?(?:\u6b63\u786e|\u6b63\u78ba|\u6700\u7ec8)?(?:\u7684)?"
    r"(?:\u7b54\u6848|\u9009\u9879|\u9078\u9805|\u9009\u62e9|\u9078\u64c7|\u9009|\u9078|\u7b54\u3048|\uc815\ub2f5|\ub2f5)"
    r"\s*+(?:\u662f|\u4e3a|\u70ba|\u5e94\u4e3a|\u306f|\uc740|:)?[\s:]*+){1,4}",
    re.IGNORECASE,
)
#: The other letters that an answer sets itself against, at its end: ", not A", "rather than (C)", "and not A or C".
_AGAINST = re.compile(
    r"[\s,;]++(?:and\s++|but\s++)?+(?:not|rather\s++than|instead\s++of|over)\s++(?:options?\s++)?+[(\[]*+[A-Z][)\]]*+"
    r"(?:\s*+(?:,|or|and|nor)\s*+[(\[]*+[A-Z][)\]]*+)*+[.!]?+\s*+\Z"
)
_UNSURE = re.compile(
    r"\s*+(?:(?:maybe|perhaps|possibly|either|not|neither|never|probably\s++not)\b|\u53ef\u80fd|\u4e0d\u662f)",
    re.IGNORECASE,
)
_ENDS_UNSURE = re.compile(r"[A-Za-z][)\]\"']*+\s*+\?+\s*+")
#: "B\u9009\u9879": the word for "option" behind its letter.
_NOUN_BEHIND = re.compile(r"(?<![A-Za-z])([A-Z])\s*+(?:\u9009\u9879|\u9078\u9805|\u9879|\u9805)")
_VERDICTS = frozenset(("yes", "no", "true", "false"))
#: Similarity (0 to 100) from which the words after a letter are an option's words with a typo.
_ALIKE = 85.0

SEVERAL = "several options are named"
CONTRADICTS = "the letter and the words name different options"
UNKNOWN = "the letter is no option's"
UNSURE = "an option is named as a possibility or denied"
NO_OPTION = "no option is stated"

_Options = Mapping[str, str]


@lru_cache(maxsize=4096)
def lettered(options: tuple[str, ...]) -> _Options:
    """Letter -> words of each option.

    The options' own labels count when they are exactly the first letters of the alphabet, in any order; else the
    position gives the letter and the option is all words.
    """
    labels = [_LABEL.fullmatch(option) for option in options]
    named = {label.group(1): label.group(2) for label in labels if label is not None}
    if options and set(named) == set(string.ascii_uppercase[: len(options)]) and len(named) == len(options):
        return {letter: _words(text) for letter, text in named.items()}
    return {letter: _words(option) for letter, option in zip(string.ascii_uppercase, options, strict=False)}


def _words(text: str) -> str:
    """Lower-case words with single spaces, without a leading article, outer quotes or closing punctuation."""
    words = " ".join(nfkc(text).casefold().split()).strip(" .,;:!?\"'`*\u3002")
    return re.sub(r"^(?:an?|the) (?=.)", "", words)


def read_choice(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read option letters as a sorted tuple.

    A letter alone may have any case, brackets, quotes and emphasis, and words before it that introduce it ("the correct
    option is B", "答案是B"). "B. words" is B unless the words are those of another option. Inside a sentence only an
    upper-case letter that is chosen by name counts ("I would go with option B"), and an "A" or "I" that goes on as a
    sentence is an article or a pronoun. An option's own words count when they are the whole answer; they are not the
    form asked for. Several letters are several options ("A and C"). Not answers are a hedge ("A or C", "maybe A",
    "A (or C)"), what is denied or asked ("I would not choose B", "option B?"), and a letter that no option has.
    """
    known = lettered(options)
    if len(text) <= 3 and (whole := _WHOLE.fullmatch(text)):
        return _letters(whole.group(1), known)
    text = re.sub(r"\*\*|__|`", "", typed(text)).strip().strip("*_$` \t\n").strip()
    text = _NOUN_BEHIND.sub(r"\1", text)
    against = _AGAINST.search(text, max(0, len(text) - NEAR))
    reading = _read(text[: against.start()], known) if against is not None and against.start() else None
    if against is None or reading is None or reading.value is None:
        return _read(text, known)
    denied = set(reading.value) & set(re.findall(r"\b[A-Z]\b", against.group()))
    return unread(UNSURE) if denied else reading


def _read(text: str, known: _Options) -> Reading | None:
    return (
        _final_statement(text, known)
        or _plain_answer(text, known)
        or _introduced(text, known)
        or _last_line(text, known)
        or _sentence(text, known)
    )


def _plain_answer(text: str, known: _Options) -> Reading | None:
    """A text that is a letter, letters, an option's words or labelled words, and nothing besides."""
    if whole := _WHOLE.fullmatch(text):
        return _letters(whole.group(1), known)
    words = _words(unwrapped(text))
    equal = [letter for letter, option in known.items() if option and option == words]
    if len(equal) == 1:
        return Reading((equal[0],), canonical=False)
    if len(text) <= NEAR and _SEPARATED.fullmatch(text):
        return _letters("".join(re.findall(r"\b[A-Za-z]\b", text)), known)
    if re.fullmatch(r"[A-Z]{2,26}", text) and list(text) == sorted(set(text)):
        return _letters(text, known)
    return _verdict_option(text, known) or _lines(text, known) or _labelled(text, known)


def _final_statement(text: str, known: _Options) -> Reading | None:
    """The statement on the last of several lines, whatever stands above it."""
    above, _, last = text.rpartition("\n")
    lead = _LEAD.match(last.strip()) if above.strip() and len(last) <= NEAR else None
    if lead is None or not re.search(r"answer|option|choice|\u7b54|\u9009|\u9078|\ub2f5", lead.group(), re.IGNORECASE):
        return None
    reading = _introduced(last.strip(), known)
    return reading if reading is not None and reading.value is not None else None


def _introduced(text: str, known: _Options) -> Reading | None:
    """An answer behind words that introduce it."""
    if _UNSURE.match(text):
        return unread(UNSURE)
    right = IS_RIGHT.match(text)
    if right is not None and (right.group(1).isupper() or right.end() == len(text)):
        return unread(SEVERAL) if _goes_on(text, right.end(), right.group(1)) else _letters(right.group(1), known)
    lead = _LEAD.match(text)
    if lead is None or lead.end() == len(text):
        return None
    rest = text[lead.end() :].strip()
    if _UNSURE.match(rest):
        # "It is not raining, so I choose B" goes on to choose.
        return None if NAMED.search(rest, 0, NEAR) else unread(UNSURE)
    return _plain_answer(rest, known)


def _goes_on(text: str, at: int, letter: str) -> bool:
    """Whether another option is chosen, or brought up, behind one that is right."""
    further = [match.group(1) or match.group(2) for match in NAMED.finditer(text, at, at + NEAR)]
    return HEDGE.search(text, at, at + NEAR) is not None or bool(set(further) - {letter.upper()})


def _letters(letters: str, known: _Options) -> Reading:
    found = tuple(sorted(set(letters.upper())))
    return unread(UNKNOWN) if known and not set(found) <= set(known) else Reading(found)


def _verdict_option(text: str, known: _Options) -> Reading | None:
    """Where the options are Yes and No: the one that opens the answer, as for a yes-or-no question."""
    verdicts = {option: letter for letter, option in known.items() if option in _VERDICTS}
    opening = re.match(r"(yes|no|true|false)\b(?=\s*+[,.;:!\n]|\s++(?:because|since|as)\b)", text, re.IGNORECASE)
    if opening is None or opening.group(1).casefold() not in verdicts:
        return None
    said = opening.group(1).casefold()
    rest = set(re.findall(r"\w+", text[opening.end() : opening.end() + 400].casefold()))
    others = set(verdicts) - {said}
    if rest & others and rest <= others | {"or", "maybe", "perhaps", "possibly", "and"}:
        return unread(SEVERAL)
    return Reading((verdicts[said],), canonical=False)


def _lines(text: str, known: _Options) -> Reading | None:
    """Several options written out, label and words, one on each line."""
    if not known or "\n" not in text or len(text) > 100 * NEAR:
        return None
    labels = [_LABEL.fullmatch(line) for line in text.splitlines() if line.strip()]
    whole = [label for label in labels if label is not None and known.get(label.group(1)) == _words(label.group(2))]
    if len(whole) < len(labels) or len(whole) < 2:
        return None
    return _letters("".join(label.group(1) for label in whole), known)


def _labelled(text: str, known: _Options) -> Reading | None:
    """One option's letter and what follows it: its words, or a reason."""
    leading = _LEADING.match(text)
    if leading is None and (tight := _TIGHT.match(text)) and _words(text[tight.end() :]) in known.values():
        leading = tight
    if leading is None:
        spaced = next((letter for letter in known if text[:2] == f"{letter} " and known[letter]), None)
        return Reading((spaced,)) if spaced is not None and _words(text[2:]) == known[spaced] else None
    letter = next(group for group in leading.groups() if group).upper()
    rest = text[leading.end() :]
    if known and letter not in known:
        return unread(UNKNOWN)
    said = _words(rest)
    own = known.get(letter, "")
    if said == own:
        return Reading((letter,))
    if DENIED.match(rest) and not _begins(said, own):
        return unread(UNSURE)
    if _another_label(rest, letter, known) or _joins_another(said, letter, known) or _hedges(rest, letter, known):
        return unread(SEVERAL)
    if _names_another(rest.partition("\n")[0], letter, known):
        return unread(CONTRADICTS)
    return Reading((letter,))


def _another_label(rest: str, letter: str, known: _Options) -> bool:
    """Whether a further line begins with another option's label, or two of them stand in what follows."""
    labels = (_LABEL.match(line) for line in rest.splitlines()[1:] if line.strip())
    if any(label is not None and label.group(1) != letter and label.group(1) in known for label in labels):
        return True
    near = rest[:NEAR]
    if _ONLY_LABELS.fullmatch(near) and set(re.findall(r"[A-Z]", near)) - {letter}:
        return True
    inline = [match for match in _INLINE.finditer(near) if match.group(1) in known and match.group(1) != letter]
    if len({match.group(1) for match in inline}) > 1:
        return True
    return any(_begins(_words(near[match.end() :]), known[match.group(1)]) for match in inline)


_INLINE = re.compile(r"(?<![\w'])[(\[]?+([A-Z])[.:)\]](?=\s|\Z)")
#: "- C", ") (C)": labels and nothing besides.
_ONLY_LABELS = re.compile(r"(?:[\s,;/&.)\]\u2013\u2014-]|\band\b)*+(?:[(\[]?+[A-Z][)\].:]*+[\s,;/&\u2013\u2014-]*+)++")
_JOINS = re.compile(
    r"[\s,;/&.]*+(?:\b(?:or|and|also|else|maybe|perhaps|possibly|alternatively)\b[\s,:]*+|an?\s++|the\s++|[,;/&]\s*+)++"
)


def _begins(said: str, option: str) -> bool:
    """Whether words begin with those of an option."""
    return bool(option) and re.match(rf"{re.escape(option)}(?!\w)", said) is not None


def _joins_another(said: str, letter: str, known: _Options) -> bool:
    """Whether another option's words are joined to an option's own: "table, or dog"."""
    own = known.get(letter, "")
    rest = said[len(own) :] if _begins(said, own) else said
    joined = _JOINS.match(rest)
    if joined is None:
        return False
    rest = rest[joined.end() :]
    others = (option for name, option in known.items() if name != letter and option)
    return any(_begins(rest, option) and not rest[len(option) :].strip(" .,;:!?)") for option in others)


def _hedges(rest: str, letter: str, known: _Options) -> bool:
    """Whether another letter is brought up as a possibility: "or C", "Alternatively C", "also C"."""
    found = (match.group(1) for match in HEDGE.finditer(rest[:NEAR]))
    return any(name != letter and (not known or name in known) for name in found)


def _names_another(line: str, letter: str, known: _Options) -> bool:
    """Whether the words behind a letter are another option's, to the word or but for a slip."""
    said, own = _words(line), known.get(letter, "")
    if not said or len(said) > NEAR:
        return False

    others = [option for name, option in known.items() if name != letter]
    if any(_begins(said, option) for option in others) and not _begins(said, own):
        return True
    likeness = fuzz.ratio(said, own)
    return any(fuzz.ratio(said, option) >= _ALIKE and fuzz.ratio(said, option) > likeness for option in others)


def _last_line(text: str, known: _Options) -> Reading | None:
    """One answer alone on the last line, below the options copied or below words that give none."""
    above, _, last = text.rpartition("\n")
    if not above or len(last) > NEAR:
        return None
    last = last.strip().strip("*_ ")
    reading = _plain_answer(last, known) or _introduced(last, known)
    if reading is None or reading.value is None:
        return None
    lines = [line for line in above.splitlines() if line.strip()]
    if lines and takes_back(lines[-1]) and not _VERDICTS & set(known.values()):
        return unread(UNSURE)
    copied = {label.group(1) for line in lines if (label := _LABEL.match(line.strip("*_ ")))}
    if copied and not (known and copied == set(known)):
        return unread(SEVERAL) if copied - set(reading.value) else reading
    return reading


def _sentence(text: str, known: _Options) -> Reading | None:
    """The last letter that a sentence chooses by name, and neither denies nor asks about."""
    found = chosen_letters(text)
    if not found.letters:
        if not found.denied and (stated := _stated(text, known)) is not None:
            return stated
        unsure = found.denied or _ENDS_UNSURE.fullmatch(text)
        return unread(UNSURE if unsure else SEVERAL if HEDGE.search(text[:NEAR]) else NO_OPTION)
    if HEDGE.search(text, found.end, found.end + NEAR):
        return unread(SEVERAL)
    return _letters(found.letters, known)


def _stated(text: str, known: _Options) -> Reading | None:
    """The option whose words are all that a sentence says of its subject, which names no option itself."""
    sentence = stated_of_subject(text) if len(text) <= NEAR else None
    if sentence is None:
        return None
    subject, said = f" {_words(sentence[0])} ", _words(sentence[1])
    letters = [letter for letter, option in known.items() if option and option == said]
    if len(letters) != 1 or any(f" {option} " in subject for option in known.values() if option):
        return None
    return Reading((letters[0],), canonical=False)


def _reference(text: str, options: tuple[str, ...]) -> tuple[str, ...]:
    if len(options) > len(string.ascii_uppercase):
        raise ValueError(f"{len(options)} options are more than there are letters")
    readings = [read_choice(part, options) for part in _listed(text)]
    values = [None if reading is None else reading.value for reading in readings]
    letters = {letter for value in values for letter in value or ()}
    if None in values or not letters:
        raise ValueError(f"it is no letter or text of the {len(options)} options" if options else "it is no letter")
    return tuple(sorted(letters))


def _listed(text: str) -> list[str]:
    """The entries of a reference that is a JSON list of letters or of options' texts; else the text alone."""
    listed = load_json(text) if text.startswith("[") else None
    if isinstance(listed, list) and listed and all(isinstance(entry, str) for entry in listed):
        return listed
    return [text]


def compare_subset(predicted: tuple[str, ...], reference: tuple[str, ...], row: Mapping[str, Any]) -> Verdict:
    """1 for the same set; a part of a several-letter reference earns its share; any wrong letter gives 0.

    The soft reward for multi-answer questions of TW-GRPO (Dang et al. 2025): ``|S| / |Y|`` if S is a part of Y, else 0.
    """
    right = set(predicted)
    if not right <= set(reference):
        return Verdict(0.0)
    return Verdict(len(right) / len(reference))


def compare_exact(predicted: tuple[str, ...], reference: tuple[str, ...], row: Mapping[str, Any]) -> Verdict:
    """1 for exactly the letters of the reference, else 0."""
    return Verdict(float(set(predicted) == set(reference)))


CHOICE = Rule(
    read_choice,
    _reference,
    compare_subset,
    "the letter of an option ('B'), several letters ('A, C') or its text",
    form="subset",
    forms={"exact": compare_exact},
)
