"""Still images, and videos made of images: lists of frames and animated WebP.

Pixels are upright, RGB and resized. Sizes are read without decoding pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from easyvideor1.types import MediaError, MediaInfo
from easyvideor1.video.formats import IMAGE_ERRORS, IMAGE_FORMATS, MOVING_FORMATS, is_webp
from easyvideor1.video.media_files import fingerprint, is_frame_list, media_error, read_frame_list

#: EXIF orientation tag, and its values that swap width and height.
_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
_TRANSPOSED = frozenset({5, 6, 7, 8})


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """Open an image; errors while it is read become ``MediaError``.

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


def still_image_size(path: str) -> tuple[tuple[int, int], str] | None:
    """Width and height of a still image as displayed, and its format; None for anything else.

    Raises:
        MediaError: as ``open_image``.
    """
    try:
        with open_image(path) as image:
            if image.format in MOVING_FORMATS and getattr(image, "n_frames", 1) > 1:
                return None
            return displayed_size(image), (image.format or "").lower()
    except MediaError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return None
        raise


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an open image as displayed."""
    width, height = image.size
    turned = image.getexif().get(_ORIENTATION) in _TRANSPOSED and not _is_turned(image)
    return (height, width) if turned else (width, height)


def read_image(path: str, width: int, height: int) -> NDArray[np.uint8]:
    """A still image as uint8 ``(H, W, 3)``: upright, RGB and resized; of an animated one, the first frame.

    Raises:
        MediaError: as ``open_image``.
    """
    with open_image(path) as image:
        return read_frame(image, width, height)


def read_frame(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The current frame of an open image, as ``read_image`` returns it."""
    upright = _rgb(ImageOps.exif_transpose(image))
    return np.array(upright.resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)


def _is_turned(image: Image.Image) -> bool:
    """Whether Pillow has already swapped width and height, as it does for TIFF."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.size != (tags.get(_TIFF_WIDTH), tags.get(_TIFF_HEIGHT))


def _grey(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits as uint8 of the same shape.

    16-bit values keep the high byte. 32-bit and float files do not state their range, so it is inferred: 0 to 1 for
    floats within it, else 0 to the smallest of 255, 65,535 and 2^32 - 1 that covers all values. Values outside are
    scaled between minimum and maximum. NaN and infinity become 0.
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
    """RGB; transparent pixels become white, and deep grey becomes 8 bits (``_grey``)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_grey(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", layered.size, (255, 255, 255))
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image.convert("RGB")


#: Duration of a WebP frame without one, in milliseconds, as in browsers.
_WEBP_DEFAULT_MS = 100


def is_picture_sequence(path: str) -> bool:
    """Whether a video is a list of frames or an animated WebP, which FFmpeg does not read."""
    return is_frame_list(path) or is_webp(path)


def frame_list_info(path: str) -> MediaInfo:
    """Describe a list of frames. The header of every frame is read: all must have the same size.

    Raises:
        MediaError: the list or a frame cannot be read, or frames differ in size (``unreadable``).
    """
    frames = read_frame_list(path)
    size, codec = (0, 0), ""
    for number, frame in enumerate(frames.frames, start=1):
        try:
            found = still_image_size(frame)
        except MediaError as error:
            raise MediaError(f"{path}: its frame {number}, {error}", path=path, reason=error.reason) from error
        if found is None:
            what = f"{path}: its frame {number}, {frame}, is not a still image that can be read; convert or remove it"
            raise MediaError(what, path=path, reason="unreadable")
        if number > 1 and found[0] != size:
            what = (
                f"{path}: its frame {number}, {frame}, has {found[0][0]}x{found[0][1]} pixels, the first one "
                f"{size[0]}x{size[1]}; resize all frames of a video to one size"
            )
            raise MediaError(what, path=path, reason="unreadable")
        size, codec = found
    return MediaInfo(
        path=path,
        kind="video",
        fingerprint=fingerprint(path),
        codec=f"{codec} frames",
        width=size[0],
        height=size[1],
        fps=frames.fps,
        duration=frames.duration,
        timestamps=frames.timestamps,
    )


def webp_info(path: str) -> MediaInfo:
    """Describe an animated WebP from its chunks.

    Raises:
        MediaError: ``truncated``, ``unreadable``.
    """
    with open_image(path) as image:
        (width, height), count = displayed_size(image), int(getattr(image, "n_frames", 1))
    lengths = _webp_lengths(Path(path).read_bytes())
    if len(lengths) != count:
        what = f"{path} is damaged: {count} frames can be read, {len(lengths)} are declared; write it again"
        raise MediaError(what, path=path, reason="truncated")
    starts = np.concatenate([[0], np.cumsum(lengths)]) / 1000
    return MediaInfo(
        path=path,
        kind="video",
        fingerprint=fingerprint(path),
        codec="webp",
        width=width,
        height=height,
        fps=count / float(starts[-1]),
        duration=float(starts[-1]),
        timestamps=tuple(starts[:-1].tolist()),
    )


def read_picture_sequence(path: str, indices: Sequence[int], width: int, height: int) -> NDArray[np.uint8]:
    """Frames of a list or of an animated WebP, upright and resized, as uint8 ``(F, H, W, 3)``.

    Args:
        path: a list of frames or an animated WebP.
        indices: the wanted frames, ascending.
        width: of the result, in pixels.
        height: of the result, in pixels.

    Raises:
        MediaError: a frame cannot be read.
    """
    if is_frame_list(path):
        frames = read_frame_list(path).frames
        return _stacked(indices, width, height, lambda index: read_image(frames[index], width, height))
    with open_image(path) as image:

        def shown(index: int) -> NDArray[np.uint8]:
            image.seek(index)  # frames depend on each other: Pillow continues from the current one
            return read_frame(image, width, height)

        return _stacked(indices, width, height, shown)


def _stacked(
    indices: Sequence[int], width: int, height: int, read: Callable[[int], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Frames at ascending indices; each is read once, and a repeated index is copied."""
    pixels = np.empty((len(indices), height, width, 3), dtype=np.uint8)
    for slot, index in enumerate(indices):
        pixels[slot] = pixels[slot - 1] if slot and index == indices[slot - 1] else read(index)
    return pixels


def _webp_lengths(content: bytes) -> list[int]:
    """Milliseconds of each frame: the ``ANMF`` chunks of the WebP container."""
    lengths = []
    place = 12
    while place + 8 <= len(content):
        name, size = content[place : place + 4], struct.unpack_from("<I", content, place + 4)[0]
        if name == b"ANMF" and place + 8 + 16 <= len(content):
            # Offset, width and height take 3 bytes each, twice over; then 3 bytes of milliseconds.
            lengths.append(int.from_bytes(content[place + 20 : place + 23], "little") or _WEBP_DEFAULT_MS)
        place += 8 + size + size % 2
    return lengths
