"""Rows as other frameworks write them become rows of the published format, and options of any form become ``A. text``.

- ``messages``: the conversations of TRL, ms-swift and transformers: a list of ``{"role", "content"}`` in ``messages``
  or ``prompt``, content as text or as parts (``{"type": "image", "image": ...}``), media also in ``images`` and
  ``videos``, the reference in ``solution``, ``answer`` or ``ground_truth``.
- ``conversations``: LLaVA and ShareGPT: ``[{"from": "human", "value": ...}, {"from": "gpt", ...}]`` with ``image`` or
  ``video``.
- ``verl``: ``prompt`` as messages, the reference in ``reward_model.ground_truth``, the rest in ``extra_info``.
- ``events``: an event of a video (``data/event_files.py``), or a row of the Hub with ``video``, ``caption`` and
  ``timestamp``: the sentence is the question, of temporal grounding.
- ``published``: as it is, EasyR1's own rows included.

A final turn of the assistant is the reference if the row has no other; otherwise the turn is an offline trajectory.
System turns are kept in the column ``system`` and not shown: the system prompt of a run is ``prompts.system``.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from easyvideor1.data.bad_rows import RowError
from easyvideor1.registry import load_attribute
from easyvideor1.types import ConfigError

Row = Mapping[str, Any]

#: Roles by the names that formats give them.
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_REFERENCES = ("solution", "answer", "ground_truth", "label")
_TASKS = ("problem_type", "task", "task_type")
#: Columns of the sentence of an event.
_SENTENCES = ("sentence", "caption", "query")
#: Columns of a question or its reference, under the names that people give them: a row with one of them is no event.
_ASKED = ("problem", "question", "instruction", "prompt", "gt", "response", *_REFERENCES)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the published columns, as configured in ``data``."""

    question: str
    answer: str
    images: str
    videos: str


def published(row: Row, columns: Columns) -> dict[str, Any]:
    """The row unchanged."""
    return dict(row)


def messages(row: Row, columns: Columns) -> dict[str, Any]:
    """Messages of TRL, ms-swift and transformers."""
    name = "messages" if row.get("messages") is not None else "prompt"
    return _conversation(row, columns, name, role="role", text="content")


def conversations(row: Row, columns: Columns) -> dict[str, Any]:
    """Conversations of LLaVA and ShareGPT."""
    out = _conversation(row, columns, "conversations", role="from", text="value")
    if out.get(columns.videos) and not out.get(columns.images) and "<video>" not in out[columns.question]:
        # LLaVA-Video marks videos with the placeholder of images.
        out[columns.question] = out[columns.question].replace("<image>", "<video>")
    return out


def verl(row: Row, columns: Columns) -> dict[str, Any]:
    """Rows of verl's Parquet files."""
    model, extra = row.get("reward_model"), row.get("extra_info")
    if not isinstance(model, Mapping) or model.get("ground_truth") is None:
        raise RowError("reward_model", "has no ground_truth", 'write {"ground_truth": the reference answer}')
    rest = {name: value for name, value in row.items() if name not in ("reward_model", "extra_info", *_REFERENCES)}
    info = {name: value for name, value in extra.items() if name not in rest} if isinstance(extra, Mapping) else {}
    index = info.get("index")
    if index is not None and "problem_id" not in rest:
        place = [str(part) for part in (row.get("data_source"), info.get("split"), index) if part not in (None, "")]
        info["problem_id"] = "-".join(place)
    taken = {"question", *_REFERENCES, columns.question, columns.answer}
    kept = {name: value for name, value in info.items() if name not in taken}
    return _conversation({**kept, **rest, "ground_truth": model["ground_truth"]}, columns, "prompt", "role", "content")


def events(row: Row, columns: Columns) -> dict[str, Any]:
    """Events of a video, each a sentence and a span in seconds; asked for as benchmarks of moments do."""
    sentence = next((name for name in _SENTENCES if isinstance(row.get(name), str)), "sentence")
    said = " ".join(str(row.get(sentence) or "").split()).rstrip(". ")
    if not said:
        raise RowError(sentence, "is blank", "write what happens, or remove the event")
    span = row.get("timestamp")
    numbers = [each for each in span if isinstance(each, int | float)] if isinstance(span, list) else []
    if len(numbers) != 2 or len(span or ()) != 2:
        raise RowError("timestamp", f"is {span!r}, not a span", "write [start, end] in seconds")
    start, end = numbers
    if end <= start:
        raise RowError("timestamp", f"ends at {end} s, not after its start at {start} s", "correct or remove the event")
    duration = row.get("duration")
    if isinstance(duration, int | float) and start >= duration:
        what = f"starts at {start} s, but the video has {duration} s"
        raise RowError("timestamp", what, "correct or remove the event")
    taken = {"video", "event", "timestamp", sentence}
    out = {name: value for name, value in row.items() if name not in taken}
    name = [str(row.get("video")), *([str(row["event"])] if "event" in row else [])]
    out.setdefault("problem_id", "-".join(name if "event" in row else [*name, f"{start:g}", f"{end:g}"]))
    out[columns.question] = f'When does this happen in the video? "{said}"'
    out[columns.videos] = [row.get("video")]
    out[columns.answer] = {"time": [start, end]}
    out.setdefault("problem_type", "temporal grounding")
    return out


