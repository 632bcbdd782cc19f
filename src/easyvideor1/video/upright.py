"""From a decoded RGB picture to one of the planned size, the way it is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def upright(rgb: NDArray[np.uint8], *, rotation: int, mirror: bool, height: int, width: int) -> NDArray[np.uint8]:
    """Turn a picture and resize it.

    Resizing is Pillow's bicubic, which is antialiased: it is the filter that torch's uint8 antialiased kernel
    reproduces (equal up to rounding), it is exactly what the image path of the oracles does, and it keeps torch out of
    the workers.

    Args:
        rgb: uint8 ``(h, w, 3)``, as it was coded.
        rotation: counter-clockwise degrees, a multiple of 90, that show it upright.
        mirror: whether it is flipped from left to right before it is turned.
        height: wanted height after turning, in pixels.
        width: wanted width after turning, in pixels.

    Returns:
        uint8 ``(height, width, 3)``; perhaps a view of ``rgb``.
    """
    if mirror:
        rgb = rgb[:, ::-1]
    if rotation:
        rgb = np.rot90(rgb, rotation // 90)
    if rgb.shape[:2] == (height, width):
        return rgb
    resized = Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)
