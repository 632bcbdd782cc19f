"""SVG and HTML: how much of the structure of the reference a document has. ``rendering`` compares pictures."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from xml.parsers import expat

from rapidfuzz.distance import LCSseq

from easyvideor1.rewards.readers.plain_text import fenced_blocks, is_displayed
from easyvideor1.rewards.types import Reading, Rule, Verdict, unread

#: Longer documents are not answers; no response holds a reference of this size.
_LIMIT = 200_000
#: Words before a document without a fence, such as "Here is the table:".
_LEAD_IN = 300
NO_SVG = "no SVG document"
ILL_FORMED = "the SVG document is not well-formed"
ENTITIES = "the SVG document declares entities"
NO_ELEMENT = "no HTML element"
TOO_LONG = "the document is too long"
SEVERAL = "several documents are given"
_SVG_FENCES = frozenset(("", "svg", "xml", "html"))
_HTML_FENCES = frozenset(("", "html", "xml", "htm"))
_TAG_NAME = re.compile(r"[a-zA-Z][^\s/>]*+")
_TAG_BODY = re.compile(r"(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+(?=>)")
_ATTRIBUTE = re.compile(r"([^\s=/\"'>]++)(?:\s*+=\s*+(\"[^\"]*+\"?|'[^']*+'?|[^\s>]*+))?")
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


def _shown(text: str) -> str:
    """The last fenced block of a text, or the text."""
    blocks = fenced_blocks(text)
    return (blocks[-1].content if blocks else text).strip()


def _shown_in_reply(text: str, languages: frozenset[str]) -> str:
    """The document that a reply shows in a fence of its own, or is as a whole; empty if it only mentions some.

    Words before a document without a fence are a lead-in that ends with a colon.
    """
    for block in reversed(fenced_blocks(text)):
        if block.closed and block.language in languages and is_displayed(text, block):
            content = block.content.strip()
            if content.startswith("<") and content.endswith(">"):
                return content
    text = text.strip()
    start = 0 if text.startswith("<") else text.find("\n<") + 1
    whole = text.endswith(">") and (not start or text[:start].rstrip().endswith(":"))
    return text[start:] if whole and start <= _LEAD_IN and text[start : start + 1] == "<" else ""


def _document(source: str, collected: _Collected) -> Document:
    return Document(source, tuple(collected.tags), tuple(collected.attributes), tuple(collected.words))


def read_svg(text: str, options: tuple[str, ...]) -> Reading:
    """A well-formed SVG document, a Markdown fence and words around it aside. Entity declarations are refused."""
    text = _shown(text)
    start, end = text.find("<svg"), text.rfind("</svg>")
    if start < 0 or end < start:
        return unread(NO_SVG)
    if len(text) > _LIMIT:
        return unread(TOO_LONG)
    if "<!ENTITY" in text:
        return unread(ENTITIES)
    if text.count("<svg") > 1 and _roots(text, "svg") > 1:
        return unread(SEVERAL)
    source, collected = text[start : end + len("</svg>")], _Collected()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda tag, attrs: collected.opened(tag, list(attrs.items()))
    parser.CharacterDataHandler = collected.said
    parser.buffer_text = True
    try:
        parser.Parse(source.encode("utf-8", "replace"), True)
    except expat.ExpatError:
        return unread(ILL_FORMED)
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


def read_svg_reply(text: str, options: tuple[str, ...]) -> Reading:
    """A reply that shows an SVG document in a fence of its own, or that is one."""
    shown = _shown_in_reply(text, _SVG_FENCES)
    return _as_reply(read_svg(shown, options)) if shown else unread(NO_SVG)


def read_html(text: str, options: tuple[str, ...]) -> Reading:
    """HTML with at least one element, a Markdown fence aside."""
    source = _shown(text)
    if len(source) > _LIMIT:
        return unread(TOO_LONG)
    if _roots(source, "html") > 1:
        return unread(SEVERAL)
    collected = _tokenize(source)
    return Reading(_document(source, collected)) if collected.tags else unread(NO_ELEMENT)


def read_html_reply(text: str, options: tuple[str, ...]) -> Reading:
    """A reply that shows HTML in a fence of its own, or that is HTML."""
    shown = _shown_in_reply(text, _HTML_FENCES)
    return _as_reply(read_html(shown, options)) if shown else unread(NO_ELEMENT)


def _as_reply(reading: Reading) -> Reading:
    return replace(reading, canonical=False)


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
    if reading.value is None:
        raise ValueError("it is no well-formed SVG document")
    document: Document = reading.value
    return document


def _html_reference(text: str, options: tuple[str, ...]) -> Document:
    reading = read_html(text, options)
    if reading.value is None:
        raise ValueError("it has no HTML element")
    document: Document = reading.value
    return document


SVG = Rule(
    read_svg,
    _svg_reference,
    compare_documents,
    "an SVG document, from <svg ...> to </svg>",
    "block",
    read_reply=read_svg_reply,
)
HTML = Rule(
    read_html,
    _html_reference,
    compare_documents,
    "an HTML document or fragment",
    "block",
    read_reply=read_html_reply,
)
