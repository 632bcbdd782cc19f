"""Read the messages of a chat completion: texts and media in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.fields import Fields, check_text, wrong
from easyvideor1.types import MediaKind

#: Longest text of all messages together, in characters, and the most messages.
LONGEST_TEXT, MOST_MESSAGES = 1_000_000, 256

#: Fields of a medium -> those of rows (docs/data.md). Other names are those of rows.
_MEDIA_NAMES = MappingProxyType({"start": "video_start", "end": "video_end", "frames": "nframes"})
_MEDIA_TYPES: Mapping[str, MediaKind] = MappingProxyType(
    {"image_url": "image", "image": "image", "video_url": "video", "video": "video"}
)
#: Fields of a message. ``name`` tells people apart, and changes no prompt.
_FIELDS = frozenset(("role", "content", "name"))


@dataclass(frozen=True, slots=True)
class MediaPart:
    """A medium of a message. ``source`` is a ``data:`` URL or a path, or those of the frames of a video in order.

    ``options`` are its clip, its budget and the times of its frames, named as in rows. ``where`` is its place in the
    request.
    """

    kind: MediaKind
    source: str | tuple[str, ...]
    options: Mapping[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the user or an answer of the assistant: texts and media in order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | MediaPart, ...]


def read_messages(entries: Sequence[Any]) -> tuple[str | None, tuple[Message, ...]]:
    """The system message (``None`` without one), and the others, which alternate and begin and end with the user.

    Raises:
        RequestError: a message is wrong, or of a kind or a role that is not supported here.
    """
    if not 0 < len(entries) <= MOST_MESSAGES:
        what = f"messages is a list of {len(entries)}; send 1 to {MOST_MESSAGES} messages, the last one of the user"
        raise RequestError(what, param="messages", code="invalid_value")
    read = [_message(entry, f"messages[{number}]") for number, entry in enumerate(entries)]
    length = sum(len(part) for _, parts in read for part in parts if isinstance(part, str))
    if length > LONGEST_TEXT:
        what = f"the messages have {length} characters of text, this server takes {LONGEST_TEXT}; shorten them"
        raise RequestError(what, status=413, param="messages", code="text_too_long")
    system = None
    if read[0][0] == "system":
        system = _text(read[0][1], "messages[0]")
    first = 0 if system is None else 1
    for number, (role, _) in enumerate(read[first:], first):
        due = "assistant" if (number - first) % 2 else "user"
        if role != due:
            what = f"messages[{number}] is of the {role}, but one of the {due} is due: a system message comes first, "
            what += "then user and assistant alternate"
            raise RequestError(what, param=f"messages[{number}].role", code="invalid_value")
    if len(read) == first or read[-1][0] != "user":
        what = "the last message is not one of the user; the server answers a user, and continues no answer"
        raise RequestError(what, param="messages", code="invalid_value")
    return system, tuple(Message(role, parts) for role, parts in read[first:])


def _text(parts: Sequence[str | MediaPart], where: str) -> str:
    """Raises ``RequestError`` for parts that are not all text."""
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        what = f"{where}: only messages of the user have media"
        raise RequestError(what, param=f"{where}.content", code="invalid_value")
    return "".join(texts)


def _message(entry: Any, where: str) -> tuple[Any, tuple[str | MediaPart, ...]]:
    if not isinstance(entry, dict):
        raise wrong(where, entry, "an object with role and content")
    role = "system" if entry.get("role") == "developer" else entry.get("role")
    if role not in ("system", "user", "assistant"):
        raise wrong(f"{where}.role", role, "system, developer, user or assistant")
    if extra := sorted(name for name, value in entry.items() if name not in _FIELDS and value not in (None, [], {})):
        place = f"{where}.{extra[0][:60]}"
        raise RequestError(f"{place} is not supported; leave it out", param=place, code="unsupported_parameter")
    content = entry.get("content")
    if isinstance(content, str):
        check_text(content, f"{where}.content")
        parts: tuple[str | MediaPart, ...] = (content,)
    elif isinstance(content, list) and content:
        parts = tuple(_part(part, f"{where}.content[{number}]") for number, part in enumerate(content))
    else:
        raise wrong(f"{where}.content", content, "a string or a list of parts")
    if role == "user":
        _refuse_placeholders(parts, where)
    else:
        _text(parts, where)
    return role, parts


def _refuse_placeholders(parts: Sequence[str | MediaPart], where: str) -> None:
    for part in parts:
        if isinstance(part, str) and (found := PLACEHOLDER.search(part)):
            what = f"{where} holds {found.group()!r}, which marks the place of a medium; send media as parts of content"
            raise RequestError(what, param=f"{where}.content", code="invalid_value")


def _part(part: Any, where: str) -> str | MediaPart:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise wrong(where, part, 'an object with a "type"')
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise wrong(f"{where}.text", text, "a string")
        check_text(text, f"{where}.text")
        return text
    if kind not in _MEDIA_TYPES:
        what = f"{where}: parts of type {kind[:40]!r} are not supported; there are text, {', '.join(_MEDIA_TYPES)}"
        raise RequestError(what, param=f"{where}.type", code="unsupported_value")
    return _medium(part, kind, where)


def _medium(part: Fields, kind: str, where: str) -> MediaPart:
    options = {name: value for name, value in part.items() if name not in ("type", kind) and value is not None}
    source: Any = part.get(kind)
    if isinstance(source, dict):
        inner = {name: value for name, value in source.items() if value is not None}
        source = inner.pop("url", None)
        if both := sorted(options.keys() & inner.keys()):
            raise RequestError(f"{where}: {both[0]} is given twice", param=where, code="invalid_value")
        options |= inner
    options.pop("detail", None)  # the size of pictures is that of the configuration
    if kind == "video" and isinstance(source, list):
        if not source or not all(isinstance(frame, str) and frame for frame in source):
            raise wrong(f"{where}.video", source, "a list of data: URLs or paths, one for each frame")
        source = tuple(source)
    elif not isinstance(source, str) or not source:
        raise wrong(f"{where}.{kind}", source, "a data: URL or the path of a file")
    named = {_MEDIA_NAMES.get(name, name): value for name, value in options.items()}
    if len(named) < len(options):
        raise RequestError(f"{where}: two of its fields have one meaning; send one", param=where, code="invalid_value")
    return MediaPart(_MEDIA_TYPES[kind], source, named, where)
