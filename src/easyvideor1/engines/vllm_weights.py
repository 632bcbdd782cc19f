"""Weights and adapters of vLLM: what is taken, how it gets there, and whether all of it arrived."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from easyvideor1.config import LoraConfig
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.types import ConfigError, EasyVideoError

#: Ranks that vLLM has room for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: vLLM's name and number of the policy's adapters: there is one set of them, which is replaced in place.
_ADAPTERS = ("policy", 1)
#: Values of a tensor that are added up at once, on the CPU as many as its caches hold, and elsewhere.
_CHUNK = (1 << 18, 1 << 24)

#: Sums of contents by part of the model.
Sums = Counter[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Adapters:
    """How the policy's adapters (LoRA) count: ``alpha / rank``."""

    rank: int
    alpha: float

    @property
    def room(self) -> int:
        """The rank that vLLM makes room for."""
        return next(rank for rank in _RANKS if rank >= self.rank)


def adapters_of(module: Any, config: LoraConfig | None) -> Adapters | None:
    """The adapters of a trainer's module, or of a configuration; None where vLLM takes merged weights.

    Adapters of the vision tower or its merger are merged: vLLM 0.32 counts their tokens wrongly on the CPU, and calls
    them experimental elsewhere.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "lora_A")]
    if layers:
        (rank,), (alpha,) = ({*values} for values in zip(*(_shape(layer) for _, layer in layers), strict=True))
        tower = any(".visual." in name for name, _ in layers)
    elif config is not None:
        rank, alpha, tower = config.rank, config.alpha, {*config.targets} != {"language"}
    else:
        return None
    return None if tower or rank > _RANKS[-1] else Adapters(rank, alpha)


def _shape(layer: Any) -> tuple[int, float]:
    (rank,), (alpha,) = layer.r.values(), layer.lora_alpha.values()
    return int(rank), float(alpha)


class Intake:
    """Takes updates: checks the tensors, loads them into a core, and compares what it then holds.

    vLLM joins weights (query, key and value; gate and up), so that it cannot take some of them only. An update brings
    all weights or none, and all adapters or none. Adapters may come alone once their base is there.

    Args:
        module: has the model's parameters, with their values or without.
        dtype: of vLLM's weights.
        adapters: that it has room for.
        from_checkpoint: the core opens with the weights that adapters change.
        tower: a copy of the vision tower that follows the updates.
    """

    def __init__(
        self, module: Any, dtype: torch.dtype, adapters: Adapters | None, *, from_checkpoint: bool, tower: Any | None
    ) -> None:
        self.adapters = adapters
        #: What requests name the adapters by; None without.
        self.request: Any = None
        #: The version that came only in part.
        self.incomplete: int | None = None
        self.bytes = 0
        self._sums: Sums = Counter()
        self._held: dict[str, torch.Tensor] = {}
        self._dtype = dtype
        self._has_base = from_checkpoint
        named = [] if tower is None else tower.named_parameters()
        self._tower = {name: parameter for name, parameter in named if not parameter.is_meta}
        # Tied weights go by either name; vLLM knows the first.
        first: dict[int, str] = {}
        self._own: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if ".lora_" not in name:
                name = weight_name(name)
                self._own[name] = (first.setdefault(id(parameter), name), tuple(parameter.shape))

    def load(self, core: Any, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> bool:
        """Load what comes, empty all caches, and check that vLLM holds it. Whether anything came.

        Raises:
            ConfigError: a tensor is not of this model, or some are missing. If ``incomplete`` is set then, the core is
                of no use any more.
            EasyVideoError: vLLM holds something else.
        """
        adapters: dict[str, torch.Tensor] = {}
        stream = self._weights(version, tensors, adapters)
        first = next(stream, None)
        if first is None and not adapters:
            return False
        if first is None and not self._has_base:
            raise ConfigError(f"weights of version {version}: adapters came, and the weights that they change did not")
        self.incomplete, self._has_base = version, False
        if first is not None:
            reload_weights(core, itertools.chain([first], stream))
            self.request = None
        if adapters:
            assert self.adapters is not None
            self.request = load_adapters(core, adapters, self.adapters)
        empty_caches(core)
        verify(core, version, None if first is None else self._sums, adapters, self.adapters)
        self.incomplete, self._has_base, self._held = None, True, adapters
        return True

    def _weights(
        self, version: int, tensors: Iterable[tuple[str, torch.Tensor]], came: dict[str, torch.Tensor]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The weights among the tensors of an update; adapters are put into ``came``.

        Raises:
            ConfigError: a tensor is not of this model, or some are missing.
        """
        missing = {first for first, _ in self._own.values()}
        any_weight = False
        for name, tensor in tensors:
            if ".lora_" in name:
                came[name] = self._adapter(version, name, tensor)
                continue
            first, shape = self._own.get(name, ("", ()))
            if not first or shape != tuple(tensor.shape):
                raise ConfigError(
                    f"weights of version {version}: {name!r} has shape {tuple(tensor.shape)}, the engine's model has "
                    f"{shape if first else 'no such tensor'}; they are of another model"
                )
            if not any_weight:
                self._sums = Counter()
            if first in missing:
                self.bytes += tensor.nbytes
                self._sums[part_of(first)] += content_sum(tensor.detach().to(self._dtype))
            if name in self._tower and not torch.equal(self._tower[name], tensor.to(self._tower[name])):
                with torch.no_grad():
                    self._tower[name].copy_(tensor)
            any_weight = True
            missing.discard(first)
            yield first, tensor
        if any_weight and missing:
            raise ConfigError(
                f"weights of version {version}: {len(missing)} of the model's did not come, such as "
                f"{min(missing)!r}; the vllm engine takes all of them or none"
            )
        if came and (gone := sorted((self._held.keys() - came.keys()) | _halves(came))):
            raise ConfigError(
                f"weights of version {version}: {len(gone)} adapters did not come, such as {gone[0]!r}; the vllm "
                "engine takes all of them or none"
            )

    def _adapter(self, version: int, name: str, tensor: torch.Tensor) -> torch.Tensor:
        owner, _, kind = name.partition(".lora_")
        _, shape = self._own.get(f"{owner}.weight", ("", ()))
        expected: tuple[int, ...] = ()
        if self.adapters is not None and len(shape) == 2:
            rank = self.adapters.rank
            expected = {"A.weight": (rank, shape[1]), "B.weight": (shape[0], rank)}.get(kind, ())
        if expected != tuple(tensor.shape):
            raise ConfigError(
                f"weights of version {version}: the adapter {name!r} has shape {tuple(tensor.shape)}, the engine's "
                f"model takes {expected or 'none there'}; they are of another model"
            )
        self.bytes += tensor.nbytes
        return tensor.detach().to("cpu", self._dtype, copy=True).contiguous()


