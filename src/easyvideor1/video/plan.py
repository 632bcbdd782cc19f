"""Decide which frames are read, at which size, and how many tokens they become: before any pixel is decoded.

Rules that hold for both sampling rules:

* The number of frames is a multiple of ``temporal_patch_size``: sampling by rate rounds down to one, a fixed number of
  frames goes to the nearest one (a tie to the even multiple). Only when the clip or the budget has fewer frames than
  that are all of them taken, and the last repeated, as the model processors do.
* No frame is planned twice otherwise: a fixed number of frames beyond what the clip has is reduced to what it has.
* A clip ``[start, end]`` holds the frames whose timestamps lie in it. When none does (a clip shorter than a frame), it
  is the one frame on screen at ``start``. A clip that begins after the end of the video, or ends before it begins, is
  an error; an ``end`` beyond the video is the end of the video.
* An image is one frame: ``grid`` is ``(1, h, w)``, and whoever patchifies repeats it ``temporal_patch_size`` times.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np

from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import ConfigError, Geometry, MediaError, MediaInfo, MediaPlan

#: Changes whenever the same plan would decode to other pixels; part of every digest.
DECODE_VERSION = "pyav-rgb24-pil-bicubic/1"

#: Constants of qwen-vl-utils 0.0.14: largest frame in tokens, and 90% of a context of 128,000 tokens for one video.
QWEN_FRAME_TOKENS = 768
QWEN_CONTEXT_TOKENS = 128_000
QWEN_CONTEXT_SHARE = 0.9
MAX_ASPECT_RATIO = 200

#: Timestamps this near to the border of a clip, in seconds, count as inside.
CLIP_TOLERANCE = 1e-6


def plan(
    info: MediaInfo,
    budget: ImageBudget | VideoBudget,
    geometry: Geometry,
    *,
    start: float | None = None,
    end: float | None = None,
) -> MediaPlan:
    """Plan one medium. A pure function of its arguments.

    Args:
        info: what probing said.
        budget: ``ImageBudget`` for an image, ``VideoBudget`` for a video.
        geometry: how the model cuts pixels into tokens.
        start: first second of the wanted clip; the beginning if None. Videos only.
        end: last second of the wanted clip; the end if None. Videos only.

    Raises:
        MediaError: ``kind`` when the file is not of the budget's kind, ``clip`` when the clip lies outside the video,
            ``aspect`` when one side is over 200 times the other.
        ConfigError: the budget contradicts itself.
    """
    if budget.min_pixels > budget.max_pixels:
        raise ConfigError(
            f"min_pixels ({budget.min_pixels}) is larger than max_pixels ({budget.max_pixels}); lower the first"
        )
    if info.kind == "image":
        if not isinstance(budget, ImageBudget):
            raise _wrong_kind(info, "video")
        height, width = resize(info, geometry.factor, budget.min_pixels, budget.max_pixels)
        return _finish(info, geometry, (0,), height, width, 0.0)
    if not isinstance(budget, VideoBudget):
        raise _wrong_kind(info, "image")
    first, last = clip(info, start, end)
    total = last - first + 1
    count = frame_count(budget, total, info.fps, geometry.temporal_patch_size)
    indices = _linspace(first, last, count) if budget.rule == "qwen" else _even(info, first, last, count)
    indices += (indices[-1],) * (-count % geometry.temporal_patch_size)
    height, width = _video_size(info, budget, geometry, len(indices))
    return _finish(info, geometry, indices, height, width, count / total * info.fps)


def _wrong_kind(info: MediaInfo, wanted: str) -> MediaError:
    """What the file's first bytes could not tell: a GIF is an image or a video by its number of frames."""
    frames = "a single frame" if info.kind == "image" else "a moving picture"
    return MediaError(
        f"{info.path} ({info.codec}) holds {frames}, it is no {wanted}; move it to the column of {info.kind}s",
        path=info.path,
        reason="kind",
    )


def clip(info: MediaInfo, start: float | None, end: float | None) -> tuple[int, int]:
    """First and last frame index (inclusive) of a clip in seconds; at least one frame.

    Raises:
        MediaError: ``clip``.
    """
    begin = 0.0 if start is None else float(start)
    finish = math.inf if end is None else float(end)
    if not begin <= finish or begin > info.duration + CLIP_TOLERANCE or finish < 0:
        raise MediaError(
            f"{info.path}: the clip from {start} to {end} s lies outside the video of {info.duration:.3f} s",
            path=info.path,
            reason="clip",
        )
    first = bisect_left(info.timestamps, begin - CLIP_TOLERANCE)
    last = bisect_right(info.timestamps, finish + CLIP_TOLERANCE) - 1
    if first > last:
        first = last = max(bisect_right(info.timestamps, begin + CLIP_TOLERANCE) - 1, 0)
    return first, last


def frame_count(budget: VideoBudget, total: int, fps: float, multiple: int) -> int:
    """Frames to read of ``total`` at ``fps``: a multiple of ``multiple``, or as many as there are when there are fewer.

    ``smart_nframes`` of qwen-vl-utils 0.0.14, made total: where that raises (fewer frames than ``multiple``, or a fixed
    number above ``total``) this takes what the clip has.
    """
    if budget.frames is not None:
        wanted = round(budget.frames / multiple) * multiple or min(budget.frames, multiple - 1)
        wanted = min(wanted, total)
    else:
        lowest = math.ceil(budget.min_frames / multiple) * multiple
        highest = math.floor(budget.max_frames / multiple) * multiple or budget.max_frames
        wanted = math.floor(min(max(total / fps * budget.fps, lowest), highest, total))
    return wanted // multiple * multiple or max(wanted, 1)


