"""Boxes and points as vision-language models write them, and boxes by second.

Qwen2-VL writes ``<|box_start|>(x1,y1),(x2,y2)<|box_end|>``, always on the scale 0-1000. Qwen2.5-VL writes
``{"bbox_2d": [x1, y1, x2, y2], "label": ...}`` in pixels of the picture it is shown, and Qwen3-VL the same on 0-1000:
the form does not say which, so ``rewards.coordinates`` or the row's column ``coordinates`` does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.readers import geometry
from easyvideor1.rewards.readers.geometry import Box, Point
from easyvideor1.rewards.readers.json_answers import (
    MENTIONED,
    SEVERAL,
    NoAnswerError,
    load_lenient,
    read_json_answer,
    read_json_reply,
)
from easyvideor1.rewards.readers.time_spans import seconds_of
from easyvideor1.rewards.types import Reading, unread

NO_BOX = "no box was found"
TURNED = "a box has its corners the wrong way round"
TOO_MANY = "too many boxes are given"

BOX_KEYS = ("bbox_2d", "bbox", "box", "bounding_box", "boundingbox", "bounding_boxes", "boxes", "bboxes", "bbox_list")
_HOLDERS = (*BOX_KEYS, "objects", "detections", "answer", "result")
_SIDES = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
SECOND_KEYS = ("time", "second", "seconds", "timestamp", "t", "sec", "time_stamp")
_DEEPEST = 5
_NUMBER = r"\s*+[-+]?(?:\d{1,9}(?:\.\d{0,18})?|\.\d{1,18})\s*+"
_PAIR = rf"\({_NUMBER},{_NUMBER}\)"
_TOKENS = re.compile(
    rf"(?:<\|box_start\|>|<box>)\s*+({_PAIR})\s*+,?\s*+({_PAIR})\s*+(?:<\|box_end\|>|</box>)", re.IGNORECASE
)
#: Tags of other models around the same JSON; they do not tell the scale.
_TAGGED = re.compile(rf"\s*+<(box|bbox)>\s*+(\[*+{_NUMBER}(?:,{_NUMBER}){{3}}\]*+)\s*+</\1>\s*+", re.IGNORECASE)
#: Four numbers and the name of what they are, without brackets: "bbox: 1, 2, 3, 4", "1 2 3 4".
_PLAIN = r"([-+]?\d{1,9}(?:\.\d{0,18})?)"
_FOUR = re.compile(
    r"\s*+(?:(?:the\s++)?(?:bbox(?:_2d)?|box|bounding\s?box|coordinates)\s*+(?:is|are|[:=])\s*+)?+"
    + r"(?:\s*+,\s*+|\s++)".join([_PLAIN] * 4)
    + r"\.?+\s*+",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"<\|box_start\|>|<box>", re.IGNORECASE)
_OBJECT = re.compile(r"<\|object_ref_start\|>[^<]*+<\|object_ref_end\|>|<ref>[^<]*+</ref>|<\|im_end\|>", re.IGNORECASE)
_OR = re.compile(r"\b(?:or|either|maybe|perhaps)\b|\u6216", re.IGNORECASE)
_CORNERS = re.compile(
    rf"[^()\[\]\d]{{0,60}}[(\[]({_NUMBER},{_NUMBER})[)\]]\s*+[,;.]?+\s*+(?:to|and|-|\u2013|\u2192|->)?\s*+(?:the\s)?"
    rf"(?:bottom|lower)?[-\s]?(?:right)?\s?(?:corner)?\s?(?:at|is|=|:)?\s*+[(\[]({_NUMBER},{_NUMBER})[)\]]\W*+",
    re.IGNORECASE,
)
#: "second 3", "t = 3": what may stand before a time that is a key.
_BEFORE = re.compile(r"\s*+(?:second|sec|t|time)\s*+[=_:]?\s*+(?=[\d.])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TokenBoxes:
    """Boxes between the box tokens of Qwen2-VL: on the scale 0-1000 whatever scale was asked for."""

    boxes: tuple[Box, ...]

    def __str__(self) -> str:
        return str(self.boxes)


def read_boxes(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"boxes": [x1, y1, x2, y2]}`` or a list of boxes; the form that is asked for.

    Understood as well: bare lists, the forms of the module's docstring, objects with the sides of a box by name, two
    corners as points, and nearly-JSON of these. A box with its corners the wrong way round is not an answer, and
    neither is a text with two different answers.
    """
    if (tagged := _TAGGED.fullmatch(text)) is not None:
        text = tagged[2]
    if _TOKEN.search(text):
        return _read_tokens(text)
    reading = read_json_answer(text, boxes_of, NO_BOX, _asked)
    if reading.value is None and reading.reason == NO_BOX and len(text) <= 300:
        if (four := _FOUR.fullmatch(text)) is not None:
            return _reading_of([float(number) for number in four.groups()])
        corners = _CORNERS.fullmatch(text)
        if corners is not None:
            return _reading_of(load_lenient(f"[{corners[1]},{corners[2]}]"))
    return reading


