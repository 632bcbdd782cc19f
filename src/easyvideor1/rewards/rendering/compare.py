"""SVG and HTML judged by what they look like, beside their structure.

Accuracy is the mean of the two: ``structure`` (see ``tasks.markup``) and ``image``, the similarity of the two pictures
(``image_similarity``). Where nothing can be rendered, accuracy is the structure alone, and the reason says so.
"""

from __future__ import annotations

import base64
import functools
import re
import threading
import warnings

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards.rendering.browser import Image, PageError, RenderError, find_chromium, shared_browsers
from easyvideor1.rewards.tasks.markup import Document
from easyvideor1.rewards.types import RewardError, Verdict
from easyvideor1.types import ConfigError

_WINDOW, _STRIDE = 8, 4
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
#: A reference that differs from the empty page by less is empty.
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
    """How much closer to the reference a picture is than the empty page, in [0, 1].

    ``1 - (1 - SSIM(predicted, reference)) / (1 - SSIM(white, reference))``, at least 0. Most pages are mostly white, so
    SSIM alone would reward an empty answer.

    Returns:
        ``None`` if the reference is nearly empty.
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


#: Task types that are rendered.
RENDERED = frozenset(("svg_code", "html_code"))
NO_BROWSER = "judged by structure alone: no Chromium was found"
BROKEN_BROWSER = "judged by structure alone: Chromium does not start"
NO_REFERENCE = "judged by structure alone: the reference cannot be rendered"
BEYOND = "the page cannot be rendered within its limits"

#: Pixels a side of the window of a document, and of the pictures that are compared.
_WINDOWS = {"svg_code": 256, "html_code": 512}
_COMPARED = 128
_ROOT = re.compile(r"<svg\b((?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>")
_AROUND_SVG = (
    "<!doctype html><style>html,body{{margin:0;background:#fff}}div{{width:{side}px;height:{side}px;"
    "background:url(data:image/svg+xml;base64,{data}) center/contain no-repeat}}</style><div></div>"
)


class Renderer:
    """Compares documents by their pictures. Pictures are kept, so the reference of a group is rendered once.

    Raises:
        ConfigError: ``render`` is ``chromium`` and no Chromium is found, or ``rewards.chromium`` names none.
    """

    def __init__(self, config: RewardConfig) -> None:
        found = None if config.render == "off" else find_chromium(config.chromium)
        if found is None and (config.render == "chromium" or (config.chromium and config.render == "auto")):
            where = config.chromium or "anywhere on the PATH"
            raise ConfigError(
                f"rewards.render: no Chromium at {where} - install one (such as the package chromium), correct "
                "rewards.chromium, or set rewards.render: off to compare the structure alone"
            )
        self._path = found
        self._demanded = config.render == "chromium"
        self._off = config.render == "off"
        self._lock = threading.Lock()
        self._broken = False

    def review(self, task: str, structure: float, predicted: Document, reference: Document) -> Verdict:
        """The accuracy of a document with this structural similarity to the reference.

        Raises:
            RewardError: ``render`` is ``chromium`` and the browser does not start.
        """
        parts = {"structure": structure}
        if self._off:
            return Verdict(structure, parts)
        if self._path is None or self._broken:
            return Verdict(structure, parts, reason=BROKEN_BROWSER if self._broken else NO_BROWSER)
        if predicted.source == reference.source:
            return Verdict(structure, parts)
        try:
            wanted = _picture(self._path, task, reference.source)
        except PageError:
            return Verdict(structure, parts, reason=NO_REFERENCE)
        except RenderError as error:
            return self._without_browser(structure, error)
        try:
            image = image_similarity(_picture(self._path, task, predicted.source), wanted)
        except PageError:
            return Verdict(structure / 2, {**parts, "image": 0.0}, reason=BEYOND)
        except RenderError as error:
            return self._without_browser(structure, error)
        if image is None:
            return Verdict(structure, parts, reason="judged by structure alone: the reference looks empty")
        return Verdict((structure + image) / 2, {**parts, "image": image})

    def _without_browser(self, structure: float, error: RenderError) -> Verdict:
        if self._demanded:
            raise RewardError(f"rewards.render is chromium: {error}") from error
        with self._lock:
            first, self._broken = not self._broken, True
        if first:
            warnings.warn(f"SVG and HTML are {BROKEN_BROWSER}: {error}", RuntimeWarning, stacklevel=2)
        return Verdict(structure, {"structure": structure}, reason=BROKEN_BROWSER)


@functools.lru_cache(maxsize=1024)
def _picture(path: str, task: str, source: str) -> Image:
    side = _WINDOWS[task]
    page = svg_page(source, side) if task == "svg_code" else source
    with shared_browsers(path).lend() as browser:
        return reduced(browser.render(page, side), _COMPARED)


def svg_page(source: str, side: int) -> str:
    """A page that shows an SVG as a picture, scaled into a square; a picture loads nothing by itself."""
    return _AROUND_SVG.format(side=side, data=base64.b64encode(_with_names(source).encode("utf-8", "replace")).decode())


def _with_names(source: str) -> str:
    """The document with the namespaces of SVG on its root, which a file needs and HTML does not."""
    root = _ROOT.search(source)
    if root is None:
        return source
    missing = ""
    if not re.search(r"\bxmlns\s*=", root.group(1)):
        missing += ' xmlns="http://www.w3.org/2000/svg"'
    if "xlink:" in source and "xmlns:xlink" not in source:
        missing += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    at = root.start() + len("<svg")
    return source[:at] + missing + source[at:]