def resize(info: MediaInfo, factor: int, min_pixels: float, max_pixels: float) -> tuple[int, int]:
    """Height and width, multiples of ``factor``, of about the same shape and within the limits on their product.

    ``smart_resize`` of qwen-vl-utils 0.0.14, except that no side falls below ``factor`` (that rule gives 0 for very
    long and thin pictures); the other side then gives way so that ``max_pixels`` holds, if one token fits it at all.

    Raises:
        MediaError: ``aspect``.
    """
    height, width = info.height, info.width
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise MediaError(
            f"{info.path}: {width}x{height} is longer than {MAX_ASPECT_RATIO} times its width; crop it",
            path=info.path,
            reason="aspect",
        )
    h = max(factor, round(height / factor) * factor)
    w = max(factor, round(width / factor) * factor)
    if h * w > max_pixels:
        beta = math.sqrt((height * width) / max_pixels)
        h = max(factor, math.floor(height / beta / factor) * factor)
        w = max(factor, math.floor(width / beta / factor) * factor)
        if h * w > max_pixels:
            longest = max(factor, math.floor(max_pixels / factor / factor) * factor)
            h, w = min(h, longest), min(w, longest)
    elif h * w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * beta / factor) * factor
        w = math.ceil(width * beta / factor) * factor
    return h, w


def _video_size(info: MediaInfo, budget: VideoBudget, geometry: Geometry, frames: int) -> tuple[int, int]:
    """Frame size under both limits, per frame and per video."""
    token = geometry.factor**2
    if budget.rule == "uniform":
        share = math.inf if budget.total_pixels is None else budget.total_pixels / frames
        largest = max(min(budget.max_pixels, share), token)
        # A share of the video's total below min_pixels wins over it: the total is what memory was planned for.
        return resize(info, geometry.factor, budget.min_pixels if budget.min_pixels <= largest else token, largest)
    total = QWEN_CONTEXT_TOKENS * token * QWEN_CONTEXT_SHARE if budget.total_pixels is None else budget.total_pixels
    # qwen-vl-utils counts a temporal pair as one frame here, and lets min_pixels win over total_pixels.
    cap = max(
        min(QWEN_FRAME_TOKENS * token, total / frames * geometry.temporal_patch_size), int(budget.min_pixels * 1.05)
    )
    return resize(info, geometry.factor, budget.min_pixels, min(budget.max_pixels, cap))


def _linspace(first: int, last: int, count: int) -> tuple[int, ...]:
    """``count`` indices from ``first`` to ``last``, rounded half to even, in single precision.

    The oracle computes them with ``torch.linspace``, whose float32 steps (one rounding per value, mirrored at the
    middle) decide near ties; this is the same arithmetic. Products are exact in float64, so each value is rounded once.
    """
    if count == 1:
        return (first,)
    step = float(np.float32(last - first) / np.float32(count - 1))
    i = np.arange(count, dtype=np.float64)
    values = np.where(i < count // 2, first + step * i, last - step * (count - 1 - i)).astype(np.float32)
    return tuple(np.rint(values).astype(np.int64).tolist())


def _even(info: MediaInfo, first: int, last: int, count: int) -> tuple[int, ...]:
    """The frames on screen at the middles of ``count`` equally long parts of the clip, by their true times."""
    if count == last - first + 1:
        return tuple(range(first, last + 1))
    begin = info.timestamps[first]
    finish = info.timestamps[last + 1] if last + 1 < info.frame_count else info.duration
    length = (finish - begin) / count
    chosen: list[int] = []
    for k in range(count):
        shown = bisect_right(info.timestamps, begin + (k + 0.5) * length, first, last + 1) - 1
        # A frame that stays long on screen is taken once; the next parts move on, leaving room for those that follow.
        lowest = chosen[-1] + 1 if chosen else first
        chosen.append(min(max(shown, lowest), last - (count - 1 - k)))
    return tuple(chosen)


def _finish(
    info: MediaInfo, geometry: Geometry, indices: tuple[int, ...], height: int, width: int, sample_fps: float
) -> MediaPlan:
    steps = len(indices) // geometry.temporal_patch_size if info.kind == "video" else 1
    grid = (steps, height // geometry.patch_size, width // geometry.patch_size)
    return MediaPlan(
        kind=info.kind,
        fingerprint=info.fingerprint,
        frame_indices=indices,
        timestamps=tuple(info.timestamps[i] for i in indices),
        height=height,
        width=width,
        grid=grid,
        tokens=grid[0] * grid[1] * grid[2] // geometry.merge_size**2,
        source_fps=info.fps,
        sample_fps=sample_fps,
        digest=digest(info.kind, info.fingerprint, indices, height, width),
    )


def digest(kind: str, fingerprint: str, indices: tuple[int, ...], height: int, width: int) -> str:
    """SHA-256, in hex, of everything that decides the pixels: equal digests mean equal frames."""
    text = f"{DECODE_VERSION}|{kind}|{fingerprint}|{height}x{width}|{','.join(map(str, indices))}"
    return hashlib.sha256(text.encode()).hexdigest()


def plan_to_json(value: MediaPlan) -> str:
    """Canonical JSON of a plan: one plan has one text."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True, separators=(",", ":"))


def plan_from_json(text: str) -> MediaPlan:
    """Inverse of ``plan_to_json``.

    Raises:
        ValueError, KeyError, TypeError: the text is not a plan.
    """
    fields: Mapping[str, Any] = json.loads(text)
    if not isinstance(fields, dict):
        raise TypeError("a plan is a JSON object")
    lists = {name: tuple(fields[name]) for name in ("frame_indices", "timestamps", "grid")}
    return MediaPlan(**{**fields, **lists})