FORMATS: Mapping[str, Callable[[Row, Columns], dict[str, Any]]] = MappingProxyType(
    {
        "published": published,
        "messages": messages,
        "conversations": conversations,
        "verl": verl,
        "events": events,
    }
)


def detect_format(row: Row, columns: Columns) -> str:
    """The format of a row, recognised by its columns."""
    if row.get(columns.question) is not None and isinstance(row[columns.question], str):
        return "published"
    if isinstance(row.get("conversations"), list):
        return "conversations"
    if isinstance(row.get("prompt"), list) and isinstance(row.get("reward_model"), Mapping):
        return "verl"
    if isinstance(row.get("messages"), list) or isinstance(row.get("prompt"), list):
        return "messages"
    asked = any(row.get(name) is not None for name in (*_ASKED, columns.answer))
    if not asked and isinstance(row.get("timestamp"), list) and any(name in row for name in _SENTENCES):
        return "events"
    return "published"


class Format:
    """Converts the rows of one source to the published format.

    Args:
        name: ``auto``, a format of ``FORMATS``, or ``module:attr`` of a function from a raw row to one of ours.
        task: task type of rows without one; empty for none.
        columns: names of the published columns.

    Raises:
        ConfigError: there is no such format or function.
    """

    def __init__(self, name: str, task: str, columns: Columns) -> None:
        self._name = name
        self._task = task
        self._columns = columns
        self._own: Callable[..., Any] | None = None
        if ":" in name:
            self._own = load_attribute(name, "format")
        elif name != "auto" and name not in FORMATS:
            raise ConfigError(
                f"unknown format {name!r} of a source: known are auto, {', '.join(FORMATS)}. For your own, write "
                "'module:attr', a function from a raw row to a published one."
            )

    def __call__(self, row: Row) -> dict[str, Any]:
        """The row in the published format.

        Raises:
            RowError: the row cannot be converted.
        """
        if self._own is not None:
            out = self._converted(row)
        else:
            name = detect_format(row, self._columns) if self._name == "auto" else self._name
            out = FORMATS[name](row, self._columns)
        # Data frames store gaps as NaN. In a reference NaN is an error, which is reported later.
        for column, value in out.items():
            if isinstance(value, float) and math.isnan(value) and column not in (self._columns.answer, "solution"):
                out[column] = None
        if self._task and out.get("problem_type") is None:
            out["problem_type"] = self._task
        return out

    def _converted(self, row: Row) -> dict[str, Any]:
        assert self._own is not None
        try:
            out = self._own(dict(row))
        except RowError:  # it says what is wrong with the row
            raise
        except Exception as error:
            what = f"the format {self._name!r} raised {type(error).__name__}: {error}"
            raise RowError("", what, "correct the function, or the row") from error
        if not isinstance(out, Mapping):
            what = f"the format {self._name!r} returned {type(out).__name__}, not a row"
            raise RowError("", what, 'return a mapping such as {"problem": ..., "answer": ..., "problem_type": ...}')
        return dict(out)


