"""How long a file says that it is: containers that keep no index to be held against, but a size at their beginning."""

from __future__ import annotations

from pathlib import Path

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
#: The beginning of a file that holds all sizes that are looked at.
_HEAD = 4096


def promised_size(path: str) -> int | None:
    """Bytes that a Matroska, WebM or AVI file should have by its own header; None for other files, and where the
    header says nothing, as that of a file that was written while it was sent.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(_EBML):
        return _matroska(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if size else None
    return None


def _matroska(head: bytes) -> int | None:
    """The end of the segment, behind the header of EBML (RFC 8794 and RFC 9559)."""
    found = _sized(head, len(_EBML))
    if found is None or found[0] is None:
        return None
    at = found[1] + found[0]
    if head[at : at + 4] != _SEGMENT:
        return None
    segment = _sized(head, at + 4)
    return None if segment is None or segment[0] is None else segment[1] + segment[0]


def _sized(head: bytes, at: int) -> tuple[int | None, int] | None:
    """The size of an element and where its content begins; the size is None if it is not known."""
    if at >= len(head) or head[at] == 0:
        return None
    length = 9 - head[at].bit_length()
    raw = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if raw == (1 << 7 * length) - 1 else raw), at + length
