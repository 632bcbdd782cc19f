"""How alike two pictures are, with an empty page as the zero."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_WINDOW, _STRIDE = 8, 4
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
#: A reference that differs from the empty page by less than this shows nothing to compare with.
_VISIBLE = 1e-3


def structural_similarity(a: Image, b: Image) -> float:
    """Mean structural similarity in [-1, 1] (Wang et al. 2004, Eq. 13), the mean over the three colours.

    Windows are squares of 8 pixels with equal weights, 4 pixels apart; the constants are the paper's.

    Args:
        a: ``(H, W, 3)``, both sides multiples of 4 and at least 8.
        b: of the same shape.
    """
    x, y = (
        sliding_window_view(image.astype(np.float64), (_WINDOW, _WINDOW), axis=(0, 1))[::_STRIDE, ::_STRIDE]
        for image in (a, b)
    )
    mean_x, mean_y = x.mean(axis=(-2, -1)), y.mean(axis=(-2, -1))
    var_x, var_y = x.var(axis=(-2, -1)), y.var(axis=(-2, -1))
    covariance = (x * y).mean(axis=(-2, -1)) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return float((luminance * structure).mean())


def image_similarity(predicted: Image, reference: Image) -> float | None:
    """How much nearer to the reference a picture is than the empty page, in [0, 1].

    ``1 - (1 - SSIM(predicted, reference)) / (1 - SSIM(white, reference))``, at least 0. Most pages are mostly white, so
    SSIM alone would pay an empty answer nearly everything.

    Returns:
        ``None`` if the reference is as good as empty.
    """
    distance = 1.0 - structural_similarity(np.full_like(reference, 255), reference)
    if distance < _VISIBLE:
        return None
    near = 1.0 - (1.0 - structural_similarity(predicted, reference)) / distance
    return round(min(1.0, max(0.0, near)), 6)


def reduced(image: Image, side: int) -> Image:
    """A square picture scaled down to ``side`` pixels by the mean of equal blocks; its side is a multiple of it."""
    by = image.shape[0] // side
    blocks = image.reshape(side, by, side, by, 3).astype(np.float64).mean(axis=(1, 3))
    small: Image = np.rint(blocks).astype(np.uint8)
    return small