def _conversation(row: Row, columns: Columns, name: str, role: str, text: str) -> dict[str, Any]:
    turns = row.get(name)
    if not isinstance(turns, list) or not turns:
        raise RowError(name, "is not a list of turns", f'write [{{"{role}": "user", "{text}": ...}}]')
    out = {key: value for key, value in row.items() if key not in (name, "id", "image", "video")}
    images = [*_listed(row.get(columns.images)), *_listed(row.get("image"))]
    videos = [*_listed(row.get(columns.videos)), *_listed(row.get("video"))]
    spoken: list[tuple[str, str]] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or not isinstance(turn.get(role), str):
            raise RowError(name, f"turn {number} has no {role}", f'write {{"{role}": "user", "{text}": ...}}')
        who = _ROLES.get(turn[role].casefold())
        if who is None:
            raise RowError(name, f"turn {number} is of {turn[role]!r}", f"known are {', '.join(sorted(_ROLES))}")
        spoken.append((who, _turn_text(turn.get(text), name, number, images, videos)))
    systems = [said for who, said in spoken if who == "system"]
    asked = [said for who, said in spoken if who == "user"]
    ends = spoken[-1][1] if spoken[-1][0] == "assistant" else None
    if len(asked) != 1 or sum(who == "assistant" for who, _ in spoken) != (ends is not None):
        what = f"is a conversation with {len(asked)} questions; only one question with one answer is supported"
        raise RowError(name, what, "write one row per question, with the earlier turns in its text")
    out[columns.question] = asked[0]
    if images:
        out[columns.images] = images
    if videos:
        out[columns.videos] = videos
    if systems:
        out.setdefault("system", "\n".join(systems))
    if row.get("id") is not None:
        out.setdefault("problem_id", row["id"])
    reference = next((key for key in (columns.answer, *_REFERENCES) if out.get(key) is not None), None)
    if reference is not None:
        out[columns.answer] = out.pop(reference)
        if ends and out.get("offline_output") is None:
            out["offline_output"] = ends
    elif ends is not None:
        out[columns.answer] = ends
    task = next((key for key in _TASKS if isinstance(out.get(key), str)), None)
    if task is not None:
        out["problem_type"] = out.pop(task)
    return out


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _turn_text(content: Any, name: str, number: int, images: list[Any], videos: list[Any]) -> str:
    """The text of a turn; media parts are appended to the lists and become placeholders."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise RowError(name, f"turn {number} is {type(content).__name__}", "write text, or a list of parts")
    pieces = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            pieces.append(part)
        elif kind == "text" and isinstance(part.get("text"), str):
            pieces.append(part["text"])
        elif kind in ("image", "image_url", "video", "video_url"):
            medium = part.get(kind, part.get(kind.removesuffix("_url")))
            if medium is not None:  # else a placeholder for a medium in the list of the row
                options = {key: value for key, value in part.items() if key not in ("type", kind, "image", "video")}
                medium = medium.get("url") if isinstance(medium, Mapping) and "url" in medium else medium
                kept = {name: value for name, value in options.items() if value is not None}
                (images if kind.startswith("image") else videos).append(
                    {kind.removesuffix("_url"): medium, **kept} if kept else medium
                )
            pieces.append("<image>" if kind.startswith("image") else "<video>")
        else:
            what = f"turn {number} has a part of the type {kind!r}"
            raise RowError(name, what, "known are text, image and video")
    return "".join(pieces)


#: ``A. text``, ``A) text``, ``A: text`` or ``(A) text``.
_LETTERED = re.compile(r"\s*(?:\((?P<round>[A-Z])\)|(?P<plain>[A-Z])\s*[.):\uff1a])\s*(?P<text>.*?)\s*", re.DOTALL)
_KEY = re.compile(r"\(?(?P<letter>[A-Za-z])[.):]?")
_REMEDY = "letter all options in the form 'A. text' with the first letters of the alphabet, or none of them"


def split_option(option: str) -> tuple[str, str]:
    """The letter and the text of an option; the letter is empty if there is none."""
    match = _LETTERED.fullmatch(option)
    if match is None:
        return "", option.strip()
    return match["round"] or match["plain"], match["text"]


def listed_options(value: Any) -> list[Any]:
    """The options of a row as a list, from a list, a mapping from letters to texts, or either as JSON text.

    A mapping gives ``A. text`` for each letter; letters whose text is null are skipped.

    Raises:
        RowError: it is none of these, or a key of the mapping is not a letter.
    """
    remedy = 'write them as ["A. red", "B. blue"], or null for none'
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError("options", f"is not valid JSON: {error}", remedy) from None
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return [_of_letter(str(key), text) for key, text in value.items() if text is not None]
    if not isinstance(value, list):
        raise RowError("options", f"is {value!r}, not a list", remedy)
    return value


def _of_letter(key: str, text: Any) -> str:
    found = _KEY.fullmatch(key.strip())
    if found is None:
        what = f"is a mapping with the key {key!r}, which is not a letter"
        raise RowError("options", what, 'write it as {"A": "red", "B": "blue"}, or as a list')
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise RowError("options", f"option {key!r} is {text!r}, not text", "write its text or remove it")
    letter = found["letter"].upper()
    own, rest = split_option(str(text))
    return f"{letter}. {rest if own == letter else text}"


def letter_options(texts: list[str]) -> tuple[str, ...]:
    """The options in the form ``A. text``, in their given order.

    Options with letters keep them (a row may list ``B`` before ``A``); options without letters get ``A``, ``B``, ... in
    order; single letters (``["A", "B"]``, if an image shows the texts) become ``A. A``.

    Raises:
        RowError: an option is blank, only some have letters, the letters are not the first ones of the
            alphabet, or there are more than 26.
    """
    if not texts:
        return ()
    alphabet = string.ascii_uppercase[: len(texts)]
    if len(texts) > len(string.ascii_uppercase):
        raise RowError("options", f"{len(texts)} options, but there are only 26 letters", "split the question")
    for number, text in enumerate(texts, start=1):
        if not split_option(text)[1]:
            raise RowError("options", f"option {number} is blank ({text!r})", "write its text or remove it")
    if sorted(text.strip() for text in texts) == list(alphabet):
        return tuple(f"{text.strip()}. {text.strip()}" for text in texts)
    pairs = [split_option(text) for text in texts]
    letters = [letter for letter, _ in pairs if letter]
    if not letters:
        return tuple(f"{letter}. {text}" for letter, (_, text) in zip(alphabet, pairs, strict=True))
    if len(letters) < len(texts):
        raise RowError("options", f"only {len(letters)} of {len(texts)} options have a letter", _REMEDY)
    if sorted(letters) != list(alphabet):
        raise RowError("options", f"the options have the letters {', '.join(letters)}", _REMEDY)
    return tuple(f"{letter}. {text}" for letter, text in pairs)
