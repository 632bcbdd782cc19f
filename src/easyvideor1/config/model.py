"""The policy: which model, what of it is trained, and what its training saves of memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.base import CHANGEABLE, BaseConfig, NonNegativeInt, PositiveInt


class LoraConfig(BaseConfig):
    """Low-rank adapters that are trained in place of the weights."""

    rank: PositiveInt = 16
    """Rank of the adapters."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Adapters count ``alpha / rank``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an adapter's inputs that is dropped in training."""
    targets: Annotated[tuple[Literal["vision", "merger", "language"], ...], Field(min_length=1)] = ("language",)
    """Module groups whose linear layers get adapters; the matrix of the logits gets none."""


class ModelConfig(BaseConfig):
    """The policy that is trained."""

    path: str = ""
    """Directory of a Hugging Face checkpoint, from the working directory or beside the YAML file. A later stage starts
    from the stage before it, not from here."""
    family: str = ""
    """Adapter of the model family: a registered name or ``module:attr``; found by the checkpoint's ``model_type`` if
    empty."""
    conventions: Literal["released", "transformers"] = "released"
    """Follow the code released with the weights or transformers, where they differ on prompts with a video.
    ``released``, as vLLM does: text behind a video starts behind the video's last position (Qwen2-VL, Qwen2.5-VL), and
    no second pair of brackets stands around a video (Qwen3-VL, Qwen3.5). ``transformers``: its processors and
    positions, exactly."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations, the residual stream included. Parameters that learn, and the optimiser's state, are float32
    either way: in bfloat16 the small updates of reinforcement learning would be rounded away. Frozen weights are kept
    in this type where it holds them exactly."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation asked of transformers."""
    freeze: tuple[Literal["vision", "merger", "language"], ...] = ()
    """Module groups that are not trained."""
    lora: LoraConfig | None = None
    """Train adapters and nothing else (extra ``lora``); null trains the weights themselves."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    offload: Annotated[tuple[Literal["activations", "optimizer", "parameters"], ...], CHANGEABLE] = ()
    """What is kept in the memory of the host while the device does not compute with it (docs/performance.md).
    ``activations``: the inputs of checkpointed layers. ``optimizer``: the moments of AdamW. ``parameters``: weights
    that ranks share, their gradients and moments; the optimiser then moves them on the host. Results stay the same."""
    vision_chunk: Annotated[NonNegativeInt, CHANGEABLE] = 0
    """Visual tokens that the vision tower computes at a time; 0 is those of a whole micro-batch. A tower that learns
    computes each chunk once more in the backward pass, and keeps its activations for one chunk only."""
    mlp_chunk: Annotated[NonNegativeInt, CHANGEABLE] = 0
    """Tokens that MLPs and norms of the language model compute at a time; 0 is all of a row. For rows of tens of
    thousands of tokens, where a layer's MLP takes most of the memory. Each part is computed once more in the backward
    pass."""
    compile: bool = False
    """Compile the layers with ``torch.compile`` when they first run, which takes a minute or so. Worth it on a GPU
    (docs/performance.md); on a CPU it needs a C++ compiler, and gains little."""
    device: str = "auto"
    """``auto`` takes the first GPU, else the CPU."""
    trust_remote_code: bool = False
    """Let the checkpoint run Python of its own. Leave it off unless you have read that code."""

    @property
    def learning(self) -> set[str]:
        """Module groups that are trained, or whose adapters are."""
        return set(self.lora.targets) if self.lora else {"vision", "merger", "language"} - set(self.freeze)

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> ModelConfig:
        frozen = [group for group in (self.lora.targets if self.lora else ()) if group in self.freeze]
        if frozen:
            raise ValueError(f"{frozen[0]} is in both freeze and lora.targets; with lora everything else is frozen")
        return self

    @model_validator(mode="after")
    def _parts_are_computed_again_alike(self) -> ModelConfig:
        if self.mlp_chunk and self.lora is not None and self.lora.dropout:
            raise ValueError(
                "mlp_chunk computes MLPs again in the backward pass, where their adapters would drop other inputs; set "
                "lora.dropout=0, or mlp_chunk=0"
            )
        return self

    @model_validator(mode="after")
    def _offloaded_activations_are_inputs_of_layers(self) -> ModelConfig:
        if "activations" in self.offload and not self.gradient_checkpointing:
            raise ValueError(
                "offload: activations keeps the inputs of checkpointed layers on the host, and no layer is "
                "checkpointed; set gradient_checkpointing=true, or leave activations out"
            )
        return self
