"""The engines that a configuration can name, and how one is opened."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from easyvideor1.config import ModelConfig
from easyvideor1.config.engines import VLLMConfig
from easyvideor1.engines.engine import Engine, check_contract
from easyvideor1.families.family import Family, chosen_device, configured_model
from easyvideor1.families.features import FeatureStore
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError

ENGINES: Registry[Any] = Registry("engine")

#: Modules that register engines when they are imported.
MODULES = ("local", "vllm")


def engines() -> Registry[Any]:
    """``ENGINES``, with the engines that come with this package."""
    for name in MODULES:
        importlib.import_module(f"easyvideor1.engines.{name}")
    return ENGINES


def resolve_engine(name: str) -> Any:
    """The class of a registered engine, or what ``module:attr`` names.

    Raises:
        ConfigError: there is no such engine, it does not keep the contract, or a package that it needs is missing.
    """
    kind = engines().resolve(name)
    check_contract(name, kind)
    return kind


def open_engine(
    name: str,
    family: Family,
    model: Any | Path,
    load: LoadFrames,
    *,
    batch_tokens: int,
    features: FeatureStore | None = None,
    config: ModelConfig | None = None,
    tensor_parallel_size: int = 1,
    vllm: VLLMConfig | None = None,
) -> Engine:
    """The engine that a configuration names; whoever opens it closes it.

    Args:
        name: a registered name, or ``module:attr`` of a class with the signature of ``LocalEngine``.
        family: of the model.
        model: the trainer's module, or the directory of a checkpoint: the engine then has weights of its own.
        load: reads frames.
        batch_tokens: tokens, prompts and responses together, of one batch.
        features: where features of a frozen vision tower are kept; given to classes that say ``takes_features``.
        config: how a checkpoint is loaded; given, with the directory, to classes that say ``opens_checkpoints``. Others
            receive a module that was loaded so.
        tensor_parallel_size: devices that share each layer; for classes that say ``tensor_parallel``.
        vllm: settings of vLLM; given to classes that say ``takes_vllm_settings``.

    Raises:
        ConfigError: there is no such engine, or it is to share layers and cannot.
    """
    kind = resolve_engine(name)
    options: dict[str, Any] = {"batch_tokens": batch_tokens}
    if tensor_parallel_size > 1:
        if not getattr(kind, "tensor_parallel", False):
            raise ConfigError(
                f"rollout.tensor_parallel_size: {tensor_parallel_size} devices cannot share the layers of engine "
                f"{name!r}; leave it out, or use rollout.engine=vllm"
            )
        options["tensor_parallel_size"] = tensor_parallel_size
    if vllm is not None and getattr(kind, "takes_vllm_settings", False):
        options["settings"] = vllm
    if features is not None and getattr(kind, "takes_features", False):
        options["features"] = features
    if isinstance(model, Path):
        if getattr(kind, "opens_checkpoints", False):
            options["config"] = config
        else:
            model = inference_model(family, model, config or ModelConfig())
    engine: Engine = kind(family, model, load, **options)
    return engine


def inference_model(family: Family, checkpoint: Path, config: ModelConfig) -> Any:
    """The model of a checkpoint, on its device.

    Its parameters say that they are trained where the trainer's do: without gradients, too, torch multiplies with a
    weight that is trained in another way, which may differ in the last bits.
    """
    model = configured_model(family, config, checkpoint).requires_grad_(config.lora is None).eval()
    for group in config.freeze:
        for module in family.groups(model)[group]:
            module.requires_grad_(False)
    model.compute_dtype = getattr(torch, config.dtype)
    return model.to(chosen_device(config))