def _halves(adapters: Iterable[str]) -> set[str]:
    """The partners that adapters lack."""
    names = {*adapters}
    swap = {"A": "B", "B": "A"}
    partners = {re.sub(r"\.lora_([AB])\.", lambda match: f".lora_{swap[match[1]]}.", name) for name in names}
    return partners - names


def reload_weights(core: Any, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load all weights in place."""
    if core.vllm_config.parallel_config.tensor_parallel_size > 1:
        tensors = [(name, tensor.detach().cpu()) for name, tensor in tensors]  # they go to other processes
    with torch.no_grad():
        core.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
        if not torch.cuda.is_available():
            core.apply_model(_renew_tied_head)


def load_adapters(core: Any, tensors: dict[str, torch.Tensor], adapters: Adapters) -> Any:
    """Put adapters in place of those before. Returns what requests name them by.

    vLLM reads adapters from a directory as peft writes it: a few files in memory where the system has such a place.
    """
    from vllm.lora.request import LoRARequest

    name, number = _ADAPTERS
    shared = Path("/dev/shm")
    targets = sorted({key.partition(".lora_")[0].rpartition(".")[2] for key in tensors})
    settings = {"peft_type": "LORA", "r": adapters.rank, "lora_alpha": adapters.alpha, "target_modules": targets}
    with tempfile.TemporaryDirectory(prefix="easyvideor1-", dir=shared if shared.is_dir() else None) as directory:
        Path(directory, "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        save_file(
            {f"base_model.model.{key}": tensor for key, tensor in tensors.items()},
            Path(directory, "adapter_model.safetensors"),
        )
        core.add_lora(LoRARequest(name, number, directory, load_inplace=True))
    return LoRARequest(name, number, directory)


def empty_caches(core: Any) -> None:
    """Drop all that older weights computed; requests that are running keep their tokens and compute keys anew.

    Raises:
        EasyVideoError: vLLM did not.
    """
    if not core.reset_prefix_cache(reset_running_requests=True):
        raise EasyVideoError(
            "vLLM did not empty its prefix cache after an update of weights, and keys of the weights before are still "
            "in it; open the engine again, or use rollout.engine=local"
        )
    core.reset_mm_cache()
    core.reset_encoder_cache()
    core.counters.renew()


def verify(
    core: Any, version: int, weights: Sums | None, adapters: dict[str, torch.Tensor], shape: Adapters | None
) -> None:
    """Compare what was sent with what vLLM holds; ranks that share the weights hold parts, and are not compared.

    Args:
        core: holds it.
        version: for messages.
        weights: contents of the weights; None where only adapters came.
        adapters: by name.
        shape: of the adapters.

    Raises:
        EasyVideoError: they differ.
    """
    if core.vllm_config.parallel_config.tensor_parallel_size > 1:
        return
    sent = Counter(weights or {})
    for name, tensor in adapters.items():
        assert shape is not None
        scaled = tensor * (shape.alpha / shape.rank) if ".lora_B." in name else tensor
        sent[part_of(name)] += content_sum(scaled)
    (held,) = core.apply_model(partial(held_sums, weights=weights is not None))
    wrong = sorted(part for part in sent.keys() | held.keys() if (sent[part] - held[part]) % 2**64)
    if wrong:
        where, number = wrong[0]
        raise EasyVideoError(
            f"weights of version {version}: vLLM holds other values than it was given, in {len(wrong)} parts of the "
            f"model, such as {where}{f' {number}' if number >= 0 else ''}; this version of vLLM does not load this "
            "model as it should. Use rollout.engine=local"
        )


def part_of(name: str) -> tuple[str, int]:
    """The part of a model that a weight lies in, by either naming: tower or language model, and the layer's number."""
    number = re.search(r"\.(\d+)\.", name)
    return ("layer of the vision tower" if "visual." in name else "layer"), int(number[1]) if number else -1


def content_sum(tensor: torch.Tensor) -> int:
    """A sum over the values of a tensor that shows what it holds, in whatever order.

    vLLM joins, pads and transposes weights, so order is no part of it; zeros add nothing.
    """
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    values = tensor.detach().reshape(-1)
    on_cpu = values.device.type == "cpu"
    size = _CHUNK[not on_cpu]
    total = 0
    for start in range(0, len(values), size):
        wide = (values[start : start + size] + 0).view(kind).long()  # -0.0 counts as 0; sums are modulo 2 ** 64
        squares = torch.dot(wide, wide) if on_cpu else (wide * wide).sum()
        total += 0x9E3779B97F4A7C15 * int(squares) + int(wide.sum())
    return total % 2**64


def held_sums(model: Any, weights: bool = True) -> Sums:
    """The contents of the parts of vLLM's model; without ``weights`` those of its adapters."""
    sums: Sums = Counter()
    for name, module in model.named_modules():
        for tensor in (*getattr(module, "lora_a_stacked", ()), *getattr(module, "lora_b_stacked", ())):
            sums[part_of(f"{name}.")] += content_sum(tensor)
    if not weights:
        return sums
    language = model.get_language_model()
    head, embeddings = language.lm_head, language.model.embed_tokens
    if language.config.tie_word_embeddings:
        skipped = {id(parameter) for parameter in head.parameters()} - {id(own) for own in embeddings.parameters()}
    else:
        skipped = set()
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in skipped:
                continue
            skipped.add(id(parameter))
            values = _unpacked(module, parameter) if own == "weight" and not parameter.numel() else parameter
            sums[part_of(f"{name}.{own}")] += content_sum(values)
    return sums


def _unpacked(module: Any, weight: torch.Tensor) -> torch.Tensor:
    """A weight that vLLM's CPU build keeps in a form of its own: what the layer makes of the unit vectors."""
    size = getattr(module, "input_size_per_partition", None) or module.embedding_dim
    units = torch.eye(size, dtype=weight.dtype)
    unpacked: torch.Tensor = module.quant_method.apply(module, units, None)
    return unpacked


def _renew_tied_head(model: Any) -> None:
    """Make a tied output head use the new embeddings: vLLM 0.32 keeps the head's old weights as packed for the CPU."""
    language = model.get_language_model()
    head, embeddings = language.lm_head, language.model.embed_tokens
    if language.config.tie_word_embeddings and head is not embeddings:
        head.weight = embeddings.weight
        head.quant_method.process_weights_after_loading(head)
