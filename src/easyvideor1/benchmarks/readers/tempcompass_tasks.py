"""The four kinds of questions of TempCompass, from the authors' files and from the Hub.

Source: llyx97/TempCompass (``questions/*.json``, ``eval_*.py``) and lmms-eval; docs/benchmark_facts.md. A caption is
judged by whether someone who knows it alone picks the right option of a choice question.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import PurePath

from easyvideor1.benchmarks.judging import YES_NO, Rubric
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.captions import pairs_of
from easyvideor1.benchmarks.readers.shapes import chosen, lettered_lines, right_letter, text
from easyvideor1.benchmarks.release import FILE, KEY, NUMBER, Raw
from easyvideor1.data.formats import split_option

KINDS = ("multi-choice", "yes_no", "caption_matching", "captioning")

#: "Option 1: words", "Sentence A: words", "Caption B: words", at the beginning of a line.
_LABEL = re.compile(r"^(?:Option|Sentence|Caption) ([12AB]):\s*", re.MULTILINE)
#: A caption: the judge picks an option from the caption alone, and then says whether it is the right one.
CAPTIONS = Rubric(
    "tempcompass_caption",
    {"correct": YES_NO},
    where={"kind": "captioning"},
    pairs=pairs_of,
    reader="tempcompass_caption_reader",
    needed=False,
)


def kind_of(row: Raw) -> str:
    """The kind of questions of a file, by the name of the file (the authors) or of its folder (the Hub).

    Raises:
        QuestionError: it is none of ``KINDS``.
    """
    path = PurePath(row[FILE])
    for name in (path.stem, path.parent.name):
        if name in KINDS:
            return name
    raise QuestionError(f"its file {row[FILE]!r} is none of {', '.join(KINDS)}")


def authors_rows(row: Raw) -> Iterator[Raw]:
    """The questions about one video: dimension -> list of questions. Captions get the first choice question about the
    same video and dimension, from the column ``choices``, which holds all of them."""
    video, kind = row[KEY], kind_of(row)
    for dimension, listed in row.items():
        if not isinstance(listed, list):
            continue
        for number, each in enumerate(listed, start=1):
            columns = {**each, "video_id": video, "dim": dimension, "id": f"{kind}-{video}-{dimension}-{number}"}
            if kind == "captioning":
                asked = (row["choices"].get(video, {}).get(dimension) or [{}])[0]
                columns |= {f"mc_{name}": asked.get(name) for name in ("question", "answer")}
            yield columns


def hub_id(row: Raw) -> str:
    """The id of a row of the Hub, which has none."""
    return f"{kind_of(row)}-{text(row, 'video_id')}-{text(row, 'dim')}-{row[NUMBER]}"


def read_question(row: Raw) -> Question:
    """A question with the columns ``id``, ``video_id``, ``dim``, ``question``, ``answer``, and for captions
    ``mc_question`` and ``mc_answer``.

    Raises:
        QuestionError: the row cannot be used.
    """
    kind, asked, dimension = kind_of(row), text(row, "question"), text(row, "dim")
    task, rule = "multiple_choice", ""
    options: tuple[str, ...] = ()
    columns: dict[str, list[list[str]]] = {}
    if kind == "yes_no":
        task, answer = "boolean", text(row, "answer").lower()
        if answer not in ("yes", "no"):
            raise QuestionError(f"its answer {row['answer']!r} is neither yes nor no")
    elif kind == "captioning":
        gold = text(row, "mc_answer")
        task, answer = "description", split_option(gold)[1]
        columns = {"pairs": [[text(row, "mc_question"), gold]]}
    elif kind == "multi-choice":
        asked, listed = lettered_lines(asked)
        options, answer, rule = _chosen_line(listed, text(row, "answer"))
    else:
        asked, listed, place = _matched(asked, text(row, "answer"))
        options, answer, rule = chosen(listed, place, "index")
    return Question(
        id=text(row, "id"),
        question=asked,
        answer=answer,
        task=task,
        video=f"{text(row, 'video_id')}.mp4",
        options=options,
        facets={"kind": kind, "dim": dimension, "kind_dim": f"{kind}, {dimension}"},
        columns=columns,
        repair=rule,
    )


def _chosen_line(options: tuple[str, ...], gold: str) -> tuple[tuple[str, ...], str, str]:
    """As ``chosen``, for a reference that is a letter or a whole line ``B. words``.

    Raises:
        QuestionError: it is no option, or its words are not those of its letter.
    """
    words = split_option(gold)[1]
    if words != gold and words != options[string.ascii_uppercase.index(right_letter(gold, options, "letter"))]:
        raise QuestionError(f"its answer {gold!r} is none of its options")
    return chosen(options, gold, "letter")


def _matched(question: str, gold: str) -> tuple[str, tuple[str, ...], int]:
    """The stem, the captions, and the place of the right one, from lines with labels; the reference is a whole line.

    Raises:
        QuestionError: there are not two labels, or the reference is none of the lines.
    """
    labels = list(_LABEL.finditer(question))
    if len(labels) != 2:
        raise QuestionError("its question does not list two captions")
    first, second = labels
    lines = (question[first.start() : second.start()].strip(), question[second.start() :].strip())
    if gold not in lines:
        raise QuestionError(f"its answer {gold!r} is none of its captions")
    captions = (question[first.end() : second.start()].strip(), question[second.end() :].strip())
    return question[: first.start()].strip(), captions, lines.index(gold)
