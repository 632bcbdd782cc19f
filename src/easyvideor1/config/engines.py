"""Settings of engines that are libraries of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from easyvideor1.config.base import BaseConfig, PositiveInt

#: What vLLM takes of a GPU's memory where ``gpu_memory_utilization`` is null.
VLLM_SHARE = 0.9


class VLLMConfig(BaseConfig):
    """What ``engine: vllm`` hands to vLLM, beside what ``rollout`` says for every engine. All of it is for GPUs, but
    ``max_model_len``: on the CPU memory follows from ``rollout.batch_tokens``."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that weights, activations and the KV cache of the engine may take; null leaves vLLM's
    choice, which is nearly all of it. Lower it where the trainer has the same GPU."""
    max_model_len: PositiveInt | None = None
    """Tokens that a prompt and its response may have together; null is ``rollout.batch_tokens``, or the limit of the
    checkpoint if that is lower."""
    max_num_batched_tokens: PositiveInt | None = None
    """Tokens that one step of the engine computes at most; null leaves vLLM's choice."""
    chunked_prefill: bool = True
    """Whether a prompt may be computed in several steps, beside responses that are being decoded. Without it one step
    holds at least a whole prompt, so that ``max_num_batched_tokens`` is raised to the longest if it is less."""
    enforce_eager: bool = False
    """Run without CUDA graphs and compilation: slower, with less memory and a quick start."""

    @property
    def share(self) -> float:
        """Share of a GPU's memory that an engine takes."""
        return self.gpu_memory_utilization or VLLM_SHARE

    @model_validator(mode="after")
    def _a_step_holds_a_prompt(self) -> VLLMConfig:
        longest, step = self.max_model_len, self.max_num_batched_tokens
        if not self.chunked_prefill and longest is not None and step is not None and step < longest:
            raise ValueError(
                f"max_num_batched_tokens ({step}) is below max_model_len ({longest}), and without chunked_prefill a "
                "prompt goes into one step; raise the first, lower the second, or set chunked_prefill"
            )
        return self
