"""Every knob of a run, as pydantic models. Field docstrings are the documentation of record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.judge import JudgeConfig
from easyvideor1.config.media import CacheConfig, ImageBudget, VideoBudget
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.config.section import PositiveInt, Section
from easyvideor1.config.stages import OptimizerConfig, StageConfig

__all__ = [
    "CacheConfig",
    "DataConfig",
    "EvaluationConfig",
    "ImageBudget",
    "JudgeConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PromptConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "Section",
    "SourceConfig",
    "StageConfig",
    "VideoBudget",
]


class ModelConfig(Section):
    """The policy that is trained."""

    path: str = ""
    """Directory of a Hugging Face checkpoint. A later stage starts from the stage before it, not from here."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that activations are computed in. Parameters and optimiser state are float32 either way: in bfloat16 the
    small updates of reinforcement learning would be rounded away."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation asked of transformers."""
    freeze: tuple[Literal["vision", "merger", "language"], ...] = ()
    """Module groups that are not trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    device: str = "auto"
    """``auto`` takes the first GPU, else the CPU."""
    trust_remote_code: bool = False
    """Let the checkpoint run Python of its own. Leave it off unless you have read that code."""


class SourceConfig(Section):
    """One data source."""

    path: str
    """JSON, JSONL or Parquet file of rows in the published format."""
    media_root: str | None = None
    """Directory that relative media paths start from; the file's own directory if not set."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Relative share of this source in a mixture."""
    tasks: tuple[str, ...] = ()
    """Keep only these task types; all if empty."""


class DataConfig(Section):
    """Where rows come from and how they become prompts."""

    train: tuple[SourceConfig, ...] = ()
    """Sources to learn from."""
    validation: tuple[SourceConfig, ...] = ()
    """Sources evaluated during training, at ``evaluation.every``."""
    test: tuple[SourceConfig, ...] = ()
    """Sources evaluated before the first stage and after each."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used: stop before the first step, or leave it out and count it."""
    max_prompt_tokens: PositiveInt = 8192
    """Samples whose planned prompt is longer are refused or skipped as ``on_bad_row`` says; never truncated."""
    question_key: str = "problem"
    """Column of the question."""
    answer_key: str = "answer"
    """Column of the reference answer."""
    image_key: str = "images"
    """Column of image paths."""
    video_key: str = "videos"
    """Column of video paths."""
    transforms: tuple[str, ...] = ()
    """Sample transforms in order: registered names or ``module:attr``."""
    image: ImageBudget = ImageBudget()
    """Budget of images."""
    video: VideoBudget = VideoBudget()
    """Budget of videos."""


class PromptConfig(Section):
    """How a sample is put into words."""

    templates: str | None = None
    """Directory with your own ``<task>.j2`` files; those it lacks are taken from the package."""
    system: str = ""
    """System message; none if empty."""
    thinking: bool = True
    """Ask for ``<think>`` reasoning before the ``<answer>``."""


class RolloutConfig(Section):
    """How responses are generated."""

    engine: str = "local"
    """Registered engine or ``module:attr``."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature in training; the trainer's log-probs use the same."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample among the k likeliest tokens; 0 is off."""
    max_new_tokens: PositiveInt = 512
    """Length limit of one response, in tokens."""
    batch_tokens: PositiveInt = 65_536
    """Tokens, prompts and responses together, that the local engine keeps in its cache at a time; a prompt that needs
    more goes alone."""


class EvaluationConfig(Section):
    """Evaluation during and after training."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations on ``data.validation``; 0 is never."""
    samples: Annotated[int, Field(ge=0)] = 1
    """Sampled responses per question, reported beside the greedy one; 0 is greedy only."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the sampled responses."""
    max_samples: PositiveInt | None = None
    """Evaluate at most this many samples of each split."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the reported intervals."""


class RunConfig(Section):
    """A whole run."""

    name: str = "run"
    """Name of the run."""
    output_dir: str = "runs/{name}"
    """Run directory; ``{name}`` and ``{seed}`` are filled in."""
    seed: int = 0
    """Everything random in the run follows from this number."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch; 0 leaves torch's choice. Bit-for-bit resume needs the same number."""
    model: ModelConfig = ModelConfig()
    """The policy."""
    data: DataConfig = DataConfig()
    """The data."""
    cache: CacheConfig = CacheConfig()
    """The frame cache."""
    prompts: PromptConfig = PromptConfig()
    """The prompts."""
    rewards: RewardConfig = RewardConfig()
    """The rewards."""
    rollout: RolloutConfig = RolloutConfig()
    """Generation."""
    stages: tuple[StageConfig, ...] = ()
    """What is done, in order; each stage hands its checkpoint to the next."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation."""

    @model_validator(mode="after")
    def _stage_names_differ(self) -> RunConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ, got {names}")
        return self

    @model_validator(mode="after")
    def _features_need_a_frozen_tower(self) -> RunConfig:
        if self.cache.features and (missing := {"vision", "merger"} - set(self.model.freeze)):
            raise ValueError(
                "cache.features keeps what the vision tower computes, which changes with every step that trains it: "
                f"add {', '.join(sorted(missing))} to model.freeze, or set cache.features to false"
            )
        return self
