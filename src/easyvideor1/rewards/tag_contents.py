"""What stands in the tags before the answer: read, checked against ``rewards.tags``, and measured.

``rewards.grammar`` says which tags there are and ``rewards.tags`` what is in them. The prompt is written from both and
the format reward reads both, so that they ask for the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyvideor1.config.rewards import TagContent
from easyvideor1.rewards.readers.geometry import Span, one_or_more, span
from easyvideor1.rewards.readers.json_answers import load_json
from easyvideor1.rewards.readers.time_spans import read_spans
from easyvideor1.rewards.tags import GrammarConfig, find_tag, split_thinking, tags_before
from easyvideor1.types import ConfigError, Sample

#: ``rewards.tags``: name of an innermost tag -> what stands in it.
TagContents = Mapping[str, TagContent]

#: What ``example_words`` puts into a tag.
_EXAMPLES = {"text": "I look closely.", "span": "0 - 1", "spans": "0 - 1"}


#: A time before the clip; a dash between two times has a time before it.
_NEGATIVE = re.compile(r"(?:^|[\[({,;:]|\bfrom\b|\bto\b)\s*-\s*[\d.]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TagText:
    """A closed tag without tags of its grammar inside: its name in small letters, what it holds, and where."""

    name: str
    text: str
    start: int
    end: int


def check_tag_names(contents: TagContents, grammar: GrammarConfig) -> None:
    """Raises ``ConfigError`` if ``rewards.tags`` names what is no innermost tag of ``rewards.grammar``."""
    paths = [path for run in tags_before(grammar) for path in run.paths]
    inner = {path.rpartition("/")[2].lower() for path in paths}
    for name in contents:
        if name not in inner:
            known = ", ".join(sorted(inner)) or "none; give rewards.grammar a list of tags"
            raise ConfigError(f"rewards.tags.{name}: no innermost tag of rewards.grammar is called so; known: {known}")


def asked_words(contents: TagContents) -> dict[str, str]:
    """What a prompt writes into each tag; a blank for the others."""
    default = {"text": " ", "span": "start - end in seconds", "spans": "start - end in seconds, for each span"}
    return {name: content.asks or default[content.holds] for name, content in contents.items()}


def example_words(contents: TagContents) -> dict[str, str]:
    """Words for each tag that hold what it should, for responses that are made up."""
    return {name: _EXAMPLES[content.holds] for name, content in contents.items()}


def tag_texts(response: str, names: Sequence[str]) -> tuple[TagText, ...]:
    """The innermost of the named tags that stand before the answer, in order; linear in the text.

    A tag counts if its closing is the next of these tags: one that holds another of them, or is never closed, does
    not. Tags inside the answer are part of the answer.
    """
    mark = re.compile(rf"<\s*+(/?)\s*+({'|'.join(map(re.escape, names))})\s*+>", re.IGNORECASE)
    layout = split_thinking(response)
    tagged = find_tag(layout.body)
    before = response if tagged is None else response[: layout.start + tagged.opening]
    found, opening = [], None
    for match in mark.finditer(before):
        name = match[2].lower()
        if not match[1]:
            opening = match
            continue
        if opening is not None and opening[2].lower() == name:
            found.append(TagText(name, before[opening.end() : match.start()], opening.end(), match.start()))
        opening = None
    return tuple(found)


def spans_in(text: str, duration: float | None = None) -> tuple[Span, ...] | None:
    """The time spans that a text gives, in seconds, or ``None`` where it gives none or one outside the clip.

    Args:
        text: "1.5 - 3", "0:12 to 0:15", ``[[1, 2], [4, 5]]``.
        duration: of the clip in seconds; a span may end in the second in which the clip ends.
    """
    reading = read_spans(text.strip(), ())
    if reading is None or reading.value is None or _NEGATIVE.search(text):
        return None
    spans: tuple[Span, ...] = reading.value
    last = math.inf if duration is None else math.ceil(duration)
    return spans if all(0 <= start < end <= last for start, end in spans) else None


def contents_hold(response: str, contents: TagContents, duration: float | None) -> bool:
    """Whether every tag of a well-formed response holds what ``rewards.tags`` says; for the format reward."""
    return all(_holds(found.text, contents[found.name], duration) for found in tag_texts(response, [*contents]))


def _holds(text: str, content: TagContent, duration: float | None) -> bool:
    if content.holds == "text":
        return bool(text.strip())
    spans = spans_in(text, duration)
    return spans is not None and (content.holds == "spans" or len(spans) == 1)


def trace_span_iou(sample: Sample, response: str, *, tag: str = "time", column: str = "evidence") -> float | None:
    """Temporal IoU of the spans that a response writes into a tag before its answer, for ``rewards.parts``.

    ``|P and R| / |P or R|`` in seconds, of the union P of all spans in the tags and the union R of the reference. 0 if
    no span can be read; times outside the clip count against it. Give it the weight 0 to record it without a reward:
    Video-Thinker measures its grounding so and pays for the answer alone.

    Args:
        sample: its column ``column`` is one span ``[start, end]`` in seconds or a list of them; where it is missing,
            the part does not apply.
        response: the whole response.
        tag: the tag that holds spans.
        column: of the reference.
    """
    reference = reference_spans(sample.extra.get(column))
    if reference is None:
        return None
    emitted = [one for found in tag_texts(response, [tag]) for one in spans_in(found.text) or ()]
    return union_iou(emitted, reference)


def reference_spans(value: Any) -> tuple[Span, ...] | None:
    """The spans of a column of a row, or ``None`` if there are none in it."""
    return one_or_more(load_json(value) if isinstance(value, str) else value, span)


def union_iou(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Length of what both cover over the length of what either covers; 0 if neither covers anything."""
    first, second = _length(a), _length(b)
    either = _length([*a, *b])
    return (first + second - either) / either if either > 0 else 0.0


def _length(spans: Sequence[Span]) -> float:
    """Seconds that at least one span covers."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
