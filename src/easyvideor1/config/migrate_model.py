"""The model of EasyR1 and EasyVideoR1 as the section of the policy."""

from __future__ import annotations

from typing import Any

from easyvideor1.config.old_file import OldFile

_BASE = "worker.actor.model"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "float32": "float32", "bfloat16": "bfloat16"}


def model(old: OldFile) -> dict[str, Any]:
    """The section ``model``."""
    out: dict[str, Any] = {"gradient_checkpointing": old.flag(f"{_BASE}.enable_gradient_checkpointing", True)}
    if old.has(f"{_BASE}.model_path"):
        out["path"] = str(old.get(f"{_BASE}.model_path"))
    # Their vision tower holds the merger as well.
    frozen = old.flag(f"{_BASE}.freeze_vision_tower", False)
    if (adapters := _lora(old, frozen=frozen)) is not None:
        out["lora"] = adapters
    elif frozen:
        out["freeze"] = ["vision", "merger"]
    # The old default was to trust; a file that does not say so has not asked for it.
    if old.flag(f"{_BASE}.trust_remote_code", False):
        out["trust_remote_code"] = True
    out["dtype"] = _dtype(old)
    tokenizer = f"{_BASE}.tokenizer_path"
    if old.get(tokenizer) not in (None, old.get(f"{_BASE}.model_path")):
        old.leave(tokenizer, "the tokenizer is read from model.path")
    return out


def _dtype(old: OldFile) -> str:
    """What layers computed in: bfloat16 by default, beside weights in float32, which is ``model.dtype: bfloat16``."""
    weights, computed = _known_dtype(old, "torch_dtype", None), _known_dtype(old, "mp_param_dtype", "bf16")
    return "bfloat16" if weights == "bfloat16" else computed or "bfloat16"


def _known_dtype(old: OldFile, name: str, default: str | None) -> str | None:
    key = f"worker.actor.fsdp.{name}"
    value = old.get(key, default)
    if value is not None and str(value) not in _DTYPES:
        old.leave(key, "model.dtype takes float32 and bfloat16")
    return _DTYPES.get(str(value))


def _lora(old: OldFile, *, frozen: bool) -> dict[str, Any] | None:
    """Adapters, where the file asks for any; a rank of 0 asks for none."""
    base = f"{_BASE}.lora"
    rank = old.integer(f"{base}.rank", 0)
    if rank <= 0:
        return None
    lora: dict[str, Any] = {"rank": rank, "alpha": old.number(f"{base}.alpha", 64.0)}
    dropout = old.number(f"{base}.dropout", old.number(f"{base}.lora_dropout", 0.0))
    if dropout:
        lora["dropout"] = dropout
    modules, excluded = old.get(f"{base}.target_modules", "all-linear"), old.get(f"{base}.exclude_modules")
    if modules != "all-linear":
        reason = "adapters go to groups of modules: model.lora.targets; those of the language model are taken"
        old.leave(f"{base}.target_modules", reason, modules)
    everywhere = modules == "all-linear" and not frozen and "visual" not in str(excluded)
    if excluded is not None and "visual" not in str(excluded):
        old.leave(f"{base}.exclude_modules", "adapters go to groups of modules: model.lora.targets", excluded)
    lora["targets"] = ["vision", "merger", "language"] if everywhere else ["language"]
    return lora
