"""Metamorphic relations: changes of a question or a response that must leave its score as it is.

Each takes ``(response, answer, options)`` and returns them changed, or ``None`` where it does not apply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Asked = tuple[str, str, tuple[str, ...]]

#: Exactly one closed tag and nothing else that looks like one: elsewhere the changes below would change the meaning.
_ONE_TAG = re.compile(
    r"\A((?:(?!</?answer>).)*<answer>)((?:(?!</?answer>).)*)(</answer>(?:(?!</?answer>).)*)\Z", re.DOTALL
)
_LONGEST = 5000


@dataclass(frozen=True, slots=True)
class Relation:
    """A change that must not matter to accuracy, nor to format unless ``keeps_format`` is off.

    One that ``moves`` coordinates applies only to rows without further columns (a mask would have to move as well).
    """

    change: Callable[[str, str, tuple[str, ...]], Asked | None]
    says: str
    keeps_format: bool = True
    moves: bool = False


def _inside(change: Callable[[str], str | None]) -> Callable[[str, str, tuple[str, ...]], Asked | None]:
    """A change of what stands inside the one tag of a response."""

    def changed(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
        match = _ONE_TAG.match(response) if len(response) <= _LONGEST else None
        content = change(match.group(2)) if match and match.group(2).strip() else None
        return (
            None if match is None or content is None else (match.group(1) + content + match.group(3), answer, options)
        )

    return changed


def _thinking(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    if "think>" in response.lower() or not _ONE_TAG.match(response[:_LONGEST]):
        return None
    return f"<think>I look at it twice. The answer is unclear.</think>\n{response}", answer, options


def _words_after(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    return (f"{response}\nThat is all.", answer, options) if _ONE_TAG.match(response[:_LONGEST]) else None


def _earlier_tag(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    match = _ONE_TAG.match(response[:_LONGEST])
    if match is None or "think>" in response.lower() or len(response) > _LONGEST:
        return None
    return f"<answer>I am not sure yet</answer> {response}", answer, options


def _tag_in_capitals(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    if not _ONE_TAG.match(response[:_LONGEST]):
        return None
    return response.replace("<answer>", "<ANSWER>").replace("</answer>", "</ANSWER>"), answer, options


def _wrapped_reference(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    return None if "<answer>" in answer else (response, f"<answer>{answer}</answer>", options)


def _fullwidth(content: str) -> str | None:
    return "".join(chr(ord(sign) + 0xFEE0) if sign.isascii() and sign.isalnum() else sign for sign in content)


def _reversed_options(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
    """The options in the opposite order under new letters; the letters of response and reference go with them."""
    letters = [option[0] for option in options]
    match = _ONE_TAG.match(response) if len(response) <= _LONGEST else None
    if match is None or not options or not re.fullmatch(r"[\s(\[A-Z,)\].*]+", match.group(2)):
        return None
    new = dict(zip(letters, reversed(letters), strict=True))

    def moved(text: str) -> str:
        return re.sub(r"[A-Z]", lambda letter: new.get(letter.group(), letter.group()), text)

    shuffled = tuple(f"{letter}{option[1:]}" for letter, option in zip(letters, reversed(options), strict=True))
    return match.group(1) + moved(match.group(2)) + match.group(3), moved(answer), shuffled


def _json_content(content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _spread_json(content: str) -> str | None:
    data = _json_content(content)
    return json.dumps(data, indent=2) if isinstance(data, dict | list) else None


def _reordered_json(content: str) -> str | None:
    data = _json_content(content)
    return json.dumps(_reordered(data)) if isinstance(data, dict) else None


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(entry) for key, entry in reversed(value.items())}
    return value


def _fenced(content: str) -> str | None:
    return f"```json\n{content}\n```" if isinstance(_json_content(content), dict) else None


def _both_json(change: Callable[[Any], Any]) -> Callable[[str, str, tuple[str, ...]], Asked | None]:
    """The same change of the coordinates of response and reference."""

    def changed(response: str, answer: str, options: tuple[str, ...]) -> Asked | None:
        match = _ONE_TAG.match(response) if len(response) <= _LONGEST else None
        mine, theirs = _json_content(match.group(2)) if match else None, _json_content(answer)
        if match is None or not isinstance(mine, dict) or not isinstance(theirs, dict):
            return None
        return match.group(1) + json.dumps(change(mine)) + match.group(3), json.dumps(change(theirs)), options

    return changed


def _pairs(value: Any, change: Callable[[float, float], tuple[float, float]]) -> Any:
    """``change`` of every (x, y) in boxes and points, however they are nested."""
    if isinstance(value, dict):
        return {key: _pairs(entry, change) for key, entry in value.items()}
    if not isinstance(value, list):
        return value
    flat = len(value) in (2, 4) and all(type(entry) in (int, float) for entry in value)
    if not flat:
        return [_pairs(entry, change) for entry in value]
    return [side for at in range(0, len(value), 2) for side in change(value[at], value[at + 1])]


def _spatially(change: Callable[[float, float], tuple[float, float]]) -> Callable[[Any], Any]:
    def changed(data: Any) -> Any:
        return {key: value if key == "time" else _pairs(value, change) for key, value in data.items()}

    return changed


def _later(data: Any) -> Any:
    """Every time ten seconds later, the keys of seconds too."""
    later = dict(data)
    time = data.get("time")
    if isinstance(time, list):
        later["time"] = _pairs(time, lambda a, b: (a + 10, b + 10))
    if type(time) in (int, float):
        later["time"] = time + 10
    if isinstance(data.get("boxes"), dict):
        later["boxes"] = {
            f"{float(key) + 10:g}" if re.fullmatch(r"\d+(?:\.\d+)?", key) else key: box
            for key, box in data["boxes"].items()
        }
    return later


#: Every relation by name.
RELATIONS: Mapping[str, Relation] = MappingProxyType(
    {
        "thinking first": Relation(_thinking, "reasoning before the answer changes nothing"),
        "words after": Relation(_words_after, "words after the tag change nothing"),
        "an earlier tag": Relation(_earlier_tag, "the last tag counts"),
        "tag in capitals": Relation(_tag_in_capitals, "the case of the tag changes nothing"),
        "blanks inside": Relation(_inside(lambda content: f"\n  {content} \n"), "blanks around the answer are nothing"),
        "bold": Relation(_inside(lambda content: f"**{content.strip()}**"), "Markdown emphasis changes nothing", False),
        "full stop": Relation(_inside(lambda content: f"{content.rstrip('.')}."), "a full stop changes nothing", False),
        "lower case": Relation(_inside(str.lower), "case changes nothing", False),
        "upper case": Relation(_inside(str.upper), "case changes nothing", False),
        "full width": Relation(_inside(_fullwidth), "full-width signs are the same signs", False),
        "wrapped reference": Relation(_wrapped_reference, "a reference may stand in a tag"),
        "reversed options": Relation(_reversed_options, "the order of the options changes nothing"),
        "spread JSON": Relation(_inside(_spread_json), "the layout of JSON changes nothing"),
        "reordered JSON": Relation(_inside(_reordered_json), "the order of keys changes nothing"),
        "fenced JSON": Relation(_inside(_fenced), "a Markdown fence changes nothing", False),
        "half the size": Relation(
            _both_json(_spatially(lambda x, y: (x / 2, y / 2))),
            "overlap does not depend on the size of the picture",
            moves=True,
        ),
        "mirrored": Relation(
            _both_json(_spatially(lambda x, y: (y, x))),
            "overlap does not depend on the direction of the axes",
            moves=True,
        ),
        "ten seconds later": Relation(_both_json(_later), "when the clip begins changes nothing", moves=True),
    }
)
