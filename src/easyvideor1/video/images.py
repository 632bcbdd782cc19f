"""Pixels of a still image: upright, RGB, resized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from easyvideor1.types import MediaPlan
from easyvideor1.video.formats import IMAGE_ERRORS, IMAGE_FORMATS
from easyvideor1.video.packets import media_error


def read_image(path: str, plan: MediaPlan) -> NDArray[np.uint8]:
    """The image as uint8 ``(1, H, W, 3)``, turned as its EXIF orientation says; of a moving one, the first picture.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            upright = _rgb(ImageOps.exif_transpose(image))
            resized = upright.resize((plan.width, plan.height), Image.Resampling.BICUBIC)
    except (*IMAGE_ERRORS, Image.DecompressionBombError) as error:
        raise media_error(path, error) from error
    return np.asarray(resized, dtype=np.uint8)[None].copy()


def _grey(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of more than 8 bits as uint8 of the same shape.

    Of 16 bits it is the high byte. Files of 32 bits and of floats do not say their range, so it is taken from the
    values: 0 to 1 for floats that lie there, else from 0 to the smallest of 255, 65,535 and 2^32 - 1 that holds them
    all. A picture with values outside is scaled between its own extremes. What is no number counts 0.
    """
    if values.dtype.itemsize <= 2:
        return (values.astype(np.uint16) >> 8).astype(np.uint8)
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(numbers.min(initial=0.0))), float(numbers.max(initial=0.0))
    if low < 0:
        numbers, high, low = numbers - low, high - low, 0.0
        top = high or 1.0
    else:
        tops = [1.0] if np.issubdtype(values.dtype, np.floating) else []
        top = next((top for top in (*tops, 255.0, 65_535.0, 2.0**32 - 1) if high <= top), high)
    return np.asarray(np.clip(numbers / top * 255.0 + 0.5, 0, 255), dtype=np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, and deep grey becomes 8 bits (``_grey``)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_grey(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", layered.size, (255, 255, 255))
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image.convert("RGB")
