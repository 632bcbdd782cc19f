"""One usable reference per task type, with the further columns that its rule needs."""

from __future__ import annotations

import json
from typing import Any

SQUARE = {"size": [4, 4], "counts": [5, 2, 2, 2, 5]}

REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "multiple_choice": ("B", {"options": ("A. red", "B. blue", "C. green")}),
    "numerical": ("12.5", {}),
    "regression": ("0.4", {}),
    "temporal_grounding": ('{"time": [3.0, 9.5]}', {}),
    "spatial_grounding": ('{"boxes": [10, 20, 110, 220]}', {}),
    "spatial_temporal_grounding": (
        '{"time": [4.0, 6.1], "boxes": {"5": [437, 167, 481, 209], "6": [306, 196, 328, 220]}}',
        {},
    ),
    "tracking": ('{"boxes": {"1": [0, 0, 10, 10], "2": [5, 5, 15, 15], "3": [9, 9, 19, 19]}}', {}),
    "segmentation": (
        json.dumps(
            {
                "boxes": [1, 1, 3, 3],
                "positive_points": [[1, 1], [2, 2], [2, 1]],
                "negative_points": [[0, 0], [3, 3], [0, 3]],
                "time": 2.0,
            }
        ),
        {"mask": SQUARE},
    ),
    "open_ended": ("a man opens the red door", {}),
    "video_qa": ("negative", {}),
    "description": ("Two dogs run after a ball. One of them stops.", {}),
    "math": (r"\frac{3}{4}", {}),
    "ocr": ("EXIT 42 now", {}),
    "boolean": ("Yes", {}),
    "code": ("def add(a, b):\n    return a + b", {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}),
    "svg_code": ('<svg xmlns="http://www.w3.org/2000/svg"><circle cx="5" r="4"/><text>hi</text></svg>', {}),
    "html_code": ("<div class='a'><p>Hello there</p><img src='x.png'></div>", {}),
    "preference": ("Response 2", {}),
}
