"""An installed torchvision must not keep models from loading.

This package does not use it, but transformers imports it wherever it is installed, and its wheels fit one build of
torch. The usual ones are built for CUDA: beside a torch for the CPU their library does not load, and the import stops
at an operator that is not declared. Once two names are declared, the rest of torchvision imports.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache

import torch

from easyvideor1.types import ConfigError

#: Operators that torchvision describes to torch while it is imported, whether or not its library has declared them.
_DESCRIBED = ("nms", "qnms")


@cache
def import_torchvision() -> str:
    """Import torchvision if it is installed, and say in words what had to be done for it; empty for nothing.

    Raises:
        ConfigError: it is installed and cannot be imported.
    """
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception:  # noqa: BLE001 - any error: tried again below, and raised if it stays
        _forget()
    else:
        return ""
    _declare()
    try:
        module = importlib.import_module("torchvision")
    except Exception as error:
        _forget()
        raise ConfigError(
            f"torchvision is installed, but does not load beside torch {torch.__version__}: {type(error).__name__}: "
            f"{error}. Nothing here needs it: pip uninstall torchvision, or install the one built for this torch"
        ) from error
    return (
        f"torchvision {module.__version__} is built for another torch than {torch.__version__}: its operators are off"
    )


#: Keeps the declared operators alive.
_LIBRARIES: list[torch.library.Library] = []


def _declare() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _DESCRIBED:
        if not hasattr(torch.ops.torchvision, name):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)


def _forget() -> None:
    """Take a half-imported torchvision out, so that the next import begins anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
