"""Every knob of a run, as pydantic models. Field docstrings are the documentation of record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from easyvideor1.config.budgets import ImageOverride, VideoOverride, changed
from easyvideor1.config.canary import CanaryConfig
from easyvideor1.config.judge import JudgeConfig
from easyvideor1.config.media import CacheConfig, ImageBudget, VideoBudget
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.config.run_faults import run_faults
from easyvideor1.config.section import NonNegativeInt, Origin, PositiveInt, Probability, Section
from easyvideor1.config.stages import OptimizerConfig, StageConfig
from easyvideor1.types import Modality

__all__ = [
    "CacheConfig",
    "CanaryConfig",
    "DataConfig",
    "EvaluationConfig",
    "ImageBudget",
    "ImageOverride",
    "JudgeConfig",
    "LoraConfig",
    "ModalityShares",
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
    "VideoOverride",
]


#: Taken off logits; beyond 2, the bound of endpoints, a token that was said once is all but forbidden.
Penalty = Annotated[float, Field(ge=-2, le=2)]


class LoraConfig(Section):
    """Low-rank adapters that are trained in place of the weights."""

    rank: PositiveInt = 16
    """Rank of the adapters."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Adapters count ``alpha / rank``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an adapter's inputs that is dropped in training."""
    targets: Annotated[tuple[Literal["vision", "merger", "language"], ...], Field(min_length=1)] = ("language",)
    """Module groups whose linear layers get adapters; the matrix of the logits gets none."""


class ModelConfig(Section):
    """The policy that is trained."""

    path: str = ""
    """Directory of a Hugging Face checkpoint, from the working directory or beside the YAML file. A later stage starts
    from the stage before it, not from here."""
    family: str = ""
    """Adapter of the model family: a registered name or ``module:attr``; found by the checkpoint's ``model_type`` if
    empty."""
    conventions: Literal["transformers", "released"] = "transformers"
    """Where the installed transformers departed from what was released with the weights, which of the two to follow.
    ``transformers``: its processors and positions, exactly. ``released``: text behind a video starts behind the video's
    last position (Qwen2-VL, Qwen2.5-VL), and no second pair of brackets stands around a video (Qwen3-VL, Qwen3.5)."""
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
    compile: bool = False
    """Compile the layers with ``torch.compile`` when they first run, which takes a minute or so. Worth it on a GPU
    (docs/performance.md); on a CPU it needs a C++ compiler, and gains little."""
    device: str = "auto"
    """``auto`` takes the first GPU, else the CPU."""
    trust_remote_code: bool = False
    """Let the checkpoint run Python of its own. Leave it off unless you have read that code."""

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> ModelConfig:
        frozen = [group for group in (self.lora.targets if self.lora else ()) if group in self.freeze]
        if frozen:
            raise ValueError(f"{frozen[0]} is in both freeze and lora.targets; with lora everything else is frozen")
        return self


