"""Decide which frames are read, at which size, and how many tokens they become: before any pixel is decoded.

Frames are chosen in ``sampling``, sizes in ``resize``; ``docs/planning.md`` argues every difference from the libraries
that the rules are named after. What holds for every rule:

* The number of frames is a multiple of ``temporal_patch_size``. Where a rule leaves another number, because the clip or
  the budget has fewer frames than one temporal step, or (``hf-qwen3``) because the rule knows odd numbers, the last
  frame is repeated, as the model processors do.
* No frame is planned twice otherwise: a fixed number of frames beyond what the clip has is reduced to what it has
  (``hf-qwen3`` repeats frames, as its processor does).
* A clip ``[start, end]`` holds the frames whose timestamps lie in it. When none does (a clip shorter than a frame), it
  is the one frame on screen at ``start``. A clip that begins after the end of the video, or ends before it begins, is
  an error; an ``end`` beyond the video is the end of the video.
* An image is one frame: ``grid`` is ``(1, h, w)``, and whoever patchifies repeats it ``temporal_patch_size`` times.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import ConfigError, Geometry, MediaError, MediaInfo, MediaPlan
from easyvideor1.video.resize import image_size, video_size
from easyvideor1.video.sampling import clip, sample

#: Changes whenever the same plan would decode to other pixels; part of every digest.
DECODE_VERSION = "rgb24-pil-bicubic/2"

#: The transformers video processor that goes with a patch size: Qwen2-VL and Qwen2.5-VL have 14, Qwen3-VL has 16.
_HF_RULES: Mapping[int, str] = {14: "hf-qwen2", 16: "hf-qwen3"}


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
        height, width = image_size(info, budget, geometry)
        return _finish(info, geometry, (0,), height, width, 0.0)
    if not isinstance(budget, VideoBudget):
        raise _wrong_kind(info, "image")
    rule = video_rule(budget.rule, geometry)
    first, last = clip(info, start, end)
    indices = sample(rule, info, budget, first, last, geometry.temporal_patch_size)
    count = len(indices)
    height, width = video_size(rule, info, budget, geometry, count)
    indices += (indices[-1],) * (-count % geometry.temporal_patch_size)
    return _finish(info, geometry, indices, height, width, count / (last - first + 1) * info.fps)


def video_rule(rule: str, geometry: Geometry) -> str:
    """The rule that ``VideoBudget.rule`` means for a model: itself, or the one that ``hf`` stands for.

    The processors of Qwen2-VL (also used by Qwen2.5-VL) and of Qwen3-VL sample and resize differently, and a plan knows
    of the model its geometry only. There the patch size tells these families apart; where it does not, the rule has to
    be named.

    Raises:
        ConfigError: ``hf`` for another patch size.
    """
    if rule != "hf":
        return rule
    if geometry.patch_size not in _HF_RULES:
        raise ConfigError(
            f"video.rule hf knows the models with patches of {' or '.join(map(str, _HF_RULES))} pixels, this one has "
            f"{geometry.patch_size}; choose {' or '.join(_HF_RULES.values())}"
        )
    return _HF_RULES[geometry.patch_size]


def _wrong_kind(info: MediaInfo, wanted: str) -> MediaError:
    """What the file's first bytes could not tell: a GIF is an image or a video by its number of frames."""
    frames = "a single frame" if info.kind == "image" else "a moving picture"
    return MediaError(
        f"{info.path} ({info.codec}) holds {frames}, it is no {wanted}; move it to the column of {info.kind}s",
        path=info.path,
        reason="kind",
    )


def _finish(
    info: MediaInfo, geometry: Geometry, indices: tuple[int, ...], height: int, width: int, sample_fps: float
) -> MediaPlan:
    steps = len(indices) // geometry.temporal_patch_size if info.kind == "video" else 1
    grid = (steps, height // geometry.patch_size, width // geometry.patch_size)
    return MediaPlan(
        kind=info.kind,
        fingerprint=info.fingerprint,
        frame_indices=indices,
        timestamps=itemgetter(*indices)(info.timestamps) if len(indices) > 1 else (info.timestamps[indices[0]],),
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
    numbers = (",%d" * len(indices))[1:] % indices  # one call for all of them is twice as fast as joining their texts
    text = f"{DECODE_VERSION}|{kind}|{fingerprint}|{height}x{width}|{numbers}"
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
