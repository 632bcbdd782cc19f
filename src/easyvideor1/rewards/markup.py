"""SVG and HTML: how much of the structure of the reference a document has. What it looks like is judged elsewhere."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from rapidfuzz.distance import LCSseq

from easyvideor1.rewards.answer import Reading, Rule, Verdict, unread

#: Longer documents are no answers; a reference of this size is far beyond what a response holds.
_LIMIT = 200_000
_FENCE = re.compile(r"```[a-zA-Z]*+[ \t]*+\n(.*?)```", re.DOTALL)
_TAG_NAME = re.compile(r"[a-zA-Z][^\s/>]*+")
_TAG_BODY = re.compile(r"(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+(?=>)")
_ATTRIBUTE = re.compile(r"([^\s=/\"'>]++)(?:\s*+=\s*+(\"[^\"]*+\"?|'[^']*+'?|[^\s>]*+))?")
_TOO_LONG = "the document is too long"
_SEVERAL = "several documents are given"
_RAW = {tag: re.compile(f"</{tag}", re.IGNORECASE) for tag in ("script", "style")}


@dataclass(frozen=True, slots=True)
class Document:
    """The tags in order, ``(tag, name, value)`` of every attribute, and the words between."""

    source: str
    tags: tuple[str, ...]
    attributes: tuple[tuple[str, str, str], ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.source


@dataclass(slots=True)
class _Collected:
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def opened(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        tag = tag.rpartition(":")[2]
        self.tags.append(tag)
        self.attributes += [(tag, name, " ".join((value or "").split())) for name, value in attributes]

    def said(self, text: str) -> None:
        self.words += text.casefold().split()


def _tokenize(source: str) -> _Collected:
    """Tags, attributes and words of HTML, as forgiving as a browser and linear in the text.

    The standard library's parser takes quadratic time on tags that are never closed. Here the first tag with a quote
    that never ends, and the first comment that never ends, switch to the plain rule that a tag ends at the next ">"; a
    tag without one ends the document.
    """
    collected = _Collected()
    at, quotes, comments = 0, True, True
    while (start := source.find("<", at)) >= 0:
        collected.said(_unescaped(source[at:start]))
        name = _TAG_NAME.match(source, start + 1)
        if name is None and source[start + 1 : start + 2] not in {"/", "!", "?"}:
            collected.said("<")
            at = start + 1
            continue
        end = -1
        if source.startswith("<!--", start) and comments:
            end = source.find("-->", start) + 2
            end, comments = (end, True) if end > 1 else (-1, False)
        elif name is not None and quotes:
            body = _TAG_BODY.match(source, name.end())
            end, quotes = (body.end(), True) if body else (-1, False)
        if end < 0:
            end = source.find(">", start)
        if end < 0:
            return collected
        at = end + 1
        if name is not None:
            tag = name.group().lower()
            collected.opened(tag, _attributes(source[name.end() : end]))
            if tag in _RAW:
                close = _RAW[tag].search(source, at)
                if close is None:
                    return collected
                at = close.start()
    collected.said(_unescaped(source[at:]))
    return collected


def _attributes(body: str) -> list[tuple[str, str | None]]:
    found = _ATTRIBUTE.finditer(body)
    return [(match.group(1).lower(), _unescaped((match.group(2) or "").strip("\"'"))) for match in found]


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a numeric reference with more digits than Python converts
        return text


def without_fence(text: str) -> str:
    """The last fenced block of a text, or the text."""
    blocks = _FENCE.findall(text)
    return str(blocks[-1] if blocks else text).strip()


def _document(source: str, collected: _Collected) -> Document:
    return Document(source, tuple(collected.tags), tuple(collected.attributes), tuple(collected.words))


def read_svg(text: str, options: tuple[str, ...]) -> Reading | None:
    """A well-formed SVG document, a Markdown fence and words around it aside. Entity declarations are refused."""
    text = without_fence(text)
    start, end = text.find("<svg"), text.rfind("</svg>")
    if len(text) > _LIMIT:
        return unread(_TOO_LONG)
    if start < 0 or end < start:
        return unread("there is no SVG document")
    if "<!ENTITY" in text:
        return unread("the SVG declares entities")
    if text.count("<svg") > 1 and _roots(text, "svg") > 1:
        return unread(_SEVERAL)
    source, collected = text[start : end + len("</svg>")], _Collected()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda tag, attrs: collected.opened(tag, list(attrs.items()))
    parser.CharacterDataHandler = collected.said
    parser.buffer_text = True
    try:
        parser.Parse(source.encode("utf-8", "replace"), True)
    except expat.ExpatError:
        return unread("the SVG is not well-formed")
    return Reading(_document(source, collected))


def _roots(text: str, tag: str) -> int:
    """Documents of one root element that stand side by side."""
    depth = roots = 0
    for match in re.finditer(rf"<(/?){tag}\b[^<>]*+>", text, re.IGNORECASE):
        if match.group().endswith("/>"):
            roots += depth == 0
        elif match.group(1):
            depth = max(0, depth - 1)
        else:
            roots += depth == 0
            depth += 1
    return roots


def _reply(read: Callable[[str, tuple[str, ...]], Reading | None]) -> Callable[[str, tuple[str, ...]], Reading | None]:
    """A reader of replies without a tag: a fenced document, or one with nothing but a line before it."""

    def read_reply(text: str, options: tuple[str, ...]) -> Reading | None:
        if _FENCE.search(text):
            return read(text, options)
        lead, _, rest = text.strip().partition("\n")
        document = rest.strip() if rest and "<" not in lead else text.strip()
        if document.startswith("<") and document.endswith(">"):
            return read(document, options)
        return unread("the reply is no document")

    return read_reply


def read_html(text: str, options: tuple[str, ...]) -> Reading | None:
    """HTML with at least one element, a Markdown fence aside."""
    source = without_fence(text)
    if len(source) > _LIMIT:
        return unread(_TOO_LONG)
    if _roots(source, "html") > 1:
        return unread(_SEVERAL)
    collected = _tokenize(source)
    return Reading(_document(source, collected)) if collected.tags else unread("there is no HTML element")


def _f1(common: int, total: int) -> float:
    return 2 * common / total if total else 1.0


def _bag(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    return _f1((Counter(a) & Counter(b)).total(), len(a) + len(b))


def compare_documents(predicted: Document, reference: Document, row: Mapping[str, Any]) -> Verdict:
    """Mean of four F1: tags as a bag, tags in order (longest common subsequence), attributes, and words.

    Attributes and words count only where the reference has any.
    """
    order = LCSseq.similarity(predicted.tags, reference.tags)
    parts = {
        "tags": _bag(predicted.tags, reference.tags),
        "order": _f1(order, len(predicted.tags) + len(reference.tags)),
    }
    if reference.attributes:
        parts["attributes"] = _bag(predicted.attributes, reference.attributes)
    if reference.words:
        parts["words"] = _bag(predicted.words, reference.words)
    return Verdict(sum(parts.values()) / len(parts), parts)


def _svg_reference(text: str, options: tuple[str, ...]) -> Document:
    reading = read_svg(text, options)
    if reading is None or reading.value is None:
        raise ValueError("it is no well-formed SVG document")
    document: Document = reading.value
    return document


def _html_reference(text: str, options: tuple[str, ...]) -> Document:
    reading = read_html(text, options)
    if reading is None or reading.value is None:
        raise ValueError("it has no HTML element")
    document: Document = reading.value
    return document


SVG = Rule(
    read_svg,
    _svg_reference,
    compare_documents,
    "an SVG document, from <svg ...> to </svg>",
    "block",
    read_reply=_reply(read_svg),
)
HTML = Rule(
    read_html,
    _html_reference,
    compare_documents,
    "an HTML document or fragment",
    "block",
    read_reply=_reply(read_html),
)
