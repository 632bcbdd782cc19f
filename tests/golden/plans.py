"""Plans of seeded media under a grid of budgets, rules and geometries."""

from __future__ import annotations

import hashlib
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

from .entries import EasyVideoError, Geometry, ImageBudget, MediaInfo, VideoBudget, plan

GEOMETRIES = {"14": Geometry(14, 2, 2), "16": Geometry(16, 2, 2), "14, alone": Geometry(14, 2, 1)}
RULES = ("qwen", "hf", "hf-qwen2", "hf-qwen3", "uniform", "uniform-time")
VIDEO_BUDGETS: dict[str, dict[str, Any]] = {
    "usual": {},
    "slow, small": {"fps": 0.7, "max_frames": 19, "max_pixels": 50_000},
    "fast, total": {"fps": 6.0, "max_frames": 64, "total_pixels": 1_500_000, "max_pixels": 200_000},
    "11 frames": {"frames": 11, "min_pixels": 20_000, "max_pixels": 90_000},
}
IMAGE_BUDGETS: dict[str, dict[str, Any]] = {
    "usual": {},
    "small": {"min_pixels": 1024, "max_pixels": 30_000},
    "large": {"min_pixels": 400_000, "max_pixels": 900_000},
}
SIZES = ((64, 64), (320, 240), (640, 360), (1280, 720), (1080, 1920), (37, 411), (2000, 30), (4000, 19))


def make(work: Path) -> dict[str, Any]:
    """Plans by medium, budget, rule and geometry; `work` is not needed."""
    rng = random.Random("golden plans")
    found: dict[str, Any] = {}
    for number in range(16):
        info, clips = _video(number, rng)
        for start, end in clips:
            part = "all of it" if start is None else f"{start} to {end} s"
            found[f"{_words(info)}, {part}"] = {
                f"{name}, {rule}, patches of {shape}": _plan(
                    info, VideoBudget(rule=rule, **budget), geometry, start=start, end=end
                )
                for name, budget in VIDEO_BUDGETS.items()
                for rule in RULES
                for shape, geometry in GEOMETRIES.items()
            }
    for width, height in (*SIZES, *((rng.randint(20, 3000), rng.randint(20, 3000)) for _ in range(12))):
        info = MediaInfo("p.png", "image", f"image {width} {height}", "png", width, height)
        found[_words(info)] = {
            f"{name}, {rule}, patches of {shape}": _plan(info, ImageBudget(rule=rule, **budget), geometry)
            for name, budget in IMAGE_BUDGETS.items()
            for rule in ("qwen", "hf")
            for shape, geometry in GEOMETRIES.items()
        }
    return found


def _video(number: int, rng: random.Random) -> tuple[MediaInfo, list[tuple[float | None, float | None]]]:
    """A video, every third with an uneven frame rate, and the clips of it that are planned: the whole and a part."""
    width, height = SIZES[number % len(SIZES)]
    fps = rng.choice((1.0, 8.0, 12.5, 24000 / 1001, 25.0, 30000 / 1001, 60.0))
    count = rng.choice((1, 2, 3, 7, 48, 250, 611, 1799))
    uneven = number % 3 == 2
    times, now = [], 0.0
    for _ in range(count):
        times.append(now)
        now += (0.25 + 1.5 * rng.random() if uneven else 1.0) / fps
    rate = count / now if uneven else fps
    name = f"{number}.mp4"
    info = MediaInfo(name, "video", f"video {number}", "h264", width, height, 0, rate, now, tuple(times))
    first, last = sorted((round(rng.random() * now, 3), round(rng.random() * now, 3)))
    return info, [(None, None), (first, last)]


def _words(info: MediaInfo) -> str:
    shape = f"{info.width} x {info.height}"
    if info.kind == "image":
        return f"image of {shape}"
    return f"{info.path}: {info.frame_count} frames of {shape} at {info.fps:.6g} a second"


def _plan(info: MediaInfo, budget: Any, geometry: Geometry, **clip: Any) -> Any:
    try:
        made = plan(info, budget, geometry, **clip)
    except EasyVideoError as error:
        return {"error": getattr(error, "reason", type(error).__name__)}
    return {
        "frames": _ranges(made.frame_indices),
        "size": [made.width, made.height],
        "grid": list(made.grid),
        "tokens": made.tokens,
        "sample_fps": made.sample_fps,
        "timestamps": hashlib.sha256(json.dumps(made.timestamps).encode()).hexdigest()[:8],
        "digest": made.digest[:16],
    }


def _ranges(indices: tuple[int, ...]) -> str:
    """Frame indices as text: the first, and the steps to those that follow; `3 +2x4 +1` is 3 5 7 9 11 12."""
    words = [str(indices[0])]
    steps = [b - a for a, b in pairwise(indices)]
    while steps:
        run = next((i for i, step in enumerate(steps) if step != steps[0]), len(steps))
        words.append(f"+{steps[0]}x{run}" if run > 1 else f"+{steps[0]}")
        steps = steps[run:]
    return " ".join(words)
