"""The cost of storing frames: bytes, write time, read time and loss, for every codec and for float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Timing, interleaved, table, timed
from easyvideor1.config import CacheConfig
from easyvideor1.types import Frames, MediaPlan
from easyvideor1.video import FrameStore
from easyvideor1.video.entry import Codec, Pixels

#: The layout of the published system.
FLOAT32 = "float32 .pt"
MEMCPY = "memcpy"


@dataclass(frozen=True, slots=True)
class Kept:
    """Frames in one layout; ``psnr`` is in dB, infinite without loss."""

    bytes: int
    write_seconds: float
    psnr: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same frames in every layout. ``reads`` are times to read all pixels into memory, and of a copy
    within memory.
    """

    kept: dict[str, Kept]
    reads: dict[str, Timing]

    def share(self, layout: str) -> float:
        """Bytes relative to float32."""
        return self.kept[layout].bytes / self.kept[FLOAT32].bytes

    def show(self, title: str) -> str:
        """A table."""
        rows = []
        for name, kept in self.kept.items():
            wall = self.reads[name].wall
            rows.append(
                (
                    name,
                    f"{kept.bytes / 2**20:.1f}",
                    f"{self.share(name):.4f}",
                    f"{kept.write_seconds * 1e3:.0f}",
                    f"{wall * 1e3:.1f}",
                    f"{wall / self.reads[MEMCPY].wall:.1f}",
                    "lossless" if kept.psnr == float("inf") else f"{kept.psnr:.1f}",
                )
            )
        return table(title, ("codec", "MiB", "of float32", "write ms", "read ms", "x memcpy", "PSNR dB"), rows)


def compare_codecs(frames: Frames, work: Path, rounds: int) -> Comparison:
    """Keep frames in every layout under ``work``, and read them ``rounds`` times with a warm page cache."""
    peer = work / "frames.pt"
    kept = {FLOAT32: _save_float32(frames, peer)}
    buffer, source = np.zeros_like(frames.pixels), frames.pixels.copy()
    works: dict[str, Callable[[], object]] = {
        MEMCPY: lambda: np.copyto(buffer, source),
        FLOAT32: lambda: torch.load(peer, weights_only=True)["frames"],
    }
    for codec in get_args(Codec):
        store = FrameStore(work / f"store-{codec}", codec, threads=CacheConfig().read_threads)
        seconds, _ = timed(partial(store.put, frames))()
        (entry,) = (file for file in store.files() if file.digest == frames.plan.digest)
        works[codec] = read = partial(_read_into, buffer, store, frames.plan)
        read()
        kept[codec] = Kept(entry.path.stat().st_size, seconds, psnr(source, buffer))
    reads = interleaved({name: timed(read) for name, read in works.items()}, rounds, warm_up=1)
    return Comparison(kept, reads)


def _read_into(buffer: NDArray[np.uint8], store: FrameStore, wanted: MediaPlan) -> None:
    frames = store.get(wanted)
    assert frames is not None
    np.copyto(buffer, frames.pixels)


def _save_float32(frames: Frames, path: Path) -> Kept:
    """float32 ``(F, 3, H, W)`` by ``torch.save``."""
    tensor = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2).to(torch.float32).contiguous()
    seconds, _ = timed(lambda: torch.save({"frames": tensor}, path))()
    return Kept(path.stat().st_size, seconds, float("inf"))


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(255^2 / mean squared error)``; infinite when they are equal."""
    squares, count = 0, 0
    for one, other in zip(first, second, strict=True):  # by frame: the differences of a whole video would be large
        squares += int(np.square(one.astype(np.int32) - other.astype(np.int32)).sum(dtype=np.int64))
        count += one.size
    return float("inf") if squares == 0 else float(10 * np.log10(255.0**2 * count / squares))
