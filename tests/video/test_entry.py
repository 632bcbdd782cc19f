"""Packed frames unpack to the frames that were packed."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
from benchmarks.stores import psnr
from numpy.typing import NDArray

from easyvideor1.video.entry import (
    JPEG_QUALITY,
    LOSSY,
    TYPICAL_RATIO,
    Codec,
    DamagedFrameError,
    Packing,
    pack,
    packing_for,
    unpack,
)

from .clips import reference_video


def noisy(frames: int = 4, height: int = 96, width: int = 160, noise: float = 2.0) -> NDArray[np.uint8]:
    """Smooth moving colours with noise on every pixel, as a camera gives."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    out = np.empty((frames, height, width, 3), dtype=np.uint8)
    for k in range(frames):
        red, green, blue = np.sin(x / 37 + k / 5), np.cos(y / 29 - k / 7), np.sin((x + y) / 53 + k / 3)
        smooth = np.stack([128 + 90 * red, 120 + 80 * green, 110 + 70 * blue], axis=-1)
        out[k] = np.clip(smooth + random.normal(0, noise, smooth.shape), 0, 255)
    return out


@pytest.mark.parametrize("packing", ["zstd", "zstd-rows"])
@pytest.mark.parametrize("shape", [(3, 96, 160, 3), (1, 1, 1, 3), (2, 1, 7, 3), (2, 7, 1, 3)])
def test_exact_packings_lose_nothing(packing: Packing, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    blobs = pack(pixels, "zstd-rows")
    if packing == "zstd":  # what earlier versions wrote
        import zstandard

        blobs = [zstandard.ZstdCompressor().compress(frame.tobytes()) for frame in pixels]
    out = np.empty_like(pixels)
    unpack(packing, blobs, out)
    np.testing.assert_array_equal(out, pixels)


def test_rows_pack_better_than_pixels() -> None:
    import zstandard

    pixels = noisy()
    plain = sum(len(zstandard.ZstdCompressor(level=1).compress(frame.tobytes())) for frame in pixels)
    assert sum(map(len, pack(pixels, "zstd-rows"))) < 0.75 * plain


def test_jpeg_is_nearly_exact_and_small() -> None:
    pixels = noisy()
    blobs = pack(pixels, "jpeg")
    out = np.empty_like(pixels)
    unpack("jpeg", blobs, out)
    assert psnr(pixels, out) >= 40
    assert sum(map(len, blobs)) <= 0.05 * 4 * pixels.nbytes
    assert JPEG_QUALITY == 95


@pytest.mark.parametrize("name", ["nasa_13013.mp4", "video_r1_example.mp4", "av1_video.mkv"])
def test_jpeg_on_real_frames(name: str) -> None:
    import av

    with av.open(str(reference_video(name))) as container:
        pixels = np.stack([f.to_ndarray(format="rgb24") for f in itertools.islice(container.decode(video=0), 8)])
    out = np.empty_like(pixels)
    blobs = pack(pixels, "jpeg")
    unpack("jpeg", blobs, out)
    assert psnr(pixels, out) >= 40
    assert sum(map(len, blobs)) <= 0.05 * 4 * pixels.nbytes


@pytest.mark.parametrize("packing", ["zstd-rows", "jpeg"])
def test_threads_change_nothing(packing: Packing) -> None:
    pixels = noisy(9)
    blobs = pack(pixels, packing)
    alone, together = np.empty_like(pixels), np.empty_like(pixels)
    unpack(packing, blobs, alone)
    with ThreadPoolExecutor(4) as threads:
        unpack(packing, blobs, together, threads.map)
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("packing", ["zstd-rows", "jpeg"])
def test_damaged_frames_are_told(packing: Packing) -> None:
    pixels = noisy(2)
    blobs = pack(pixels, packing)
    for bad in (b"", b"nonsense", blobs[0][:20], pack(pixels[:, :48], packing)[0]):
        with pytest.raises(DamagedFrameError), ThreadPoolExecutor(2) as threads:
            unpack(packing, [blobs[0], bad], np.empty_like(pixels), threads.map)


def test_what_a_jpeg_cannot_hold_is_kept_exactly() -> None:
    assert packing_for("jpeg", 64, 64) == "jpeg"
    assert packing_for("jpeg", 32, 70_000) == "zstd-rows"
    assert packing_for("jpeg", 20_000, 20_000) == "zstd-rows"
    assert packing_for("raw", 32, 70_000) == "raw"
    assert {packing_for(codec, 64, 64) for codec in ("raw", "zstd")}.isdisjoint(LOSSY)


def test_every_codec_has_its_estimate() -> None:
    assert set(TYPICAL_RATIO) == set(get_args(Codec))
    assert TYPICAL_RATIO["raw"] == 1


def test_psnr() -> None:
    black = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + np.uint8(255)) == pytest.approx(0)
    assert psnr(black, black + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
