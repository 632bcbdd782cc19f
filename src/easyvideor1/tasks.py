"""The task types: one table for rows, prompts, rewards, evaluation and documentation."""

from __future__ import annotations

import difflib
from types import MappingProxyType

from easyvideor1.types import DataError

#: Canonical name -> accepted aliases. Matching ignores case and treats space, ``-`` and ``_`` alike.
TASKS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "multiple_choice": ("mc", "mcq", "choice"),
        "numerical": ("number", "numeric"),
        "regression": (),
        "temporal_grounding": ("temporal",),
        "spatial_grounding": ("spatial", "grounding"),
        "spatial_temporal_grounding": ("stvg",),
        "tracking": (),
        "segmentation": (),
        "open_ended": ("free-form", "free form", "qa"),
        "video_qa": ("videoqa",),
        "description": ("video description", "caption"),
        "math": ("mathematics",),
        "ocr": (),
        "boolean": ("binary classification", "yes no", "binary"),
        "code": ("coding", "python code"),
        "svg_code": ("svg",),
        "html_code": ("html",),
        "preference": ("llava", "critic"),
    }
)


def _key(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


_CANONICAL = {_key(alias): task for task, aliases in TASKS.items() for alias in (task, *aliases)}


def canonical_task(name: str) -> str:
    """The canonical name of a task type.

    Raises:
        DataError: the name is unknown; the message lists the nearest known names.
    """
    try:
        return _CANONICAL[_key(name)]
    except KeyError:
        near = difflib.get_close_matches(_key(name), _CANONICAL, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(TASKS)}"
        raise DataError(f"unknown task type {name!r}: {hint}") from None
