"""The task types: one table for rows, prompts, rewards, evaluation and documentation."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from types import MappingProxyType

from easyvideor1.types import DataError

#: Canonical name -> accepted aliases. Matching ignores case and every separator (space, ``-``, ``_``, ``/``, ``.``).
TASKS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "multiple_choice": ("mc", "mcq", "choice", "multi choice", "multiple answer"),
        "numerical": ("number", "numeric", "counting", "count", "REC"),
        "regression": (),
        "temporal_grounding": ("temporal", "temporal localization", "moment retrieval"),
        "spatial_grounding": ("spatial", "grounding"),
        "spatial_temporal_grounding": ("stvg", "spatio-temporal grounding", "temporal-spatial grounding"),
        "tracking": ("object tracking",),
        "segmentation": ("segmentation image", "segmentation video"),
        "open_ended": ("free-form", "free form", "open", "qa"),
        "video_qa": ("videoqa",),
        "description": ("video description", "caption", "captioning", "video caption"),
        "math": ("mathematics", "mathematical"),
        "ocr": ("text recognition",),
        "boolean": ("binary classification", "yes no", "true false", "binary", "bool", "SSR", "CRR"),
        "code": ("coding", "python code", "python"),
        "svg_code": ("svg",),
        "html_code": ("html",),
        "preference": ("llava", "critic"),
    }
)

_SEPARATORS = re.compile(r"[\s_\-/.\u2010-\u2015]+")


def _key(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


_CANONICAL = {_key(alias): task for task, aliases in TASKS.items() for alias in (task, *aliases)}
#: How a name is shown in a suggestion: as the table writes it.
_WRITTEN = {_key(alias): alias for task, aliases in TASKS.items() for alias in (*aliases, task)}


@lru_cache(maxsize=1024)
def canonical_task(name: str) -> str:
    """The canonical name of a task type.

    Raises:
        DataError: the name is unknown; the message lists the nearest known names.
    """
    try:
        return _CANONICAL[_key(name)]
    except KeyError:
        near = difflib.get_close_matches(_key(name), _CANONICAL, n=3, cutoff=0.5)
        suggestions = ", ".join(repr(_WRITTEN[key]) for key in near)
        hint = f"did you mean {suggestions}?" if near else f"known: {', '.join(TASKS)}"
        raise DataError(f"unknown task type {name!r}: {hint}") from None
