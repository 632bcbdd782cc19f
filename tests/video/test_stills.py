"""Stills of unusual kinds: turned TIFF files, and grey of more than 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from easyvideor1.config import ImageBudget
from easyvideor1.types import Geometry
from easyvideor1.video import decode, plan, probe

SHARED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "images"
BUDGET, GEOMETRY = ImageBudget(min_pixels=3136), Geometry(14, 2, 2)


def shown(path: Path) -> np.ndarray:
    info = probe(str(path))
    frames = decode(str(path), plan(info, BUDGET, GEOMETRY))
    assert frames.pixels.shape[1] >= frames.pixels.shape[2] or info.width > info.height
    return frames.pixels[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tiff", "jpg", "png", "webp"])
def test_a_picture_is_planned_as_it_is_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((56, 168, 3), np.uint8)
    pixels[:, 84:] = 255  # the right half is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    info = probe(str(path))
    assert (info.width, info.height) == ((56, 168) if orientation >= 5 else (168, 56))
    seen = shown(path)
    assert seen.shape == (info.height, info.width, 3)
    bright = seen[..., 0] > 128
    halves = (
        bright[: info.height // 2],
        bright[info.height // 2 :],
        bright[:, : info.width // 2],
        bright[:, info.width // 2 :],
    )
    white = {1: 3, 2: 2, 3: 2, 4: 3, 5: 1, 6: 1, 7: 0, 8: 0}[orientation]
    assert halves[white].mean() > 0.95 and bright.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("dtype", "top"),
    [
        ("int32", 255),
        ("int32", 65_535),
        ("int32", 2_000_000_000),
        ("float32", 1.0),
        ("float32", 255.0),
        ("uint16", 65_535),
    ],
)
def test_deep_grey_is_scaled_by_its_range(tmp_path: Path, dtype: str, top: float) -> None:
    ramp = np.linspace(0, 1, 112)[None].repeat(56, 0)
    path = tmp_path / "a.tiff"
    Image.fromarray((ramp * top).astype(dtype)).save(path)
    grey = shown(path)[..., 0].astype(int).mean(0)
    scale = 2_000_000_000 / (2**32 - 1) if top > 65_535 else 1.0
    assert np.abs(grey - ramp[0] * 255 * scale).max() < 2.5


def test_values_below_zero_are_scaled_between_the_extremes(tmp_path: Path) -> None:
    ramp = np.linspace(-5, 5, 112, dtype=np.float32)[None].repeat(56, 0)
    ramp[0, 0] = np.nan
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    grey = shown(tmp_path / "a.tiff")[..., 0].astype(int)
    assert grey[30, 0] < 5 and grey[30, -1] > 250 and abs(grey[30, 56] - 128) < 4


@pytest.mark.skipif(not SHARED.is_dir(), reason="no case files at ../shared/cases/images")
def test_pictures_that_failed_elsewhere() -> None:
    info = probe(str(SHARED / "orientation6.tiff"))
    assert (info.width, info.height) == (64, 128)
    assert shown(SHARED / "orientation6.tiff").shape[0] > shown(SHARED / "orientation6.tiff").shape[1]
    grey = shown(SHARED / "int32_grey.tif")
    assert 40 < grey.mean() < 230 and grey.std() > 10
