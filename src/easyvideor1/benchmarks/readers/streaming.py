"""Questions about a video that is still running.

A question is asked at a moment and sees the video up to there. It may be one of a conversation, or be asked again every
second until the model says that it is time to answer: the proactive output of StreamingBench (arXiv 2411.03628), whose
rules are those of its ``src/benchmark`` and ``src/data/count.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from easyvideor1.benchmarks.benchmark import Refused
from easyvideor1.benchmarks.metrics import Answered
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.mixed import by_kind
from easyvideor1.benchmarks.readers.shapes import Part, each, plain, take
from easyvideor1.benchmarks.release import FILE, Raw
from easyvideor1.data.formats import split_option

_FORWARD = {
    "REC": "{words} Count what has happened so far, by anyone in the video; a motion counts once it is complete.",
    "SSR": "Is somebody doing this step of the procedure at the end of the video: {words}?",
    "CRR": "{words}\nDoes the video so far, above all its end, show enough to answer this question?",
}
#: The rule that mends options which were cut into several lines; see ``whole_options``.
JOINED = "joined-option-lines"

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def seconds(value: Any) -> float:
    """A time in seconds, from a number or from a time stamp: ``"00:03:20"``, ``"3:20"``, ``"200"``.

    Raises:
        QuestionError: it is neither, or the time stamp has 60 minutes or seconds.
    """
    found = _CLOCK.fullmatch(str(value).strip())
    hours, minutes, rest = found.groups() if found else (None, None, "nan")
    time = 3600.0 * float(hours or 0) + 60.0 * float(minutes or 0) + float(rest)
    carried = (hours is not None and float(minutes or 0) >= 60) or (minutes is not None and float(rest) >= 60)
    if isinstance(value, bool) or not math.isfinite(time) or carried:
        raise QuestionError(f"its time {value!r} is no time stamp such as 00:03:20, and no number of seconds")
    return time


def moment(at: Part, *, before: float | None = 0.0) -> Callable[[Raw], float]:
    """The moment that a part of a row names, in seconds, or ``before`` seconds earlier, but not before the video
    starts; with ``None``, the start of the video."""

    def time(row: Raw) -> float:
        return 0.0 if before is None else max(0.0, seconds(take(row, at)) - before)

    return time


def questions(row: Raw) -> list[Raw]:
    """The questions of a row of StreamingBench's files, each with the columns of its video and these:

    ``stem``, the name of the video's file; ``part``, the word in the name of the annotations' file; ``now``, the time
    at which it is asked; ``ask``, which is ``once`` unless it is asked every second (``every_second``); ``earlier``.

    A row is a video with ``questions``, or a list of these. A list is one conversation: ``earlier`` has the questions
    before, with the right answers, as the authors' script tells them to the model.

    Raises:
        QuestionError: an answer is due before its question is posed.
    """
    videos = row.get("value", [row])
    part = PurePosixPath(row[FILE]).stem.partition("_")[2]
    asked: list[Raw] = []
    earlier: list[str] = []
    for video in videos:
        stem = PurePosixPath(video["video_path"]).stem
        for question in video["questions"]:
            one = {**question, "stem": stem, "part": part, "earlier": "\n".join(earlier)}
            if "ground_truth_time_stamp" in one:
                asked += every_second(one, "time_stamp", "ground_truth_time_stamp")
            else:
                asked.append({**one, "ask": "once", "now": one["time_stamp"]})
            if "value" in row:
                listed = "; ".join(one["options"])
                earlier.append(f"At {one['time_stamp']}: {one['question']} ({listed}) Answer: {one['answer']}")
    return asked


def whole_options(row: Raw) -> list[str]:
    """The options of a row of StreamingBench. Where there are more than four, a line without a letter belongs to the
    option before it (the rule ``JOINED``), and the first four options are asked, as in the authors' script.

    Raises:
        QuestionError: a letter stands before two of them.
    """
    whole: list[str] = []
    many = len(row["options"]) > 4
    for line in row["options"]:
        if not many or not whole or split_option(line)[0]:
            whole.append(line)
        elif line.strip():
            whole[-1] += f" {line.strip()}"
    letters = [letter for option in whole[:4] if (letter := split_option(option)[0])]
    if len(set(letters)) < len(letters):
        raise QuestionError(f"its options have the letters {', '.join(letters)}")
    return whole[:4]


def repair_of(row: Raw) -> str:
    """The rule that mended the options of a row; see ``whole_options``."""
    return JOINED if len(row["options"]) > 4 else ""


def forward(task: str, words: str) -> str:
    """What is asked at each point of a forward task of OVO-Bench, in words of ours; other tasks are asked as they are.

    ``REC`` counts a repeated action, ``SSR`` asks whether a step is under way, and ``CRR`` whether a question could be
    answered by now.
    """
    return _FORWARD.get(task, "{words}").format(words=words)


def forward_rows(video: Part, **parts: Any) -> Callable[[Raw], Iterable[Question | Refused]]:
    """Shape of the forward rows of OVO-Bench, which are asked at each point of their ``test_info``.

    A point has ``realtime`` and ``count``, or ``type`` (1: the answer is Yes). The column ``n`` is its place, from 0.

    Args:
        video: where a point has its video.
        parts: as in ``choice``.
    """
    point: dict[str, Any] = {"id": "{id}_{n}", "question": _asked, "video": video, **parts}
    says = plain(answer=lambda row: {0: "No", 1: "Yes"}[row["type"]], task="boolean", **point)
    shapes = {"REC": plain(answer="count", task="numerical", **point), "SSR": says, "CRR": says}
    return each(lambda row: [{**one, "n": n} for n, one in enumerate(row["test_info"])], by_kind("task", shapes))


def _asked(row: Raw) -> str:
    words = {"REC": "How many times did they {activity}?", "SSR": "{step}", "CRR": "{question}"}[row["task"]]
    return forward(row["task"], take(row, words))


def every_second(row: Raw, start: Part, due: Part, *, after: int = 4, tolerance: int = 2) -> list[Raw]:
    """The moments at which a question is asked that should be answered as soon as it can be.

    From one second after it is posed until ``after`` seconds after its answer is due, it is asked every second whether
    it is time to answer: the column ``ask`` is ``when``. Where the moment is within ``tolerance`` of the one that is
    due, the question itself is asked too, and ``ask`` is ``what``. ``now`` is the moment and ``due`` the one that is
    due, in seconds; ``is_due`` is Yes or No.

    Raises:
        QuestionError: a time cannot be read, or the answer is due before the question is posed.
    """
    first, last = seconds(take(row, start)), seconds(take(row, due))
    if last < first:
        raise QuestionError(f"its answer is due at {last:g} s, before it is posed at {first:g} s")
    asked: list[Raw] = []
    for step in range(1, math.floor(last + after - first) + 1):
        near = abs(first + step - last) <= tolerance
        columns = {**row, "now": first + step, "due": last, "is_due": "Yes" if near else "No"}
        asked += [{**columns, "ask": ask} for ask in (("when", "what") if near else ("when",))]
    return asked


def in_time(group: Sequence[Answered], *, tolerance: float = 2.0) -> float:
    """Whether the first "yes" to the question when to answer comes within ``tolerance`` seconds of the moment that is
    due. Facets: ``ask`` and ``now`` as ``every_second`` makes them, and ``due`` in seconds. Without a "yes" it is 0."""
    now = _first_yes(group)
    return float(now is not None and abs(now - float(group[0].facet("due"))) <= tolerance)


def right_in_time(group: Sequence[Answered], *, tolerance: float = 2.0) -> float:
    """As ``in_time``, and the answer that the model gives at that moment is right as well."""
    if not in_time(group, tolerance=tolerance):
        return 0.0
    now = _first_yes(group)
    answers = [one for one in group if one.facet("ask") == "what" and float(one.facet("now")) == now]
    return float(any(one.accuracy >= 1.0 for one in answers))


def _first_yes(group: Iterable[Answered]) -> float | None:
    said = [float(one.facet("now")) for one in group if one.facet("ask") == "when" and _says_yes(one)]
    return min(said, default=None)


def _says_yes(answered: Answered) -> bool:
    return answered.response is not None and not answered.failed and answered.response.score.parsed == "yes"
