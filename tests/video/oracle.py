"""qwen-vl-utils as the oracle of planning: its own functions, called as they are.

Its module imports torchvision, which planning does not touch. Where torchvision is not installed, empty modules
stand in for it while the oracle is imported, and only then: nothing else may believe that torchvision is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

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
