"""Decide which frames are read, at which size, and how many tokens they become, before any pixel is decoded.

``sampling`` chooses frames, ``resize`` chooses sizes. ``docs/planning.md`` explains every difference from the libraries
that the rules are named after. These hold for every rule:

* The number of frames is a multiple of ``temporal_patch_size``. If a rule gives another number (the clip or the budget
  has fewer frames than one temporal step, or ``hf-qwen3`` chooses an odd number), the last frame is repeated, as in the
  model processors.
* No other frame is planned twice: a fixed number of frames larger than the clip is reduced to the frames of the clip
  (``hf-qwen3`` repeats frames, as its processor does).
* A clip ``[start, end]`` contains the frames whose timestamps lie in it. If there are none (a clip shorter than a
  frame), it is the frame on screen at ``start``. A clip that starts after the end of the video or ends before its start
  is an error; an ``end`` beyond the video is the end of the video.
* An image is one frame: ``grid`` is ``(1, h, w)``, and patchifying repeats it ``temporal_patch_size`` times.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import ConfigError, Effect, EffectFile, Geometry, MediaError, MediaInfo, MediaPlan, PlanPart
from easyvideor1.video.resize import image_size, video_size
from easyvideor1.video.sampling import clip, sample

#: Changes when the same plan would decode to other pixels; part of every digest.
DECODE_VERSION = "rgb24-pil-bicubic/2"

#: The transformers video processor for a patch size: Qwen2-VL and Qwen2.5-VL have 14, Qwen3-VL has 16.
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
        info: the result of probing.
        budget: ``ImageBudget`` for an image, ``VideoBudget`` for a video.
        geometry: patch and merge sizes of the model.
        start: start of the clip in seconds; the start of the video if None. Videos only.
        end: end of the clip in seconds; the end of the video if None. Videos only.

    Raises:
        MediaError: ``kind`` if the file is not of the budget's kind, ``clip`` if the clip is outside the video,
            ``aspect`` if one side is over 200 times the other.
        ConfigError: the budget contradicts itself.
    """
    if budget.min_pixels > budget.max_pixels:
        raise ConfigError(
            f"min_pixels ({budget.min_pixels}) is larger than max_pixels ({budget.max_pixels}); lower the first"
        )
    if info.kind == "image":
        if not isinstance(budget, ImageBudget):
            raise _wrong_kind(info, "a video")
        height, width = image_size(info, budget, geometry)
        return _finish(info, geometry, (0,), height, width, 0.0)
    if not isinstance(budget, VideoBudget):
        raise _wrong_kind(info, "an image")
    rule = video_rule(budget.rule, geometry)
    first, last = clip(info, start, end)
    indices = sample(rule, info, budget, first, last, geometry.temporal_patch_size)
    count = len(indices)
    height, width = video_size(rule, info, budget, geometry, count)
    indices += (indices[-1],) * (-count % geometry.temporal_patch_size)
    return _finish(info, geometry, indices, height, width, count / (last - first + 1) * info.fps)


def video_rule(rule: str, geometry: Geometry) -> str:
    """The rule of ``VideoBudget.rule`` for a model, with ``hf`` resolved to one of the processors.

    The processors of Qwen2-VL (also used by Qwen2.5-VL) and of Qwen3-VL sample and resize differently. A plan knows
    only the geometry of the model, whose patch size distinguishes these families; for other sizes, name the rule.

    Raises:
        ConfigError: ``hf`` for another patch size.
    """
    if rule != "hf":
        return rule
    if geometry.patch_size not in _HF_RULES:
        raise ConfigError(
            f"video.rule hf supports models with patches of {' or '.join(map(str, _HF_RULES))} pixels, this one has "
            f"{geometry.patch_size}; choose {' or '.join(_HF_RULES.values())}"
        )
    return _HF_RULES[geometry.patch_size]


def _wrong_kind(info: MediaInfo, wanted: str) -> MediaError:
    """The number of frames decides whether a GIF is an image or a video, not its first bytes."""
    frames = "one frame" if info.kind == "image" else "several frames"
    return MediaError(
        f"{info.path} ({info.codec}) has {frames} and is not {wanted}; move it to the column of {info.kind}s",
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
    """SHA-256, in hex, of everything that determines the pixels: equal digests mean equal frames."""
    numbers = (",%d" * len(indices))[1:] % indices  # one format call is twice as fast as joining texts
    text = f"{DECODE_VERSION}|{kind}|{fingerprint}|{height}x{width}|{numbers}"
    return hashlib.sha256(text.encode()).hexdigest()


def plan_to_json(value: MediaPlan) -> str:
    """Canonical JSON of a plan: equal plans have equal texts."""
    fields = dataclasses.asdict(value)
    for name in ("part", "effects", "source"):
        if not fields[name]:
            del fields[name]  # entries of a store from before there were these keep their text
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def plan_from_json(text: str) -> MediaPlan:
    """Inverse of ``plan_to_json``.

    Raises:
        ValueError, KeyError, TypeError: the text is not a plan.
    """
    return _plan_from_fields(json.loads(text))


def _plan_from_fields(fields: Any) -> MediaPlan:
    if not isinstance(fields, dict):
        raise TypeError("a plan is a JSON object")
    lists: dict[str, Any] = {name: tuple(fields[name]) for name in ("frame_indices", "timestamps", "grid")}
    if (part := fields.get("part")) is not None:
        lists["part"] = PlanPart(_plan_from_fields(part["whole"]), tuple(part["places"]))
    if (source := fields.get("source")) is not None:
        lists["source"] = _plan_from_fields(source)
    lists["effects"] = effects_from_json(fields.get("effects", ()))
    return MediaPlan(**{**fields, **lists})


def effects_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Effect, ...]:
    """Effects as ``dataclasses.asdict`` gives them."""
    return tuple(
        Effect(each["name"], each["options"], tuple(EffectFile(**file) for file in each["files"])) for each in rows
    )
