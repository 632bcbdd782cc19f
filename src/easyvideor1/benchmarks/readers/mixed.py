"""Releases with rows of several kinds: choice and open questions, options left blank, options out of order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from easyvideor1.benchmarks.benchmark import Layout, Refused
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.shapes import Part, Reader, choice, plain, take, text
from easyvideor1.benchmarks.release import Raw
from easyvideor1.data.bad_rows import RowError
from easyvideor1.data.formats import listed_options, split_option

#: Rules that mend a row: see ``in_letter_order``.
LETTER_ORDER, BLANK_REPEAT = "options-in-letter-order", "blank-repeated-options"

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_SAYS = re.compile(r"[^\W_]")


def choice_or_open(
    is_choice: Callable[[Raw], Any],
    *,
    id: Part,
    question: Part,
    answer: Part,
    video: Part,
    options: Part,
    gold: Literal["letter", "index", "text"] = "letter",
    task: Callable[[Raw], str],
    facets: Mapping[str, Part] | Sequence[str] = (),
    **parts: Part,
) -> Reader:
    """Choice questions, and questions of the type that ``task`` gives.

    A row is what the release says it is (``is_choice``): a choice question that lost its options is refused. Other
    arguments are those of ``shapes.choice``.
    """

    def read(row: Raw) -> Question:
        if not take(row, is_choice):
            kind = task(row)
            return plain(id=id, question=question, answer=answer, video=video, task=kind, facets=facets, **parts)(row)
        reader = choice(
            id=id, question=question, options=options, answer=answer, gold=gold, video=video, facets=facets, **parts
        )
        return reader(row)

    return read


def only(test: Callable[[Raw], Any], read: Reader) -> Callable[[Raw], list[Question]]:
    """The rows for which ``test`` holds; the others belong to another benchmark of the same file."""

    def kept(row: Raw) -> list[Question]:
        return [read(row)] if take(row, test) else []

    return kept


def with_id(id: Part, read: Reader) -> Reader:
    """Rows whose id is made of several columns."""

    def named(row: Raw) -> Question:
        return replace(read(row), id=text(row, id))

    return named


def by_column(readers: Mapping[str, Reader]) -> Reader:
    """Rows of several kinds: the reader of the first of these columns that a row has."""

    def read(row: Raw) -> Question:
        for column, reader in readers.items():
            if column in row:
                return reader(row)
        raise QuestionError(f"it has none of the columns {', '.join(readers)}")

    return read


def by_kind(part: Part, readers: Mapping[str, Reader]) -> Reader:
    """Rows of several kinds: ``part`` of a row names its reader."""

    def read(row: Raw) -> Question:
        name = str(take(row, part))
        if name not in readers:
            raise QuestionError(f"its kind {name!r} is none of {', '.join(readers)}")
        return readers[name](row)

    return read


def with_columns(layouts: Iterable[Layout], columns: Callable[[Raw], Mapping[str, Any]]) -> tuple[Layout, ...]:
    """The layouts of a variant of a benchmark, whose questions have further columns, such as the path of subtitles.

    Args:
        layouts: of the benchmark.
        columns: of a row, for all its questions.
    """

    def added(layout: Layout) -> Layout:
        def read(row: Raw) -> list[Question | Refused]:
            made = layout.rows(row)
            found = [made] if isinstance(made, Question) else list(made)
            more = take(row, columns) if found else {}
            return [
                replace(one, columns={**one.columns, **more}) if isinstance(one, Question) else one for one in found
            ]

        return replace(layout, rows=read)

    return tuple(map(added, layouts))


def cues(path: str, *names: str) -> Callable[[Raw], dict[str, str]]:
    """Columns that name a subtitle file in SRT: ``path`` with the first of the columns ``names`` that a row has."""

    def columns(row: Raw) -> dict[str, str]:
        name = next((str(row[column]) for column in names if row.get(column)), None)
        if name is None:
            raise QuestionError(f"it has none of the columns {', '.join(names)}")
        return {"subtitles": path.format(name), "subtitles_format": "srt"}

    return columns


def filled(part: Part) -> Callable[[Raw], dict[str, Any]]:
    """Options by their letters, without the letters that a release leaves blank.

    A blank between two options is kept, so that the row is refused.
    """

    def options(row: Raw) -> dict[str, Any]:
        given = sorted(dict(take(row, part) or {}).items())
        while given and not str(given[-1][1] or "").strip():
            given.pop()
        return {letter: words or "" for letter, words in given}

    return options


def open_ended(row: Raw) -> str:
    """The type of open questions whose authors have a language model judge them by meaning."""
    return "open_ended"


def number_or_text(*answers: str) -> str:
    """The type of an open question whose authors compare numbers: ``numerical`` if all accepted answers are plain
    numbers, else ``open_ended``."""
    return "numerical" if all(_NUMBER.fullmatch(each.strip()) for each in answers) else "open_ended"


def in_letter_order(read: Reader, column: str = "options") -> Reader:
    """Rows whose lettered options may stand in another order, or repeat a letter with nothing behind it.

    Options that say nothing (``C. ``, ``D. .``) and whose letter another option has are left out (the rule
    ``blank-repeated-options``); then the options are sorted by their letters (``options-in-letter-order``). The right
    letter means the same option as before. ``read`` refuses rows whose letters are then still not the first ones.
    """

    def ordered(row: Raw) -> Question:
        try:
            listed = [str(each).strip() for each in listed_options(row.get(column))]
        except RowError as error:
            raise QuestionError(f"options: {error.what}") from None
        split = [split_option(each) for each in listed]
        letters = [letter for letter, _ in split]
        if not listed or not all(letters):
            return read(row)
        kept = [(letter, words) for letter, words in split if _SAYS.search(words) or letters.count(letter) == 1]
        by_letter = sorted(kept, key=lambda pair: pair[0])
        rules = [BLANK_REPEAT] * (len(kept) < len(listed)) + [LETTER_ORDER] * (by_letter != kept)
        question = read({**row, column: [f"{letter}. {words}" for letter, words in by_letter]})
        return replace(question, repair=", ".join([*rules, question.repair] if question.repair else rules))

    return ordered
