"""The processors of transformers as oracles of planning, run in a process of their own.

``python -m tests.video.hf_processors`` reads lines from standard input, a JSON list of cases each, and answers every
one with a line: an object whose ``answers`` are as many. The processors are executed whole, from sampling to patches:
on tensors without storage (``meta``), which have shapes only, or with ``real`` on pixels.

The processors need torchvision, of which they call three small functions. Where torchvision is missing, or does not
import (its wheels are built for one build of torch), the stand-ins below take its place: in this process only, for
nothing else may believe that torchvision is there.
"""

from __future__ import annotations

import enum
import importlib
import importlib.machinery
import json
import sys
from types import ModuleType
from typing import Any

import torch

#: Which class transformers gives to a model type is asked of transformers itself.
MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def main() -> None:
    stood_in = provide_torchvision()
    for line in sys.stdin:
        answers = [_answer(case) for case in json.loads(line)]
        told = {"stood_in": stood_in, "transformers": importlib.import_module("transformers").__version__}
        print(json.dumps(told | {"answers": answers}), flush=True)


def _answer(case: dict[str, Any]) -> dict[str, Any]:
    try:
        return _image(case) if case["kind"] == "image" else _video(case)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _video(case: dict[str, Any]) -> dict[str, Any]:
    from transformers.video_utils import VideoMetadata

    processor = _class_of("video", case["model"])(
        size={"shortest_edge": case["shortest"], "longest_edge": case["longest"]},
        patch_size=case["patch"],
        temporal_patch_size=case["temporal"],
        fps=case["fps"],
        num_frames=case["num_frames"],
        min_frames=case["min_frames"],
        max_frames=case["max_frames"],
        do_sample_frames=case["sample"],
        do_resize=case["resize"],
        cap_pixels_per_frame=case["max_video_tokens"] is not None,
        **({} if case["max_video_tokens"] is None else {"max_video_tokens": case["max_video_tokens"]}),
    )
    frames, height, width = case["frames"], case["height"], case["width"]
    metadata = VideoMetadata(
        total_num_frames=frames,
        fps=case["source_fps"],
        duration=frames / case["source_fps"],
        height=height,
        width=width,
    )
    indices = list(range(frames))
    if case["sample"]:
        indices = _sample(processor, metadata, case)
    if indices[-1] >= frames:
        return {"indices": indices, "error": "IndexError: a frame behind the last one"}
    pixels = _pixels(case, (frames, 3, height, width))
    out = processor(videos=[pixels], video_metadata=[metadata], return_tensors="pt")
    return _tokens(out["video_grid_thw"], out["pixel_values_videos"], case, processor.merge_size) | {"indices": indices}


def _sample(processor: Any, metadata: Any, case: dict[str, Any]) -> list[int]:
    indices = processor.sample_frames(
        metadata,
        temporal_patch_size=case["temporal"],
        min_frames=case["min_frames"],
        max_frames=case["max_frames"],
        fps=case["fps"],
        num_frames=case["num_frames"],
    )
    return [int(index) for index in indices]


def _image(case: dict[str, Any]) -> dict[str, Any]:
    processor = _class_of(case["backend"], case["model"])(
        size={"shortest_edge": case["shortest"], "longest_edge": case["longest"]},
        patch_size=case["patch"],
        temporal_patch_size=case["temporal"],
    )
    shape = (3, case["height"], case["width"])
    pixels: Any = _pixels(case, shape)
    if case["backend"] == "pil":
        pixels = pixels.numpy()
    out = processor(images=[pixels], input_data_format="channels_first", return_tensors="pt")
    return _tokens(out["image_grid_thw"], out["pixel_values"], case, processor.merge_size)


def _pixels(case: dict[str, Any], shape: tuple[int, ...]) -> torch.Tensor:
    if not case["real"]:
        return torch.empty(shape, dtype=torch.uint8, device="meta")
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _tokens(grids: torch.Tensor, patches: torch.Tensor, case: dict[str, Any], merge: int) -> dict[str, Any]:
    """``tokens`` counts the patches that really came out."""
    t, h, w = grids[0].tolist()
    return {
        "height": h * case["patch"],
        "width": w * case["patch"],
        "grid": [t, h, w],
        "tokens": patches.shape[0] / merge**2,
    }


def _class_of(kind: str, model: str) -> Any:
    if kind == "video":
        table = importlib.import_module("transformers.models.auto.video_processing_auto").VIDEO_PROCESSOR_MAPPING_NAMES
        kind = "torchvision"
    else:
        table = importlib.import_module("transformers.models.auto.image_processing_auto").IMAGE_PROCESSOR_MAPPING_NAMES
    entry = table[model]
    name = entry[kind] if isinstance(entry, dict) else entry
    return getattr(importlib.import_module("transformers"), name)


def provide_torchvision() -> bool:
    """True when stand-ins had to be put in its place."""
    try:
        importlib.import_module("torchvision.transforms.v2.functional")
        return False
    except (ImportError, RuntimeError):  # the second: operators of another build of torch
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    names = ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2", ".transforms.v2.functional")
    modules = {name: ModuleType(f"torchvision{name}") for name in names}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, loader=None, is_package=True)
        module.__path__ = []
        if name:
            parent, _, last = name.rpartition(".")
            setattr(modules[parent], last, module)
        sys.modules[module.__name__] = module
    modules[""].__dict__["__version__"] = "0.28.0"
    modules[".io"].__dict__.update(ImageReadMode=None, decode_image=None)
    modules[".transforms"].__dict__["InterpolationMode"] = _InterpolationMode
    modules[".transforms.functional"].__dict__["pil_to_tensor"] = None
    modules[".transforms.v2.functional"].__dict__.update(
        InterpolationMode=_InterpolationMode, resize=_resize, normalize=_normalize, grayscale_to_rgb=_to_rgb
    )
    return True


class _InterpolationMode(enum.Enum):
    """The names that transformers looks up; values as in Pillow's documentation of its filters."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def _resize(
    image: torch.Tensor, size: list[int], interpolation: _InterpolationMode, antialias: bool = True
) -> torch.Tensor:
    flat = image.reshape(-1, *image.shape[-3:])
    out = torch.nn.functional.interpolate(flat, tuple(size), mode=interpolation.value, antialias=antialias)
    return out.reshape(*image.shape[:-2], *out.shape[-2:])


def _normalize(image: torch.Tensor, mean: Any, std: Any, inplace: bool = False) -> torch.Tensor:
    shape = (-1, 1, 1)
    return (image - torch.as_tensor(mean, device=image.device).view(shape)) / torch.as_tensor(
        std, device=image.device
    ).view(shape)


def _to_rgb(image: torch.Tensor) -> torch.Tensor:
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:])


if __name__ == "__main__":
    main()
