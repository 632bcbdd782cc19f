"""The rule of every task type: one table for parsing, scoring and checking."""

from __future__ import annotations

from types import MappingProxyType

from easyvideor1.rewards.answer import Rule
from easyvideor1.rewards.boolean import BOOLEAN
from easyvideor1.rewards.choice import CHOICE
from easyvideor1.rewards.code import CODE
from easyvideor1.rewards.grounding import SPATIAL, SPATIAL_TEMPORAL, TEMPORAL, TRACKING
from easyvideor1.rewards.markup import HTML, SVG
from easyvideor1.rewards.math import MATH
from easyvideor1.rewards.numbers import NUMERICAL, REGRESSION
from easyvideor1.rewards.preference import PREFERENCE
from easyvideor1.rewards.segmentation import SEGMENTATION
from easyvideor1.rewards.text import OCR, TEXT

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
