"""The target size of pictures: sides are multiples of ``Geometry.factor``, within limits on pixels."""

from __future__ import annotations

import math

from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import Geometry, MediaError, MediaInfo

#: Constants of qwen-vl-utils 0.0.14: largest frame in tokens, and 90% of a 128,000-token context for one video.
QWEN_FRAME_TOKENS = 768
QWEN_CONTEXT_TOKENS = 128_000
QWEN_CONTEXT_SHARE = 0.9
MAX_ASPECT_RATIO = 200

#: Both libraries keep a frame's share of the total at least this factor above ``min_pixels``.
_FLOOR = 1.05


def image_size(info: MediaInfo, budget: ImageBudget, geometry: Geometry) -> tuple[int, int]:
    """Height and width of an image.

    Raises:
        MediaError: ``aspect``.
    """
    shape = resize if budget.rule == "qwen" else resize_hf
    return shape(info, geometry.factor, budget.min_pixels, budget.max_pixels)


def video_size(rule: str, info: MediaInfo, budget: VideoBudget, geometry: Geometry, frames: int) -> tuple[int, int]:
    """Height and width of the frames of a video under both limits, per frame and per video.

    Args:
        rule: ``qwen``, ``hf-qwen2``, ``hf-qwen3``, ``uniform`` or ``uniform-time``.
        info: the video.
        budget: its limits.
        geometry: of the model.
        frames: number of frames read, before the last one is repeated to fill a temporal step.

    Raises:
        MediaError: ``aspect``.
    """
    factor, temporal = geometry.factor, geometry.temporal_patch_size
    if rule == "hf-qwen2":
        return _qwen2_size(info, budget, factor, temporal, frames)
    if rule == "hf-qwen3":
        return _qwen3_size(info, budget, factor, temporal, frames)
    token = factor**2
    frames += -frames % temporal
    if rule in ("uniform", "uniform-time"):
        share = math.inf if budget.total_pixels is None else budget.total_pixels / frames
        largest = max(min(budget.max_pixels, share), token)
        # A share of the total below min_pixels overrides min_pixels: memory was planned for the total.
        return resize(info, factor, budget.min_pixels if budget.min_pixels <= largest else token, largest)
    total = QWEN_CONTEXT_TOKENS * token * QWEN_CONTEXT_SHARE if budget.total_pixels is None else budget.total_pixels
    # qwen-vl-utils counts a temporal pair as one frame here, and min_pixels overrides total_pixels.
    cap = max(min(QWEN_FRAME_TOKENS * token, total / frames * temporal), int(budget.min_pixels * _FLOOR))
    return resize(info, factor, budget.min_pixels, min(budget.max_pixels, cap))


def _qwen2_size(info: MediaInfo, budget: VideoBudget, factor: int, temporal: int, frames: int) -> tuple[int, int]:
    """``Qwen2VLVideoProcessor.resize``: every frame within ``min_pixels`` and ``max_pixels``.

    ``total_pixels`` is the limit that ``cap_pixels_per_frame`` derives from ``max_video_tokens``; None means no cap.
    """
    largest = budget.max_pixels
    if budget.total_pixels is not None:
        largest = max(min(largest, budget.total_pixels * temporal // frames), int(budget.min_pixels * _FLOOR))
    return resize_hf(info, factor, budget.min_pixels, largest)


def _qwen3_size(info: MediaInfo, budget: VideoBudget, factor: int, temporal: int, frames: int) -> tuple[int, int]:
    """``Qwen3VLVideoProcessor.resize``: all frames together within ``size.shortest_edge`` and ``size.longest_edge``.

    These are ``min_pixels`` (of the whole video, under this rule) and ``total_pixels``. A ``max_pixels`` below the
    total is the limit per frame of ``cap_pixels_per_frame``.
    """
    frames = max(frames, temporal)  # the processor refuses fewer; the last frame is repeated
    largest: float = math.inf if budget.total_pixels is None else budget.total_pixels
    if budget.max_pixels < largest:
        share = budget.max_pixels if math.isinf(largest) else min(budget.max_pixels, largest // frames)
        largest = max(share, int(budget.min_pixels * _FLOOR)) * frames
    return resize_hf_video(info, factor, temporal, frames, budget.min_pixels, largest)


def resize(info: MediaInfo, factor: int, min_pixels: float, max_pixels: float) -> tuple[int, int]:
    """Height and width: multiples of ``factor``, near the same aspect ratio, with their product within the limits.

    ``smart_resize`` of qwen-vl-utils 0.0.14, except that no side is below ``factor`` (the original gives 0 for very
    thin pictures); the other side is then reduced so that ``max_pixels`` holds, if it allows one token at all.

    Raises:
        MediaError: ``aspect``.
    """
    height, width = info.height, info.width
    _refuse_thin(info, height, width)
    h = max(factor, round(height / factor) * factor)
    w = max(factor, round(width / factor) * factor)
    if h * w > max_pixels:
        h, w = _reduce(height, width, factor, math.sqrt((height * width) / max_pixels))
        if h * w > max_pixels:
            longest = max(factor, math.floor(max_pixels / factor / factor) * factor)
            h, w = min(h, longest), min(w, longest)
    elif h * w < min_pixels:
        h, w = _enlarge(height, width, factor, math.sqrt(min_pixels / (height * width)))
    return h, w


def resize_hf(info: MediaInfo, factor: int, min_pixels: float, max_pixels: float) -> tuple[int, int]:
    """``smart_resize`` of transformers' Qwen2-VL, for images and frames of videos.

    A side under half of ``factor`` counts as 0 pixels there, so such a picture is enlarged to ``min_pixels``. Very thin
    pictures may exceed ``max_pixels``.

    Raises:
        MediaError: ``aspect``.
    """
    height, width = info.height, info.width
    _refuse_thin(info, height, width)
    h = round(height / factor) * factor
    w = round(width / factor) * factor
    if h * w > max_pixels:
        h, w = _reduce(height, width, factor, math.sqrt((height * width) / max_pixels))
    elif h * w < min_pixels:
        h, w = _enlarge(height, width, factor, math.sqrt(min_pixels / (height * width)))
    return h, w


def resize_hf_video(
    info: MediaInfo, factor: int, temporal: int, frames: int, min_pixels: float, max_pixels: float
) -> tuple[int, int]:
    """``smart_resize`` of transformers' Qwen3-VL video processor: the limits apply to all frames together.

    Pictures smaller than one token are first enlarged to one token.

    Raises:
        MediaError: ``aspect``.
    """
    height, width = info.height, info.width
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _refuse_thin(info, height, width)
    h = round(height / factor) * factor
    w = round(width / factor) * factor
    t = round(frames / temporal) * temporal
    if t * h * w > max_pixels:
        h, w = _reduce(height, width, factor, math.sqrt((frames * height * width) / max_pixels))
    elif t * h * w < min_pixels:
        h, w = _enlarge(height, width, factor, math.sqrt(min_pixels / (frames * height * width)))
    return h, w


def _reduce(height: int, width: int, factor: int, beta: float) -> tuple[int, int]:
    return (
        max(factor, math.floor(height / beta / factor) * factor),
        max(factor, math.floor(width / beta / factor) * factor),
    )


def _enlarge(height: int, width: int, factor: int, beta: float) -> tuple[int, int]:
    return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor


def _refuse_thin(info: MediaInfo, height: int, width: int) -> None:
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise MediaError(
            f"{info.path}: {info.width}x{info.height} is longer than {MAX_ASPECT_RATIO} times its width; crop it",
            path=info.path,
            reason="aspect",
        )