def read_boxes_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    """A reply without a tag: box tokens and nothing else but a short lead-in, or JSON at its end."""
    if _TAGGED.fullmatch(text) or _FOUR.fullmatch(text):
        return read_boxes(text, options) or unread(NO_BOX)
    if tokens := list(_TOKENS.finditer(text)):
        outside = _OBJECT.sub(" ", f"{text[: tokens[0].start()]} {text[tokens[-1].end() :]}")
        return _read_tokens(text) if len(outside) <= 300 and "\n" not in outside.strip() else unread(MENTIONED)
    return read_json_reply(text, lambda whole: read_boxes(whole, options) or unread(NO_BOX), NO_BOX)


def _reading_of(data: Any) -> Reading:
    try:
        return Reading(boxes_of(data), canonical=False)
    except NoAnswerError as error:
        return unread(str(error))


def _read_tokens(text: str) -> Reading:
    pairs = [load_lenient(f"[{match[1]},{match[2]}]") for match in _TOKENS.finditer(text)]
    if not pairs:
        return unread("a box token holds no box")
    rest = _OBJECT.sub(" ", _TOKENS.sub(" ", text))
    if _OR.search(rest) or read_json_answer(rest, boxes_of, NO_BOX, _asked).value is not None:
        return unread(SEVERAL)
    reading = _reading_of(pairs)
    return reading if reading.value is None else Reading(TokenBoxes(reading.value), canonical=False)


def _asked(data: Any) -> tuple[Box, ...] | None:
    return geometry.one_or_more(data.get("boxes"), geometry.box) if isinstance(data, dict) else None


def box_of(data: Any) -> Box:
    """One box of JSON: four numbers, two corners, sides by name, or an object that holds one of these.

    Raises:
        NoAnswerError: it is not a box.
    """
    found = _boxes(data, _DEEPEST)
    if len(found) != 1:
        raise NoAnswerError("one box is asked for and several are given")
    return found[0]


def boxes_of(data: Any) -> tuple[Box, ...]:
    """The boxes that JSON holds.

    Raises:
        NoAnswerError: there are none or too many, or one of them cannot be read.
    """
    return _boxes(data, _DEEPEST)


def _boxes(data: Any, depth: int) -> tuple[Box, ...]:
    if depth == 0:
        raise NoAnswerError(NO_BOX)
    if isinstance(data, Mapping):
        return _boxes_of_object(data, depth)
    if isinstance(data, str) and len(data) <= 200 and data.strip()[:1] in ("[", "("):
        data = load_lenient(data)
    if not isinstance(data, list) or not data:
        raise NoAnswerError(NO_BOX)
    if len(data) == 4 and None not in (sides := [_side(entry) for entry in data]):
        return (_box(sides),)
    if len(data) == 2 and None not in (corners := [point_of(entry) for entry in data]):
        return (_box([side for corner in corners if corner is not None for side in corner]),)
    if len(data) > geometry.MOST_ITEMS:
        raise NoAnswerError(TOO_MANY)
    found = [_boxes(entry, depth - 1) for entry in data]
    if any(len(boxes) != 1 for boxes in found):
        raise NoAnswerError(NO_BOX)
    return tuple(boxes[0] for boxes in found)


