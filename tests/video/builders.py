"""Building in a process of its own, which tests may kill, starve of disk space, or run twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from easyvideor1 import video
from easyvideor1.types import MediaPlan, MediaRef
from easyvideor1.video import FrameStore
from easyvideor1.video.entry import Codec

from .clips import plan_clip, write_clip

Items = list[tuple[MediaRef, MediaPlan]]

#: Arguments: directory of the store, file that lists (path, plan), codec. Prints ``done total`` after each plan, then
#: ``[built, present, failed]``, or ``error: ...`` for an error that is meant for the user.
SCRIPT = """
import json, sys
from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import EasyVideoError, MediaRef
items = [(MediaRef("video", path), video.plan_from_json(plan)) for path, plan in json.load(open(sys.argv[2]))]
store = video.FrameStore(sys.argv[1], sys.argv[3])
try:
    report = video.build(items, store, video.HealthLedger(sys.argv[1] + "/health.jsonl"), CacheConfig(workers=1),
                         lambda build: print(build.done, build.total, flush=True))
    print(json.dumps([report.built, report.present, report.failed]))
except EasyVideoError as error:
    print("error:", error)
"""


def clips(directory: Path, count: int, size: tuple[int, int] = (64, 64)) -> Items:
    """``count`` videos of different content, with their plans."""
    items = []
    for k in range(count):
        path = write_clip(directory / f"{k}.mp4", 12 + k, size=size)
        items.append((MediaRef("video", path), plan_clip(path)))
    return items


def builder_command(items: Items, store: Path, listing: Path, codec: Codec = "raw") -> list[str]:
    listing.write_text(json.dumps([(ref.path, video.plan_to_json(plan)) for ref, plan in items]))
    return [sys.executable, "-c", SCRIPT, str(store), str(listing), codec]


def start_builder(items: Items, store: Path, listing: Path, codec: Codec = "raw") -> subprocess.Popen[str]:
    return subprocess.Popen(builder_command(items, store, listing, codec), stdout=subprocess.PIPE, text=True)


def assert_complete(items: Items, directory: Path) -> None:
    """Every plan has an exact entry, and its pixels are those of decoding."""
    store = FrameStore(directory)
    for ref, plan in items:
        found = store.get(plan)
        assert found is not None
        np.testing.assert_array_equal(found.pixels, video.decode(ref.path, plan).pixels)
