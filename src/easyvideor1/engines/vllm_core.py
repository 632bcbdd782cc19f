"""Opening, watching and closing vLLM's engine in this process."""

from __future__ import annotations

import gc
import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.config.engines import VLLMConfig
from easyvideor1.engines.vllm_inputs import SUPPORTED
from easyvideor1.engines.vllm_weights import Adapters
from easyvideor1.families.family import Family
from easyvideor1.types import ConfigError

#: Set before vLLM is imported, unless the user set them. Without the first, vLLM would generate in a process of its
#: own, and weights would have to be copied there.
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
#: Tokens that a block of the KV cache holds. Prompts share whole blocks only, so small blocks share more.
_BLOCK = 32
#: Tokens that the KV cache holds at least.
_MIN_TOKENS = 4096

#: torch's own: vLLM puts a function in its place that does nothing.
_set_num_threads = torch.set_num_threads

#: vLLM's distributed state belongs to the process, and closing one engine would take it from the others. Closed ones
#: are torn down with the last.
_OPEN: list[Any] = []
_CLOSED: list[Any] = []


def open_core(
    family: Family,
    checkpoint: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    batch_tokens: int,
    *,
    adapters: Adapters | None = None,
    ranks: int = 1,
    settings: VLLMConfig | None = None,
) -> Any:
    """vLLM's ``LLMEngine`` with the weights of a checkpoint.

    Args:
        family: of the model.
        checkpoint: its directory.
        config: how it is loaded.
        dtype: of weights and computation.
        batch_tokens: tokens that the KV cache holds.
        adapters: that vLLM makes room for.
        ranks: devices that share every layer (tensor parallelism).
        settings: of vLLM.

    Raises:
        ConfigError: the model type is not supported.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if ranks > 1:  # functions that look into the model travel to the processes of the ranks
        os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    arguments = _arguments(family, checkpoint, config, dtype, batch_tokens, settings or VLLMConfig())
    arguments["tensor_parallel_size"] = ranks
    if adapters is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": adapters.room}
    with _untouched():
        from vllm import EngineArgs, LLMEngine

        _pack_with_one_thread()
        core = LLMEngine.from_engine_args(EngineArgs(**arguments))
    if not torch.cuda.is_available():
        core.collective_rpc(_make_generators_rewind)
    core.counters = Counters(core.engine_core.engine_core.scheduler)
    _OPEN.append(core)
    return core


def _pack_with_one_thread() -> None:
    """Make vLLM pack weights for the CPU with one thread, whatever their number is when weights come.

    oneDNN chooses the form of packed weights by the number of threads, and vLLM 0.32 keeps the code that multiplies
    with them by the sizes of the matrices alone, for all engines of a process. After an update under another number of
    threads, that code would read weights in a form that they do not have.
    """
    from vllm import _custom_ops as operators

    pack = operators.create_onednn_mm
    if getattr(pack, "with_one_thread", False):
        return

    @wraps(pack)
    def packed(*args: Any, **options: Any) -> Any:
        threads = torch.get_num_threads()
        _set_num_threads(1)
        try:
            return pack(*args, **options)
        finally:
            _set_num_threads(threads)

    packed.with_one_thread = True  # type: ignore[attr-defined]
    operators.create_onednn_mm = packed


class Counters:
    """What vLLM's scheduler has computed and what it has taken from its caches.

    Prompt tokens are counted in the steps that compute them, whatever the reason: a first pass, an eviction, new
    weights. A hit in the encoder cache is stale if the tower saw the medium before ``renew`` was called last.
    """

    def __init__(self, scheduler: Any) -> None:
        self.prefilled_tokens = self.media_encoded = self.media_hits = self.stale_hits = 0
        self._renewed = 0
        self._seen: dict[str, int] = {}
        self._scheduler, self._cache = scheduler, scheduler.encoder_cache_manager
        self._schedule = scheduler.schedule
        self._allocate = self._cache.allocate
        self._look_up = self._cache.check_and_update_cache
        scheduler.schedule = self._counted_schedule
        self._cache.allocate = self._counted_allocate
        self._cache.check_and_update_cache = self._counted_look_up

    def renew(self) -> None:
        """The weights are other ones from now on."""
        self._renewed += 1

    def totals(self) -> dict[str, int]:
        """All of them by name."""
        return {
            "prefilled_tokens": self.prefilled_tokens,
            "media_encoded": self.media_encoded,
            "media_hits": self.media_hits,
            "stale_hits": self.stale_hits,
        }

    def _counted_schedule(self, *args: Any, **options: Any) -> Any:
        output = self._schedule(*args, **options)
        for name, tokens in output.num_scheduled_tokens.items():
            request = self._scheduler.requests[name]
            before = request.num_computed_tokens - tokens
            self.prefilled_tokens += max(min(request.num_computed_tokens, request.num_prompt_tokens) - before, 0)
        return output

    def _counted_allocate(self, request: Any, index: int) -> None:
        self.media_encoded += 1
        self._seen[request.mm_features[index].identifier] = self._renewed
        self._allocate(request, index)

    def _counted_look_up(self, request: Any, index: int) -> bool:
        found = bool(self._look_up(request, index))
        if found:
            self.media_hits += 1
            self.stale_hits += self._seen.get(request.mm_features[index].identifier) != self._renewed
        return found


class _RewindingGenerator(torch.Generator):
    """Goes back by one draw. vLLM does this after each chunk of a prompt but the last, and torch on a GPU only."""

    before: torch.Tensor

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> torch.Generator:
        return self.set_state(self.before)


class _Generators(dict[int, torch.Generator]):
    """Generators by row of the batch, as vLLM keeps them; each step draws once from every one of ``items``."""

    def __init__(self) -> None:
        self._rewinding: WeakKeyDictionary[torch.Generator, _RewindingGenerator] = WeakKeyDictionary()

    def __setitem__(self, row: int, generator: torch.Generator) -> None:
        if not isinstance(generator, _RewindingGenerator):
            known = self._rewinding.get(generator)
            if known is None:
                known = self._rewinding[generator] = _RewindingGenerator()
                known.set_state(generator.get_state())
            generator = known
        super().__setitem__(row, generator)

    def items(self) -> Any:
        for generator in self.values():
            assert isinstance(generator, _RewindingGenerator)
            generator.before = generator.get_state()
        return super().items()


def _make_generators_rewind(worker: Any) -> None:
    worker.model_runner.input_batch.generators = _Generators()


def close_core(core: Any) -> None:
    """Tear it down, with those that were closed before, if no other is open."""
    _OPEN.remove(core)
    _CLOSED.append(core)
    if not _OPEN:
        for closed in _CLOSED:
            closed.engine_core.shutdown()
        _CLOSED.clear()
        gc.collect()


def _arguments(
    family: Family,
    checkpoint: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    batch_tokens: int,
    settings: VLLMConfig,
) -> dict[str, Any]:
    from transformers import AutoConfig

    trusted = config.trust_remote_code
    shape = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trusted)
    if shape.model_type not in SUPPORTED:
        raise ConfigError(
            f"rollout.engine: vllm has not been tested with models of type {shape.model_type!r}; "
            f"tested are {', '.join(sorted(SUPPORTED))}. Use rollout.engine=local"
        )
    text = shape.get_text_config()
    tokens = max(batch_tokens, _MIN_TOKENS)
    longest = min(settings.max_model_len or tokens, text.max_position_embeddings)
    on_cpu = not torch.cuda.is_available()
    arguments = {
        "model": str(checkpoint),
        "trust_remote_code": trusted,
        "dtype": str(dtype).removeprefix("torch."),
        "max_model_len": longest,
        "generation_config": "vllm",  # what a checkpoint recommends must not change what is drawn
        "logprobs_mode": "processed_logprobs",
        "logits_processors": [_visual_mask(family.visual_token_ids)],
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "async_scheduling": False,  # a token ahead would be drawn from weights that are about to change
        "mm_processor_cache_gb": 0,  # the store and this engine keep frames
        "mm_device_do_normalize": False,  # it knows one mean and deviation, checkpoints two
        "disable_log_stats": True,
    }
    if not on_cpu:
        return {**arguments, "enable_sleep_mode": True, **on_gpu(settings, longest)}
    if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        values = 2 * text.num_hidden_layers * text.num_key_value_heads * head
        blocks = math.ceil(tokens / _BLOCK) + 8
        arguments["kv_cache_memory_bytes"] = values * dtype.itemsize * blocks * _BLOCK
    return {
        **arguments,
        "block_size": _BLOCK,
        "enforce_eager": True,
        "skip_mm_profiling": True,
        "max_num_batched_tokens": longest,
    }


def on_gpu(settings: VLLMConfig, longest: int) -> dict[str, Any]:
    """The settings as arguments of vLLM's ``EngineArgs``; what is null is left to vLLM.

    Args:
        settings: of the configuration.
        longest: ``max_model_len``. vLLM refuses a step that is shorter where it may not cut prompts.
    """
    step = settings.max_num_batched_tokens
    if not settings.chunked_prefill:
        step = max(step or 0, longest)
    chosen = {"gpu_memory_utilization": settings.gpu_memory_utilization, "max_num_batched_tokens": step}
    return {
        "enable_chunked_prefill": settings.chunked_prefill,
        "enforce_eager": settings.enforce_eager,
        **{name: value for name, value in chosen.items() if value is not None},
    }


def _visual_mask(visual_token_ids: Sequence[int]) -> type:
    """A logits processor of vLLM that forbids visual tokens in every request."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class VisualMask(LogitsProcessor):  # type: ignore[misc]  # untyped where vLLM is not installed
        def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
            self.ids = torch.tensor(visual_token_ids, device=device)

        def apply(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.index_fill_(-1, self.ids, -math.inf)

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            pass

    return VisualMask


@contextmanager
def _untouched() -> Iterator[None]:
    """Keep what vLLM would change in this process: random states and the number of threads."""
    states, threads, set_threads = (
        (random.getstate(), np.random.get_state()),
        torch.get_num_threads(),
        torch.set_num_threads,
    )
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
