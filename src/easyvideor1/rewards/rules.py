"""The table of all task types: which rule parses, checks and scores each of them."""

from __future__ import annotations

from types import MappingProxyType

from easyvideor1.rewards.tasks.boolean import BOOLEAN
from easyvideor1.rewards.tasks.code import CODE
from easyvideor1.rewards.tasks.free_text import OCR, TEXT
from easyvideor1.rewards.tasks.grounding import SPATIAL, SPATIAL_TEMPORAL, TEMPORAL, TRACKING
from easyvideor1.rewards.tasks.markup import HTML, SVG
from easyvideor1.rewards.tasks.math import MATH
from easyvideor1.rewards.tasks.multiple_choice import CHOICE
from easyvideor1.rewards.tasks.numbers import NUMERICAL, REGRESSION
from easyvideor1.rewards.tasks.preference import PREFERENCE
from easyvideor1.rewards.tasks.segmentation import SEGMENTATION
from easyvideor1.rewards.types import Rule

#: Canonical task type -> its rule; the keys are those of ``easyvideor1.tasks.TASKS``.
RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        "multiple_choice": CHOICE,
        "numerical": NUMERICAL,
        "regression": REGRESSION,
        "temporal_grounding": TEMPORAL,
        "spatial_grounding": SPATIAL,
        "spatial_temporal_grounding": SPATIAL_TEMPORAL,
        "tracking": TRACKING,
        "segmentation": SEGMENTATION,
        "open_ended": TEXT,
        "video_qa": TEXT,
        "description": TEXT,
        "math": MATH,
        "ocr": OCR,
        "boolean": BOOLEAN,
        "code": CODE,
        "svg_code": SVG,
        "html_code": HTML,
        "preference": PREFERENCE,
    }
)
