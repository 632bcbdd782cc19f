"""The layers of a model as they were for the engine before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from easyvideor1.families.layers import PatchProjection, RMSNorm


@contextmanager
def earlier_layers(model: Any) -> Iterator[None]:
    """Within, convolutions and norms are those of torch and transformers."""
    ours = {module: type(module) for module in model.modules() if isinstance(module, (PatchProjection, RMSNorm))}
    for module, kind in ours.items():
        module.__class__ = kind.__bases__[-1]
    try:
        yield
    finally:
        for module, kind in ours.items():
            module.__class__ = kind
