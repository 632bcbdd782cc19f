"""What a codec costs and loses, measured through the store itself."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from easyvideor1.types import Frames
from easyvideor1.video.codecs import Codec, psnr
from easyvideor1.video.store import FrameStore, StoreError


@dataclass(frozen=True, slots=True)
class CodecFigures:
    """``bytes`` is the size of the entry, and ``of_float32`` that over the size of the same pixels in float32.

    Times are medians in seconds. ``read`` ends when all pixels are in an array of the reader's own, so that ``raw``,
    which is mapped, pays for its pages as well; the entry was checked before and lies in the system's cache.
    ``checked`` is the first read of a process, which compares the checksum. ``psnr`` is in dB, infinite when nothing is
    lost.
    """

    codec: Codec
    bytes: int
    of_float32: float
    write: float
    checked: float
    read: float
    psnr: float


def codec_figures(
    frames: Frames, directory: str | Path, codec: Codec, *, repeats: int = 5, threads: int = 1
) -> CodecFigures:
    """Put frames into a store below ``directory``, and read them back.

    Args:
        frames: of any size; their plan's digest names the entry.
        directory: where the store is made; what is written stays there.
        codec: of the store.
        repeats: how often each time is taken.
        threads: that unpack.
    """
    store = FrameStore(directory, codec, threads=threads)
    out = np.empty_like(frames.pixels)
    writes: list[float] = []
    firsts: list[float] = []
    reads: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        store.put(frames)
        writes.append(time.perf_counter() - begun)
        for times in (firsts, reads):
            begun = time.perf_counter()
            found = store.get(frames.plan)
            if found is None:
                raise StoreError(f"what was written to {directory} is not there; is somebody else clearing it?")
            np.copyto(out, found.pixels)
            times.append(time.perf_counter() - begun)
    size = sum(file.size for file in store.files() if file.digest == frames.plan.digest)
    return CodecFigures(
        codec=codec,
        bytes=size,
        of_float32=size / (4 * frames.pixels.nbytes),
        write=statistics.median(writes),
        checked=statistics.median(firsts),
        read=statistics.median(reads),
        psnr=psnr(frames.pixels, out),
    )
