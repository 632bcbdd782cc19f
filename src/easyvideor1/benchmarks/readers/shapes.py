"""Shapes of questions: how the columns of a release become a ``Question``.

A shape takes, for each part of a question, where the row has it: the name of a column, a text with columns in braces
(``"{videoID}.mp4"``), or a function of the row.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from easyvideor1.benchmarks.benchmark import Refused
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.release import FILE, KEY, NUMBER, Raw
from easyvideor1.data.bad_rows import RowError, repaired
from easyvideor1.data.formats import listed_options, split_option

Part = str | Callable[[Raw], Any]
Reader = Callable[[Raw], Question]

#: The rule that mends a row whose right option is listed twice; see ``chosen``.
REPEATED = "repeated-option"

_LETTER = re.compile(r"\(?([A-Z])\s*(?:[).:]|\Z)")
#: An option on a line of its own behind the question.
_LINE = re.compile(r"^\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*\S", re.MULTILINE)
_WRAPPED = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)


def take(row: Raw, part: Part) -> Any:
    """A part of a row.

    Raises:
        QuestionError: a column is missing, one that a text names is blank, or the function cannot use the row.
    """
    try:
        if callable(part):
            return part(row)
        if "{" not in part:
            return row[part]
        for _, name, _, _ in string.Formatter().parse(part):
            if name and not str("" if row[name] is None else row[name]).strip():
                raise QuestionError(f"its {name} is blank")
        return part.format_map(row)
    except KeyError as error:
        raise QuestionError(f"it has no column {error}") from None
    except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise QuestionError(f"a column is not as expected: {error}") from None


def text(row: Raw, part: Part) -> str:
    """A part of a row as text without space around it.

    Raises:
        QuestionError: it is missing or blank.
    """
    value = take(row, part)
    if value is None or not str(value).strip():
        raise QuestionError(f"its {part if isinstance(part, str) else 'text'} is blank")
    return str(value).strip()


def unwrapped(reference: Any) -> str:
    """A reference as text, without an answer tag around it."""
    wrapped = _WRAPPED.fullmatch(str(reference))
    return wrapped[1].strip() if wrapped else str(reference)


def facets_of(row: Raw, names: Mapping[str, Part] | Sequence[str]) -> dict[str, str]:
    """The facets of a row: columns by their names, or parts by the names of facets; one that is null is empty."""
    parts = names if isinstance(names, Mapping) else {name: name for name in names}
    found = {name: take(row, part) for name, part in parts.items()}
    return {name: "" if value is None else str(value) for name, value in found.items()}


def optional(column: str) -> Part:
    """A column that a row may lack: null there."""
    return lambda row: row.get(column)


def one_of(value: Any, known: Sequence[str]) -> str:
    """A value that must be one of a few.

    Raises:
        QuestionError: it is none of them.
    """
    if value not in known:
        raise QuestionError(f"{value!r} is none of {', '.join(known)}")
    return str(value)


def before_frame(frame: Any, rate: Any) -> float | None:
    """The end of a clip, in seconds, that has the frames before a frame; ``None`` for one below 1, which cuts nothing.

    It lies half a frame before it, so that rounding cannot let it in.

    Args:
        frame: number of the frame, from 0.
        rate: frames per second.

    Raises:
        QuestionError: the frame rate is not known.
    """
    if not isinstance(frame, int) or frame < 1:
        return None
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise QuestionError(f"its video is cut at frame {frame}, and {rate!r} frames per second say no time")
    return (frame - 0.5) / rate


def option_texts(value: Any) -> tuple[str, ...]:
    """Options as texts without letters, from a list, a mapping from letters, or JSON text of either.

    Raises:
        QuestionError: they are none of these, or their letters are not the first ones of the alphabet.
    """
    try:
        listed = ["" if each is None else str(each).strip() for each in listed_options(value)]
    except RowError as error:
        raise QuestionError(f"options: {error.what}") from None
    split = sorted((split_option(each) for each in listed), key=lambda pair: pair[0])
    letters = [letter for letter, _ in split]
    if letters == list(string.ascii_uppercase[: len(split)]):
        return tuple(words for _, words in split)
    if all(letters) and len(set(letters)) > 1:  # "X: 3", "X: 4" name what is asked for, not the options
        raise QuestionError(f"its options have the letters {', '.join(letters)}")
    return tuple(listed)


def without_pads(listed: Sequence[Any], *pads: Any) -> list[Any]:
    """Options without those at the end that fill a table of a fixed number of columns."""
    kept = list(listed)
    while kept and kept[-1] in pads:
        kept.pop()
    return kept


def lettered_lines(question: str) -> tuple[str, tuple[str, ...]]:
    """The question and its options, from text with options on lines of their own (``A. text``, ``(A) text``).

    Raises:
        QuestionError: no such lines.
    """
    starts = list(_LINE.finditer(question))
    letters = "".join(match[1] or match[2] for match in starts)
    first = letters.rfind("A")  # a question may begin with a letter of its own
    starts, letters = starts[first:], letters[first:]
    if first < 0 or not string.ascii_uppercase.startswith(letters) or len(letters) < 2:
        raise QuestionError("its question lists no options from A on")
    ends = [match.start() for match in starts[1:]] + [len(question)]
    listed = [question[match.start() : end].strip() for match, end in zip(starts, ends, strict=True)]
    return question[: starts[0].start()].strip(), option_texts(listed)


def right_letter(value: Any, options: Sequence[str], gold: Literal["letter", "index", "text"]) -> str:
    """The letter of the right option.

    Args:
        value: the reference: a letter (also ``(B)``, ``B. text``), a number from 0, or an option's text.
        options: texts without letters.
        gold: which of these it is.

    Raises:
        QuestionError: it is none of the options.
    """
    alphabet = string.ascii_uppercase[: len(options)]
    if gold == "letter":
        found = _LETTER.match(str(value).strip())
        letter = found[1] if found else ""
    elif gold == "index":
        place = str(value).strip()
        letter = alphabet[int(place) : int(place) + 1] if place.isdigit() else ""
    else:
        places = [at for at, each in enumerate(options) if each == str(value).strip()]
        letter = alphabet[places[0]] if places else ""
    if not letter or letter not in alphabet:
        raise QuestionError(f"its answer {value!r} is none of its {len(options)} options")
    return letter


def chosen(
    texts: Sequence[str], value: Any, gold: Literal["letter", "index", "text"]
) -> tuple[tuple[str, ...], str, str]:
    """The options with their letters, the right letter, and the rule that mended the row, empty if none did.

    Where the right option is listed more than once, no single letter is right: only its first copy stays (the rule
    ``repeated-option``). Copies of a wrong option stay, as the letter decides.

    Args:
        texts: options without letters.
        value, gold: as in ``right_letter``.

    Raises:
        QuestionError: there are no options, one is blank, all are equal, or the reference is none of them.
    """
    if not texts:
        raise QuestionError("it has no options")
    if blank := [number for number, each in enumerate(texts, start=1) if not each]:
        raise QuestionError(f"its option {blank[0]} is blank")
    letter, rule = right_letter(value, texts, gold), ""
    right = texts[string.ascii_uppercase.index(letter)]
    if list(texts).count(right) > 1:
        first = list(texts).index(right)
        texts = [each for at, each in enumerate(texts) if each != right or at == first]
        letter, rule = string.ascii_uppercase[first], REPEATED
        if len(texts) < 2:
            raise QuestionError(f"its options are all {right!r}")
    return tuple(f"{name}. {each}" for name, each in zip(string.ascii_uppercase, texts, strict=False)), letter, rule


def each(inner: Part, read: Reader) -> Callable[[Raw], Iterator[Question | Refused]]:
    """Rows that hold several questions.

    Args:
        inner: the questions of a row, as mappings; the row's own columns are added to each.
        read: the shape of a question. One that it cannot use is refused alone, as ``FILE:ROW.QUESTION``.
    """

    def questions(row: Raw) -> Iterator[Question | Refused]:
        for number, columns in enumerate(take(row, lambda row: list(take(row, inner))), start=1):
            try:
                if not isinstance(columns, Mapping):
                    raise QuestionError(f"it is {type(columns).__name__}, not a question with columns")
                yield read({**row, **columns})
            except QuestionError as error:
                yield Refused(f"{row[FILE]}:{row.get(KEY, row[NUMBER])}.{number}", str(error))

    return questions


def choice(
    *,
    id: Part,
    question: Part,
    answer: Part,
    video: Part,
    options: Part | None = None,
    gold: Literal["letter", "index", "text"] = "letter",
    facets: Mapping[str, Part] | Sequence[str] = (),
    **parts: Part,
) -> Reader:
    """Questions with options; without ``options`` the question lists them on its lines.

    ``parts`` are further parts: ``start``, ``end``, ``context``, ``images``, ``columns``, ``repair``. A right option
    that is listed twice is mended; see ``chosen``.
    """

    def read(row: Raw) -> Question:
        asked = text(row, question)
        if options is None:
            asked, texts = lettered_lines(asked)
        else:
            texts = option_texts(take(row, options))
        listed, letter, rule = chosen(texts, take(row, answer), gold)
        return _question(row, id, asked, letter, "multiple_choice", video, facets, parts, listed, rule)

    return read


def plain(
    *,
    id: Part,
    question: Part,
    answer: Part,
    video: Part,
    task: str,
    facets: Mapping[str, Part] | Sequence[str] = (),
    **parts: Part,
) -> Reader:
    """Questions of any other task type, whose reference is text or a number."""

    def read(row: Raw) -> Question:
        return _question(row, id, text(row, question), text(row, answer), task, video, facets, parts)

    return read


def span(
    *,
    id: Part,
    question: Part,
    span: Part,
    video: Part,
    facets: Mapping[str, Part] | Sequence[str] = (),
    **parts: Part,
) -> Reader:
    """Questions for one time span; ``span`` is ``[start, end]`` in seconds."""

    def read(row: Raw) -> Question:
        found = take(row, span)
        try:
            start, end = (float(limit) for limit in found)
        except (TypeError, ValueError):
            raise QuestionError(f"its span {found!r} is not a start and an end in seconds") from None
        if not 0 <= start < end:
            raise QuestionError(f"its span {found!r} does not end after it starts")
        reference = json.dumps({"time": [start, end]})
        return _question(row, id, text(row, question), reference, "temporal_grounding", video, facets, parts)

    return read


def _question(
    row: Raw,
    id: Part,
    asked: str,
    answer: str,
    task: str,
    video: Part,
    facets: Mapping[str, Part] | Sequence[str],
    parts: Mapping[str, Part],
    options: tuple[str, ...] = (),
    repair: str = "",
) -> Question:
    found = {name: take(row, part) for name, part in parts.items()}
    named = take(row, video)
    if isinstance(video, str) and (named is None or not str(named).strip()):
        raise QuestionError("it names no video")
    found |= _clip(found.get("start"), found.get("end"))
    rules = ", ".join(rule for rule in (found.pop("repair", ""), repair) if rule)
    return Question(
        id=text(row, id),
        question=asked,
        answer=answer,
        task=task,
        video=named,
        options=options,
        facets=facets_of(row, facets),
        repair=rules,
        **found,
    )


def _clip(start: Any, end: Any) -> dict[str, float | None]:
    """The limits of a clip in seconds; a limit that is ``None`` or empty is the video's own.

    Raises:
        QuestionError: a limit is no time, or the clip does not end after it starts.
    """
    try:
        first, last = (None if limit in (None, "") else float(limit) for limit in (start, end))
    except (TypeError, ValueError):
        raise QuestionError(f"its clip from {start!r} to {end!r} is not in seconds") from None
    known = [limit for limit in (first, last) if limit is not None]
    if not all(math.isfinite(limit) and limit >= 0 for limit in known):
        raise QuestionError(f"its clip from {start!r} to {end!r} is not in seconds")
    if last is not None and last <= (first or 0.0):
        raise QuestionError(f"its clip from {start!r} to {end!r} does not end after it starts")
    return {"start": first, "end": last}


def published(
    facets: Mapping[str, Part] | Sequence[str] = (),
    *,
    question: Part = "problem",
    task: str = "",
    repair: str = "",
    **parts: Part,
) -> Reader:
    """Rows of the published evaluation files: ``problem``, ``options``, ``solution``, ``path``, ``problem_id``.

    Args:
        facets: as in ``choice``.
        question: where the question is.
        task: replaces the row's own task type.
        repair: a known fault of the file to mend (``data.bad_rows.REPAIRS``).
        parts: as in ``choice``.
    """

    def read(row: Raw) -> Question:
        kind = task or text(row, "problem_type")
        reference = text(row, "solution")
        mending, mended = repaired(reference, (repair,) if repair else ())
        reference = unwrapped(mending)
        options = option_texts(row.get("options"))
        if options and kind in ("multiple choice", "multiple_choice"):
            options, reference, rule = chosen(options, reference, "letter")
            mended = mended or rule
        asked, video = text(row, question), text(row, "path")
        return _question(row, "problem_id", asked, reference, kind, lambda _: video, facets, parts, options, mended)

    return read
