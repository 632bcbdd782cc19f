"""What probing says, as text: for other processes, and for those to come.

Times travel as ticks where the packet index goes with them: exact, and a few hundred bytes for a video of any length.
Without it they are the float64 numbers themselves, compressed.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from easyvideor1.types import MediaInfo
from easyvideor1.video.packets import PacketIndex, video_info

_INFO_FIELDS = ("path", "kind", "fingerprint", "codec", "width", "height", "rotation", "fps", "duration")
_INDEX_FIELDS = ("end", "timed", "codec", "width", "height", "rotation", "mirror")


def info_to_json(info: MediaInfo, index: PacketIndex | None = None) -> str:
    """One line of ASCII.

    Args:
        info: what probing said.
        index: the packet index of the same video, to be kept with it.
    """
    fields: dict[str, Any] = {name: getattr(info, name) for name in _INFO_FIELDS}
    if index is None:
        fields["timestamps"] = _packed(np.array(info.timestamps, dtype="<f8"))
    else:
        fields["index"] = {name: getattr(index, name) for name in _INDEX_FIELDS} | {
            "pts": _packed(_steps(index.pts)),
            "keyframes": _packed(_steps(index.keyframes)),
            "time_base": [index.time_base.numerator, index.time_base.denominator],
            "rate": None if index.rate is None else [index.rate.numerator, index.rate.denominator],
        }
    return json.dumps(fields, separators=(",", ":"))


def info_from_json(text: str | bytes) -> MediaInfo:
    """Inverse of ``info_to_json``, whether or not an index goes with it; equal in every bit.

    Raises:
        ValueError, KeyError, TypeError: the text is no such description.
    """
    return info_and_index_from_json(text)[0]


def info_and_index_from_json(text: str | bytes) -> tuple[MediaInfo, PacketIndex | None]:
    """As ``info_from_json``, with the index if it is there.

    Raises:
        ValueError, KeyError, TypeError: the text is no such description.
    """
    fields: dict[str, Any] = json.loads(text)
    if not isinstance(fields, dict):
        raise TypeError("a description is a JSON object")
    packed = fields.pop("index", None)
    if packed is None:
        times = _unpacked(fields.pop("timestamps"), "<f8").tolist()
        return MediaInfo(timestamps=tuple(times), **fields), None
    index = PacketIndex(
        **{name: packed[name] for name in _INDEX_FIELDS},
        pts=tuple(np.cumsum(_unpacked(packed["pts"], "<i8")).tolist()),
        keyframes=tuple(np.cumsum(_unpacked(packed["keyframes"], "<i8")).tolist()),
        time_base=Fraction(*packed["time_base"]),
        rate=None if packed["rate"] is None else Fraction(*packed["rate"]),
    )
    # Times are computed again from exact ticks; everything else is as it was written.
    return replace(video_info(fields["path"], fields["fingerprint"], index), **fields), index


def _steps(ascending: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first number, and the differences after it: of a constant rate they are all the same."""
    return np.diff(np.array(ascending, dtype="<i8"), prepend=np.int64(0))


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def _unpacked(text: str, dtype: str) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not a row of numbers: {error}") from error
