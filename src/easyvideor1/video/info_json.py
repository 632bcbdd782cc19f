"""What probing says, as text between processes."""

from __future__ import annotations

import dataclasses
import json

from easyvideor1.types import MediaInfo


def info_to_json(info: MediaInfo) -> str:
    return json.dumps(dataclasses.asdict(info))


def info_from_json(text: str) -> MediaInfo:
    fields = json.loads(text)
    return MediaInfo(**{**fields, "timestamps": tuple(fields["timestamps"])})
