"""The oracles of planning: qwen-vl-utils and the processors of transformers, executed as they are.

The module of qwen-vl-utils imports torchvision, which planning does not touch. Where torchvision is not installed,
empty modules stand in for it while the oracle is imported, and only then: nothing else may believe that torchvision is
there. The processors run in a process of their own (``hf_processors``) for the same reason.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from easyvideor1.config.schema import VideoBudget
from easyvideor1.types import Geometry, MediaInfo

_STANDINS = ("torchvision", "torchvision.io", "torchvision.transforms")


def load_oracle() -> Any:
    """The module ``qwen_vl_utils.vision_process``; skips the test module where it is not installed."""
    if importlib.util.find_spec("qwen_vl_utils") is None:
        pytest.skip("needs qwen-vl-utils==0.0.14 (extra 'dev')", allow_module_level=True)
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("qwen_vl_utils.vision_process")
    modules = {name: ModuleType(name) for name in _STANDINS}
    modules["torchvision"].__dict__.update(
        io=modules["torchvision.io"], transforms=modules["torchvision.transforms"], __version__="0"
    )
    modules["torchvision.transforms"].__dict__["InterpolationMode"] = None
    sys.modules.update(modules)
    try:
        return importlib.import_module("qwen_vl_utils.vision_process")
    finally:
        for name in _STANDINS:
            del sys.modules[name]


def info_of(frames: int, fps: float, width: int = 640, height: int = 360) -> MediaInfo:
    """A video of constant rate."""
    return MediaInfo(
        path="clip.mp4",
        kind="video",
        fingerprint="f" * 64,
        codec="h264",
        width=width,
        height=height,
        fps=fps,
        duration=frames / fps,
        timestamps=tuple(i / fps for i in range(frames)),
    )


def qwen_element(budget: VideoBudget) -> dict[str, float]:
    """What qwen-vl-utils is told for a budget."""
    element: dict[str, float] = {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
    if budget.total_pixels is not None:
        element["total_pixels"] = budget.total_pixels
    if budget.frames is not None:
        element["nframes"] = budget.frames
    else:
        element |= {"fps": budget.fps, "min_frames": budget.min_frames, "max_frames": budget.max_frames}
    return element


def qwen_plan(
    oracle: Any, element: dict[str, float], info: MediaInfo, factor: int
) -> tuple[list[int], tuple[int, int]]:
    """What qwen-vl-utils decides for a video, put together from its own functions (its reader needs a file)."""
    first, last, total = oracle.calculate_video_frame_range(element, info.frame_count, info.fps)
    count = oracle.smart_nframes(element, total_frames=total, video_fps=info.fps)
    indices = torch.linspace(first, last, count).round().long().tolist()
    token = factor * factor
    total_pixels = element.get("total_pixels", oracle.MODEL_SEQ_LEN * token * 0.9)
    cap = max(
        min(oracle.VIDEO_MAX_TOKEN_NUM * token, total_pixels / count * oracle.FRAME_FACTOR),
        int(element["min_pixels"] * 1.05),
    )
    size = oracle.smart_resize(
        info.height, info.width, factor, min_pixels=element["min_pixels"], max_pixels=min(element["max_pixels"], cap)
    )
    return indices, size


def hf_video_case(
    model: str, info: MediaInfo, budget: VideoBudget, geometry: Geometry, *, real: bool = False
) -> dict[str, Any]:
    """What the video processor of a model type is told for a budget: the mapping that ``docs/planning.md`` states."""
    token = geometry.factor**2
    if model == "qwen3_vl":
        longest = 10**13 if budget.total_pixels is None else budget.total_pixels
        tokens = budget.max_pixels // token if budget.max_pixels < longest else None
        assert tokens is None or tokens * token == budget.max_pixels, "the processor counts in tokens"
    else:
        longest, tokens = budget.max_pixels, None
        if budget.total_pixels is not None:
            tokens = round(budget.total_pixels / token / 0.9)
            assert int(tokens * token * 0.9) == budget.total_pixels, "the processor takes 90% of a number of tokens"
    return {
        "kind": "video",
        "model": model,
        "frames": info.frame_count,
        "source_fps": info.fps,
        "height": info.height,
        "width": info.width,
        "shortest": budget.min_pixels,
        "longest": longest,
        "max_video_tokens": tokens,
        "patch": geometry.patch_size,
        "temporal": geometry.temporal_patch_size,
        "fps": None if budget.frames is not None else budget.fps,
        "num_frames": budget.frames,
        "min_frames": budget.min_frames,
        "max_frames": budget.max_frames,
        "sample": True,
        "resize": True,
        "real": real,
    }


def ask_processors(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the processors of transformers on cases; one answer each, with ``error`` where the processor raised."""
    process = _processors()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(cases) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, "the process of the oracle ended; its standard error says why"
    answers: list[dict[str, Any]] = json.loads(line)["answers"]
    return answers


@functools.cache
def _processors() -> subprocess.Popen[str]:
    """One process for all questions, for importing the processors takes seconds; it ends with this one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.video.hf_processors"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    atexit.register(process.communicate)  # closes its input, which is what it waits for
    return process