def _boxes_of_object(data: Mapping[Any, Any], depth: int) -> tuple[Box, ...]:
    keyed = names_of(data)
    for names in _SIDES:
        if all(name in keyed for name in names):
            return (_box([_side(keyed[name]) for name in names]),)
    for names in _SIZES:
        if all(name in keyed for name in names):
            x, y, width, height = (_side(keyed[name]) for name in names)
            if x is None or y is None or width is None or height is None:
                raise NoAnswerError(NO_BOX)
            return (_box([x, y, x + width, y + height]),)
    found: list[tuple[Box, ...]] = []
    for name in _HOLDERS:
        if name in keyed and (boxes := _boxes(keyed[name], depth - 1)) not in found:
            found.append(boxes)
    if len(found) != 1:
        raise NoAnswerError(SEVERAL if found else NO_BOX)
    return found[0]


def names_of(data: Mapping[Any, Any]) -> dict[str, Any]:
    """The values of an object by its keys in small letters, with "_" for blanks and dashes."""
    return {key.strip().lower().replace(" ", "_").replace("-", "_"): data[key] for key in data if isinstance(key, str)}


def _side(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        value = float(value)
    return geometry.number(value)


def _box(sides: list[float | None]) -> Box:
    if None in sides:
        raise NoAnswerError(NO_BOX)
    box = geometry.box(sides)
    if box is None:
        raise NoAnswerError(TURNED)
    return box


def point_of(value: Any) -> Point | None:
    """``[x, y]``, ``{"x": x, "y": y}`` or an object that holds one in ``point_2d`` or ``point``."""
    if isinstance(value, Mapping):
        keyed = names_of(value)
        named = keyed.get("point_2d", keyed.get("point"))
        value = [keyed["x"], keyed["y"]] if "x" in keyed and "y" in keyed else named
    if not isinstance(value, list) or len(value) != 2:
        return None
    x, y = _side(value[0]), _side(value[1])
    return None if x is None or y is None else (x, y)


def second_of(key: Any) -> float | None:
    """A second as a key or value: a number, ``"1.0"``, ``"1.0s"``, ``"00:01"`` or ``"second 1"``."""
    if not isinstance(key, str):
        return geometry.number(key)
    try:
        second = float(key)
    except ValueError:
        return seconds_of(_BEFORE.sub("", key, count=1)) if len(key) <= 60 else None
    return second if math.isfinite(second) else None


def boxes_by_second(data: Any) -> dict[float, Box | None] | None:
    """``{"second": box, ...}``, or a list of objects that each hold a second and a box; ``None`` if it is neither.

    A box that cannot be read is ``None``: its second still counts as predicted. Of two equal keys of an object the
    later counts. Two different boxes for one second of a list are ``None`` as well.
    """
    if isinstance(data, Mapping):
        seconds = {key: second_of(key) for key in data}
        if None in seconds.values():
            return None
        return {second: _claimed(data[key]) for key, second in seconds.items() if second is not None}
    if not isinstance(data, list) or not data:
        return None
    boxes: dict[float, Box | None] = {}
    for entry in data:
        timed = _timed(entry)
        if timed is None:
            return None
        second, box = timed
        boxes[second] = box if boxes.get(second, box) == box else None
    return boxes


def _claimed(data: Any) -> Box | None:
    try:
        return box_of(data)
    except NoAnswerError:
        return None


def _timed(entry: Any) -> tuple[float, Box | None] | None:
    keyed = names_of(entry) if isinstance(entry, Mapping) else {}
    for name in SECOND_KEYS:
        if name in keyed and (second := second_of(keyed[name])) is not None:
            rest = {key: value for key, value in keyed.items() if key != name}
            return (second, _claimed(rest)) if any(key in rest for key in (*BOX_KEYS, "x1", "xmin", "left")) else None
    return None
