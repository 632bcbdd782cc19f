"""Opening, reloading and closing vLLM's engine in this process."""

from __future__ import annotations

import gc
import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.engines.vllm_inputs import SUPPORTED
from easyvideor1.families.family import Family
from easyvideor1.types import ConfigError

#: Set before vLLM is imported, unless the user set them. Without the first, vLLM would generate in a process of its
#: own, and weights would have to be copied there.
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
#: Tokens that a block of the KV cache holds. Prompts share whole blocks only, so small blocks share more.
_BLOCK = 32
#: Tokens that the KV cache holds at least.
_MIN_TOKENS = 4096

#: vLLM's distributed state belongs to the process, and closing one engine would take it from the others. Closed ones
#: are torn down with the last.
_OPEN: list[Any] = []
_CLOSED: list[Any] = []


def open_core(family: Family, checkpoint: Path, config: ModelConfig, dtype: torch.dtype, batch_tokens: int) -> Any:
    """vLLM's ``LLMEngine`` with the weights of a checkpoint.

    Args:
        family: of the model.
        checkpoint: its directory.
        config: how it is loaded.
        dtype: of weights and computation.
        batch_tokens: tokens that the KV cache holds.

    Raises:
        ConfigError: the model type is not supported.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    arguments = _arguments(family, checkpoint, config, dtype, batch_tokens)
    with _untouched():
        from vllm import EngineArgs, LLMEngine

        core = LLMEngine.from_engine_args(EngineArgs(**arguments))
    _OPEN.append(core)
    return core


def reload(core: Any, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load all weights, and empty every cache that holds what older ones computed."""
    with torch.no_grad():
        core.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
        core.apply_model(_renew_tied_head)
    core.reset_prefix_cache(reset_running_requests=True)
    core.reset_mm_cache()
    core.reset_encoder_cache()


def _renew_tied_head(model: Any) -> None:
    """Make a tied output head use the new embeddings: vLLM 0.32 keeps the head's old weights as packed for the CPU."""
    language = model.get_language_model()
    head, embeddings = language.lm_head, language.model.embed_tokens
    if language.config.tie_word_embeddings and head is not embeddings:
        head.weight = embeddings.weight
        head.quant_method.process_weights_after_loading(head)


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
    family: Family, checkpoint: Path, config: ModelConfig, dtype: torch.dtype, batch_tokens: int
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
    longest = min(tokens, text.max_position_embeddings)
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
        "async_scheduling": False,  # a token ahead would be drawn from weights that are about to change
        "mm_processor_cache_gb": 0,  # the store and this engine keep frames
        "mm_device_do_normalize": False,  # it knows one mean and deviation, checkpoints two
        "disable_log_stats": True,
    }
    if not on_cpu:
        return {**arguments, "enable_sleep_mode": True}
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
        # vLLM 0.32 rewinds the random numbers of a prompt that comes in chunks, and on the CPU they cannot be rewound.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": longest,
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
