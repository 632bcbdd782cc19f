"""Still images: their size without reading pixels, and their pixels: upright, RGB, resized."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from easyvideor1.types import MediaError
from easyvideor1.video.formats import IMAGE_ERRORS, IMAGE_FORMATS, MOVING_FORMATS
from easyvideor1.video.packets import media_error

#: EXIF orientation tag, and its values that exchange width and height.
_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
_TRANSPOSED = frozenset({5, 6, 7, 8})


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """An open picture; what goes wrong while it is read is a ``MediaError``.

    Raises:
        MediaError: ``memory``, ``missing``, ``permission``, ``unreadable``.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: {error}; reduce the image first", path=path, reason="memory") from error
    except IMAGE_ERRORS as error:
        raise media_error(path, error) from error


def upright_size(path: str) -> tuple[tuple[int, int], str] | None:
    """Width and height of a still picture as it is shown, and its format; None of what is none.

    Raises:
        MediaError: as ``open_image``.
    """
    try:
        with open_image(path) as image:
            if image.format in MOVING_FORMATS and getattr(image, "n_frames", 1) > 1:
                return None
            return shown_size(image), (image.format or "").lower()
    except MediaError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return None
        raise


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an open picture as it is shown."""
    width, height = image.size
    turned = image.getexif().get(_ORIENTATION) in _TRANSPOSED and not _is_turned(image)
    return (height, width) if turned else (width, height)


def read_image(path: str, width: int, height: int) -> NDArray[np.uint8]:
    """A still picture as uint8 ``(H, W, 3)``: upright, RGB and resized; of a moving one, the first frame.

    Raises:
        MediaError: as ``open_image``.
    """
    with open_image(path) as image:
        return read_frame(image, width, height)


def read_frame(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The present frame of an open picture, as ``read_image`` gives it."""
    upright = _rgb(ImageOps.exif_transpose(image))
    return np.array(upright.resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)


def _is_turned(image: Image.Image) -> bool:
    """Whether Pillow has exchanged width and height by itself, as it does for TIFF."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.size != (tags.get(_TIFF_WIDTH), tags.get(_TIFF_HEIGHT))


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
