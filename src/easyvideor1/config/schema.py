"""Every knob of a run, as pydantic models. Field docstrings are the documentation of record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key is an error, and so is an infinite number but where allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _require_order(section: Section, low: str, high: str) -> None:
    least, most = getattr(section, low), getattr(section, high)
    if least > most:
        raise ValueError(f"{low} ({least}) is larger than {high} ({most}); lower the first or raise the second")


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


class ImageBudget(Section):
    """Limits on one image."""

    min_pixels: PositiveInt = 3136
    """Smaller images are enlarged to this many pixels."""
    max_pixels: PositiveInt = 1_048_576
    """Larger images are reduced to this many pixels."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> ImageBudget:
        _require_order(self, "min_pixels", "max_pixels")
        return self


class VideoBudget(Section):
    """Limits on one video; the planner turns them into frames, sizes and an exact token count."""

    rule: Literal["qwen", "uniform"] = "qwen"
    """``qwen`` samples and resizes as qwen-vl-utils 0.0.14 does; ``uniform`` spaces frames evenly."""
    fps: Annotated[float, Field(gt=0)] = 2.0
    """Frames wanted per second of video. Ignored when ``frames`` is set."""
    frames: PositiveInt | None = None
    """A fixed number of frames, whatever the duration."""
    min_frames: PositiveInt = 4
    """At least this many frames, if the video has them."""
    max_frames: PositiveInt = 128
    """At most this many frames."""
    min_pixels: PositiveInt = 3136
    """Smallest size of one frame, in pixels."""
    max_pixels: PositiveInt = 262_144
    """Largest size of one frame, in pixels."""
    total_pixels: PositiveInt | None = None
    """Largest size of all frames of one video together, in pixels; shrinks frames of long videos."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> VideoBudget:
        _require_order(self, "min_frames", "max_frames")
        _require_order(self, "min_pixels", "max_pixels")
        return self


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


class CacheConfig(Section):
    """The frame cache."""

    dir: str = "cache/frames"
    """Directory of the store; one store may serve any number of runs."""
    codec: Literal["raw", "zstd"] = "raw"
    """How pixels are kept: ``raw`` is mapped into memory, ``zstd`` is smaller. Both lose nothing."""
    workers: PositiveInt = 2
    """Processes that decode."""
    deadline: Annotated[float, Field(gt=0)] = 120.0
    """Seconds after which the decoding of one file is given up and its worker killed."""
    memory_mb: PositiveInt = 4096
    """Memory in MiB that one decoding worker may take."""
    on_miss: Literal["decode", "error"] = "decode"
    """What a read does that finds no entry."""


class PromptConfig(Section):
    """How a sample is put into words."""

    templates: str | None = None
    """Directory with your own ``<task>.j2`` files; those it lacks are taken from the package."""
    system: str = ""
    """System message; none if empty."""
    thinking: bool = True
    """Ask for ``<think>`` reasoning before the ``<answer>``."""


class RewardConfig(Section):
    """How responses are scored."""

    accuracy_weight: Probability = 0.9
    """Weight of accuracy in the total."""
    format_weight: Probability = 0.1
    """Weight of the format reward in the total."""
    custom: dict[str, str] = {}
    """Task type -> ``module:attr`` of your own reward ``(sample, response) -> Score | None``; ``*`` for all."""
    on_error: Literal["stop", "mask"] = "stop"
    """A reward that raises stops the run, or masks the sample and is counted."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardConfig:
        if abs(self.accuracy_weight + self.format_weight - 1) > 1e-9:
            raise ValueError("accuracy_weight and format_weight must sum to 1")
        return self


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


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    lr: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the two moment estimates."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What follows the warm-up."""
    min_lr_ratio: Probability = 0.0
    """Where cosine and linear end, as a share of ``lr``."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    """Gradients are scaled down to this norm."""


class StageConfig(Section):
    """One stage of a run: a rollout source, an advantage, an objective, and for how long."""

    name: Annotated[str, Field(pattern=r"^\w[\w-]*$")]
    """Name of the stage, and of its directory: letters, digits, ``_`` and ``-``."""
    trajectories: Literal["policy", "offline"] = "policy"
    """Where responses come from: generated by the policy, or the rows' offline trajectories (SFT)."""
    advantage: str = "grpo"
    """Registered advantage or ``module:attr``."""
    objective: str = "ppo_clip"
    """Registered objective or ``module:attr``."""
    steps: PositiveInt = 100
    """Optimisation steps."""
    prompts_per_step: PositiveInt = 32
    """Prompts (groups) of one step."""
    group_size: PositiveInt = 8
    """Responses per prompt."""
    clip_low: Annotated[float, Field(ge=0)] = 0.2
    """Lower clip range of the importance ratio."""
    clip_high: Annotated[float, Field(ge=0)] = 0.28
    """Upper clip range of the importance ratio (DAPO's clip-higher)."""
    aggregation: Literal["token", "sequence"] = "token"
    """Loss mean over all response tokens, or over sequences of their token means."""
    old_logprobs: Literal["current", "engine"] = "current"
    """The policy that importance ratios are taken against: the trainer's own before this step (exact when one step
    follows each rollout, so nothing is recomputed), or the engine's log-probs as they came with the rollout."""
    kl: Literal["none", "k1", "k2", "k3"] = "none"
    """KL estimator added to the loss against the stage's initial policy."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the KL term."""
    drop_flat_groups: bool = True
    """Leave out groups whose responses all score the same: they carry no signal."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimiser of this stage."""
    micro_batch_tokens: PositiveInt = 16384
    """Tokens of one forward and backward pass; splitting a step changes nothing but memory and time."""
    tasks: tuple[str, ...] = ()
    """Train on these task types only; all if empty."""
    sources: tuple[str, ...] = ()
    """Draw from these sources of ``data.train`` only, named by their paths; all if empty."""
    transforms: tuple[str, ...] = ()
    """Sample transforms of this stage, after those of ``data.transforms``."""
    save_every: PositiveInt = 50
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: PositiveInt = 2
    """Resumable checkpoints that are kept; older ones are removed."""


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