class SourceConfig(Section):
    """One data source."""

    path: str
    """Rows, from the working directory or beside the YAML file: a JSON, JSONL or Parquet file, a directory of such
    files, or one that the ``datasets`` library saved; or, with its split, a data set on the Hugging Face Hub.
    ``@split`` behind it names one of its splits: ``shards@train``, ``owner/name@test``."""
    subset: str = ""
    """Which configuration of a data set on the Hub, where it has several."""
    format: str = "auto"
    """How rows are written: ``published`` (EasyR1's and EasyVideoR1's), ``messages`` (TRL, ms-swift), ``conversations``
    (LLaVA, ShareGPT), ``verl``, or ``module:attr`` of a function from a raw row to one of ours; ``auto`` tells each row
    by its columns."""
    task: str = ""
    """Task type of rows that name none (``problem_type``)."""
    media_root: str | None = None
    """Directory that relative media paths start from, itself from the working directory or beside the YAML file; the
    directory of the file of rows if not set."""
    frames_fps: Annotated[float, Field(gt=0)] | None = None
    """Frames per second of videos that rows give as lists or directories of pictures without saying their times."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Relative share of this source in a mixture."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """How many times a stage goes through this source, in place of a weight; sources with weights share the rest of the
    stage. Where all sources have epochs, the length of the stage decides, and they say how often a source is seen in
    relation to the others."""
    tasks: tuple[str, ...] = ()
    """Keep only these task types; all if empty."""
    repair: tuple[str, ...] = ()
    """Known faults of a published file to repair as its rows are read, and to count in the report.
    ``reference-in-thinking``: the reference stands inside ``<think>`` before a placeholder, as in the published file of
    Charades-STA. Without it such rows are refused."""
    image: ImageOverride = ImageOverride()
    """What differs from ``data.image`` for images of this source."""
    video: VideoOverride = VideoOverride()
    """What differs from ``data.video`` for videos of this source."""

    @model_validator(mode="after")
    def _epochs_take_the_place_of_a_weight(self) -> SourceConfig:
        if self.epochs is not None and "weight" in self.model_fields_set and self.weight != 1.0:
            raise ValueError(f"{self.path}: weight and epochs both decide how often a source is seen; keep one")
        return self


class ModalityShares(Section):
    """Parts of a step that modalities take, in relation to each other; a row with a video is ``video``."""

    text: Annotated[float, Field(ge=0)] = 1.0
    """Part of the rows without media; 0 leaves them out."""
    image: Annotated[float, Field(ge=0)] = 1.0
    """Part of the rows with images alone; 0 leaves them out."""
    video: Annotated[float, Field(ge=0)] = 1.0
    """Part of the rows with a video; 0 leaves them out."""

    def by_name(self) -> dict[Modality, float]:
        """The parts as a table."""
        return {"text": self.text, "image": self.image, "video": self.video}


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
    on_visual_mismatch: Literal["stop", "drop"] = "stop"
    """What to do with a sample whose frames would give another number of features than its prompt has visual tokens,
    as after damage to the frame store: stop the run, or leave the sample out of its step and count it."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Sources are drawn by their weight times their size to the power of 1 / temperature: 1 is by size, more evens
    them out. Null is by weight alone, whatever their sizes."""
    balance: Literal["none", "modality"] = "none"
    """``modality``: every step holds text, image and video rows in the parts of ``modality_shares``, to within one
    row; sources keep their weights within a modality."""
    modality_shares: ModalityShares = ModalityShares()
    """Parts of the modalities under ``balance: modality``; one that no row has is left out."""
    row_budgets: bool = True
    """Rows may change the budget of their own media: ``image_min_pixels``, ``image_max_pixels``, ``video_min_pixels``,
    ``video_max_pixels``, ``video_total_pixels``, ``video_min_frames``, ``video_max_frames``, ``fps`` (or
    ``video_fps``) and ``nframes`` (or ``video_frames``). Off, such columns are columns like any other."""
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

    @model_validator(mode="after")
    def _budgets_of_sources_hold(self) -> DataConfig:
        for source in (*self.train, *self.validation, *self.test):
            for kind, budget, override in (("image", self.image, source.image), ("video", self.video, source.video)):
                try:
                    changed(budget, override.change())
                except ValueError as error:
                    raise ValueError(f"the {kind} budget of the source {source.path}: {error}") from None
        return self

    @model_validator(mode="after")
    def _one_thing_decides_the_mixture(self) -> DataConfig:
        by_epochs = [source.path for source in self.train if source.epochs is not None]
        if by_epochs and self.balance == "modality":
            raise ValueError(
                f"balance decides how often rows are seen, and so do the epochs of {by_epochs[0]}; give weights there"
            )
        if by_epochs and self.temperature is not None:
            raise ValueError(f"temperature evens out weights, but {by_epochs[0]} has epochs; drop one of them")
        shares = self.modality_shares
        if self.balance == "modality" and shares.text + shares.image + shares.video == 0:
            raise ValueError("modality_shares are all 0; give one modality a part at least")
        return self


class PromptConfig(Section):
    """How a sample is put into words."""

    templates: str | None = None
    """Directory with your own ``<task>.j2`` files, from the working directory or beside the YAML file; those it lacks
    are taken from the package."""
    system: str = ""
    """System message; none if empty."""
    thinking: bool = True
    """Ask for ``<think>`` reasoning before the ``<answer>``."""


class RolloutConfig(Section):
    """How responses are generated. There are no penalties here: they draw from a distribution that differs from the
    policy's at every token, and the trainer would learn from samples of another policy. Evaluations have them."""

    engine: str = "local"
    """Registered engine or ``module:attr``."""
    strategy: str = "single_turn"
    """How a sample becomes a trajectory: ``single_turn``; ``second_look`` asks the model to check its answer and takes
    the answer of its second turn; or ``module:attr``. Training, evaluation and data curation use the same."""
    temperature: Annotated[float, Field(ge=0.01, le=10)] = 1.0
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
    temperature: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """Temperature of the sampled responses."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling of the sampled responses; 1 is off, null takes ``rollout.top_p``."""
    top_k: NonNegativeInt | None = None
    """Sample among the k likeliest tokens; 0 is off, null takes ``rollout.top_k``."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampled responses: positive logits of tokens that the prompt or the response holds are divided by this, negative
    ones multiplied; 1 is off. Greedy responses are without penalties, so that they compare from run to run."""
    presence_penalty: Penalty = 0.0
    """Sampled responses: taken off the logits of tokens that the response holds."""
    frequency_penalty: Penalty = 0.0
    """Sampled responses: taken off the logits of a token for each time that the response holds it."""
    max_samples: PositiveInt | None = None
    """Evaluate at most this many samples of each split."""
    max_failed: Probability = 0.5
    """Share of questions that cannot be asked or judged above which there is no result: an evaluation, ``evr1 filter``
    or ``evr1 trajectories`` stops with exit status 3, and goes on once the cause is mended. A question of whose several
    responses some could not be judged counts in part."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the reported intervals."""


class RunConfig(Section):
    """A whole run."""

    name: str = "run"
    """Name of the run."""
    output_dir: str = "runs/{name}"
    """Run directory, from the working directory; ``{name}`` and ``{seed}`` are filled in."""
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
    loggers: tuple[str, ...] = ()
    """Where metrics go beside the files of the run: ``tensorboard``, ``wandb``, ``trackio``, ``swanlab``, or
    ``module:attr`` of a function ``(config, run_dir)`` that makes a logger of your own. Each needs its package. One
    that fails or cannot be reached never stops a run."""
    project: str = "easyvideor1"
    """Name of the project in services of ``loggers``."""
    canary: CanaryConfig = CanaryConfig()
    """Warnings of policies that are paid for something else than answering."""

    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def read_from(self) -> Origin:
        """Where the configuration was read; paths that it names are looked for there, too."""
        return self._origin

    def set_origin(self, folder: Path) -> None:
        """Note the directory of the YAML file; for whoever reads one."""
        self._origin = Origin(folder)

    @model_validator(mode="after")
    def _stage_names_differ(self) -> RunConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ, got {names}")
        return self

    @model_validator(mode="after")
    def _stages_fit_the_run(self) -> RunConfig:
        if faults := list(run_faults(self)):
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _features_need_a_frozen_tower(self) -> RunConfig:
        if self.cache.features and (missing := {"vision", "merger"} - set(self.model.freeze)):
            raise ValueError(
                "cache.features keeps what the vision tower computes, which changes with every step that trains it: "
                f"add {', '.join(sorted(missing))} to model.freeze, or set cache.features to false"
            )
        return self
