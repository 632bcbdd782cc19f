"""Models of transformers that compute in float64 throughout."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch


def in_float64(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model in float64: transformers itself rounds to float32 in RMSNorm and in the tower's rotation."""

    def rotate(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def half(x: torch.Tensor) -> torch.Tensor:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)

        cos, sin = cos.unsqueeze(-2).double(), sin.unsqueeze(-2).double()
        return q * cos + half(q) * sin, k * cos + half(k) * sin

    monkeypatch.setattr(importlib.import_module(type(model).__module__), "apply_rotary_pos_emb_vision", rotate)
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            exact = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon)
            exact.weight = module.weight
            model.set_submodule(name, exact)
    return model.double()
