"""Where rows come from, and how sources are mixed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.base import BaseConfig, PositiveInt
from easyvideor1.config.media import ImageBudget, ImageOverride, VideoBudget, VideoOverride, changed
from easyvideor1.config.transforms import Transform
from easyvideor1.types import Modality


class SourceConfig(BaseConfig):
    """One data source."""

    path: str
    """Rows, from the working directory or beside the YAML file: a JSON, JSONL or Parquet file, a directory of such
    files, a text file of events of videos, or one that the ``datasets`` library saved; or, with its split, a data set
    on the Hugging Face Hub. ``@split`` behind it names one of its splits: ``shards@train``, ``owner/name@test``."""
    subset: str = ""
    """Which configuration of a data set on the Hub, where it has several."""
    format: str = "auto"
    """How rows are written: ``published`` (EasyR1's and EasyVideoR1's), ``messages`` (TRL, ms-swift), ``conversations``
    (LLaVA, ShareGPT), ``verl``, ``events`` (sentences and spans of videos), or ``module:attr`` of a function from a raw
    row to one of ours; ``auto`` tells each row by its columns."""
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


class ModalityShares(BaseConfig):
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


class DataConfig(BaseConfig):
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
    """Samples whose planned prompt is longer are refused or skipped as ``on_bad_row`` says; never truncated. A sample
    whose prompt of a further turn is longer is left out and counted."""
    question_key: str = "problem"
    """Column of the question."""
    answer_key: str = "answer"
    """Column of the reference answer."""
    image_key: str = "images"
    """Column of image paths."""
    video_key: str = "videos"
    """Column of video paths."""
    shuffle: bool = True
    """Draw the rows of a source in a new order in every epoch. Off, they come in the order of the file, as a curriculum
    may want; sources are mixed all the same."""
    prepare: tuple[Transform, ...] = ()
    """Sample transforms that are applied once to every row that is read, in training, evaluation and curation, in
    order. Rows are checked as they make them."""
    transforms: tuple[Transform, ...] = ()
    """Sample transforms of the steps of training, in order: names, ``module:attr``, or sections with options."""
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
