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


def _rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, and 16-bit grey keeps its high byte."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", layered.size, (255, 255, 255))
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image.convert("RGB")
