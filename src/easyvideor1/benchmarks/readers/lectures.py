"""The questions of Video-MMMU: three tracks about the same 300 lectures.

The subject and the folder of a video follow from the id of its question, such as ``validation_Art_Theory_3``. In the
release of the authors the picture of a question of the track Adaptation is the last frame of the video; the Hub's files
hold it as well, and then it is shown with the video.

How much a model learns of a lecture is seen in the questions of Adaptation, asked with it and without it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from easyvideor1.benchmarks.benchmark import Refused
from easyvideor1.benchmarks.metrics import Metric, by_value, right
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.mixed import choice_or_open, number_or_text
from easyvideor1.benchmarks.readers.shapes import Part, each, published, unwrapped
from easyvideor1.benchmarks.readers.subjects import VIDEO_MMMU
from easyvideor1.benchmarks.release import FILE, KEY, Raw

#: Rules that mend a row: a reference that lists several accepted answers as text, and options without any text.
LISTED_ANSWERS, BLANK_OPTIONS = "listed-answers", "blank-options"
TRACKS = ("Perception", "Comprehension", "Adaptation")

_PICTURE = "The picture <image 1> of the question is at the end of the video."
#: The published rows are numbered from 1, 300 for a track (counted against the files of the authors).
_PUBLISHED_TRACKS = ("Adaptation", "Comprehension", "Perception")


def _track(row: Raw) -> str:
    name = str(row.get(KEY, PurePosixPath(row[FILE]).parent.name))
    if name not in TRACKS:
        raise QuestionError(f"its track {name!r} is none of {', '.join(TRACKS)}")
    return name


def _subject(video: str) -> str:
    return " ".join(video.split("_")[1:-1])


def _discipline(video: str) -> str:
    return VIDEO_MMMU.get(_subject(video), "unknown")


def _path(row: Raw) -> str:
    """In the folder of its discipline; a video of an unknown subject is looked for without one."""
    folder = _discipline(row["id"])
    return f"{row['id']}.mp4" if folder == "unknown" else f"{folder}/{row['id']}.mp4"


def _is_choice(row: Raw) -> bool:
    return row.get("question_type") != "open"


def _answers(value: str) -> list[str]:
    """The accepted answers of ``['24/7', '3.429', '3.43]``: text of a list, in which a quote may be missing."""
    return [each.strip(" '\"") for each in value.strip()[1:-1].split(",")] if value.strip().startswith("[") else [value]


def _images(row: Raw) -> tuple[str, ...]:
    held = row.get("image")
    content = held.get("bytes") if isinstance(held, Mapping) else None
    return (f"data:image/png;base64,{base64.b64encode(content).decode()}",) if content else ()


def _context(row: Raw) -> str:
    return _PICTURE if "<image 1>" in row["question"] and not _images(row) else ""


_READ = choice_or_open(
    _is_choice,
    id=lambda row: f"{_track(row)}/{row['id']}",
    question="question",
    options="options",
    answer="answer",
    video=_path,
    task=lambda row: number_or_text(*_answers(str(row["answer"]))),
    facets={
        "track": _track,
        "discipline": lambda row: _discipline(row["id"]),
        "subject": lambda row: _subject(row["id"]),
    },
    images=_images,
    context=_context,
)


def hub(row: Raw) -> Question:
    """Rows of ``TRACK/test-*.parquet``.

    Raises:
        QuestionError: the row cannot be used.
    """
    question = _READ(row)
    if question.task == "multiple_choice" or not question.answer.startswith("["):
        return question
    return replace(question, answer=json.dumps(_answers(question.answer)), repair=LISTED_ANSWERS)


#: Rows of ``data/*_video.json``: a track with its questions by number.
authors = each(lambda row: [value for value in row.values() if isinstance(value, Mapping)], hub)

_PUBLISHED_FACETS: Mapping[str, Part] = {
    "track": lambda row: _PUBLISHED_TRACKS[(int(row["problem_id"]) - 1) // 300],
    "discipline": lambda row: _discipline(PurePosixPath(row["path"]).stem),
    "subject": lambda row: _subject(PurePosixPath(row["path"]).stem),
}
_READ_PUBLISHED = published(_PUBLISHED_FACETS, images=lambda row: (row["image_path"],) if row.get("image_path") else ())


def as_published(row: Raw) -> Question:
    """Rows of the published evaluation files. Two open questions are choice questions with blank options there.

    Raises:
        QuestionError: the row cannot be used.
    """
    blank = [str(option).strip(" ABCDEFGHIJ.") for option in row.get("options") or ()]
    if row.get("original_question_type") != "open" or not blank or any(blank):
        return _READ_PUBLISHED(row)
    task = number_or_text(unwrapped(row["solution"]))
    return replace(_READ_PUBLISHED({**row, "options": None, "problem_type": task}), repair=BLANK_OPTIONS)


METRICS = (Metric("overall", right), *by_value("track", TRACKS, right))

#: Values of the facet ``asked``: the question after the lecture, and the question alone.
AFTER, BEFORE = "after the lecture", "question alone"


def with_and_without(
    rows: Callable[[Raw], Question | Iterable[Question | Refused]],
) -> Callable[[Raw], Iterator[Question | Refused]]:
    """The questions of the track Adaptation that ``rows`` makes, each twice: after the lecture and alone.

    The question alone keeps its picture. Where the row does not hold it, it is the authors' video of two seconds that
    shows nothing else, ``question_only/ID_image.mp4``, of which two frames are shown.
    """

    def read(row: Raw) -> Iterator[Question | Refused]:
        made = rows(row)
        for one in [made] if isinstance(made, Question) else made:
            if isinstance(one, Refused):
                yield one
            elif one.facets["track"] == "Adaptation":
                yield replace(one, facets={**one.facets, "asked": AFTER, "lecture": one.id})
                yield _alone(one)

    return read


def _alone(question: Question) -> Question:
    facets = {**question.facets, "asked": BEFORE, "lecture": question.id}
    picture = "" if question.images else f"question_only/{PurePosixPath(question.video).stem}_image.mp4"
    columns = {**question.columns, "nframes": 2} if picture else question.columns
    named = f"{question.id}/alone"
    return replace(question, id=named, video=picture, context="", facets=facets, columns=columns)


def knowledge_gain(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of what was wrong before that a lecture mends: ``(after - before) / (1 - before)`` (arXiv 2501.13826).

    Negative where the model does worse after it; not defined where all was right before.

    Args:
        means: the accuracies after and before, ``(R, 2)``.

    Returns:
        float64 ``(R,)``.
    """
    after, before = means[:, 0], means[:, 1]
    room = np.where(before < 1, 1 - before, np.nan)
    gain: NDArray[np.float64] = (after - before) / room
    return gain


_ASKED = by_value("asked", (AFTER, BEFORE), right)
#: The accuracies after the lecture and of the question alone, and the gain.
GAIN_METRICS = (*_ASKED, Metric("knowledge gain", of=_ASKED, formula=knowledge_gain, group="lecture"))
