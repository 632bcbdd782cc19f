"""Models of transformers in float64 from end to end: what is left between two ways then is not rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _KeepFloat64(TorchFunctionMode):
    """Numbers in float64 stay that.

    Models round them to float32 for norms, rotations, decays and softmax, and give them float32 coordinates, which some
    functions refuse beside them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            args, named = [_wide(value) for value in args], {name: _wide(value) for name, value in named.items()}
        return func(*args, **named)


def _wide(value: Any) -> Any:
    if value is torch.float32:
        return torch.float64
    return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


@contextmanager
def in_float64(model: Any) -> Iterator[None]:
    """The float32 model computes in float64 in this context; behind it, its weights are what they were.

    Gradients that the weights still hold become float32 then. Experts are computed one by one: torch has no grouped
    products of them in float64.
    """
    experts = model.config.get_text_config()._experts_implementation
    model.double().set_experts_implementation("eager")
    try:
        with _KeepFloat64():
            yield
    finally:
        model.float().set_experts_implementation(experts)
