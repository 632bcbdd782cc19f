"""Prompts of every family for every kind of question: their token ids, what these say, and where media stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .entries import Components, RunConfig, write_tiny_checkpoint
from .questions import configuration

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
_BUDGETS = {
    "image": {"min_pixels": 1024, "max_pixels": 8192},
    "video": {"rule": "hf", "fps": 2.0, "min_frames": 2, "max_frames": 4, "min_pixels": 1024, "max_pixels": 4096},
}
#: Sections of the configuration, by the name under which their prompts are kept.
VARIANTS: dict[str, dict[str, Any]] = {
    "as usual": {"model": {"conventions": "transformers"}},
    "as released, system message, no thinking, boxes in thousandths": {
        "model": {"conventions": "released"},
        "prompts": {"system": "Be brief.", "thinking": False},
        "rewards": {"coordinates": "thousand"},
    },
}


def make(work: Path) -> dict[str, Any]:
    """Prompts by family, variant and kind of question."""
    return {family: {name: _prompts(work, family, name) for name in VARIANTS} for family in FAMILIES}


def _prompts(work: Path, family: str, variant: str) -> dict[str, Any]:
    checkpoint = work / family
    if not checkpoint.exists():
        # No merges: tokens are bytes, whatever the version of the library that trains tokenizers.
        write_tiny_checkpoint(
            checkpoint, [], family=family, seed=0, width=32, layers=1, vision_layers=1, vocabulary=263
        )
    values = configuration(work, **VARIANTS[variant])
    values["data"] |= _BUDGETS
    values["model"] = {**values.get("model", {}), "path": str(checkpoint)}
    with Components.open(RunConfig.model_validate(values)) as components:
        (loaded,) = components.load_sources(components.config.data.train)
        return {
            sample.extra["kind"]: _record(components.render(sample), components.family) for sample in loaded.samples
        }


def _record(prompt: Any, family: Any) -> dict[str, Any]:
    text = family.tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
    return {
        "reads": re.sub(r"(<\|(?:image|video)_pad\|>)+", lambda m: f"{m[1]}x{m[0].count(m[1])}", text),
        "token_ids": prompt.token_ids.tolist(),
        "spans": [[span.media, span.start, span.length] for span in prompt.spans],
    }
