"""What travels between ranks: token ids, plans of media, numbers per token and settings; never frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.engines.worker_messages import TorchSettings, WorkerMedia
from easyvideor1.types import EasyVideoError


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that a rank needs to open its part of the policy.

    ``open_media`` makes what reads frames, on every rank by itself. What is of ``config.cluster`` has its
    name there.
    """

    model: ModelConfig
    checkpoint: Path
    stages: tuple[StageConfig, ...]
    shard_size: int
    sequence_parallel: int
    deadline: float
    torch: TorchSettings
    open_media: Callable[[], WorkerMedia]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Call a method of the policy.

    Attributes:
        method: its name.
        arguments: the same for all ranks; of a pass none, since every group of ranks is sent its own (``shares``).
        options: by name.
        passes: whether it is a pass over micro-batches, which is given what reads media.
        cached_features: whether it is given the cache of features, too.
        seed: for what draws in it, such as dropout.
    """

    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    passes: bool
    cached_features: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The run is over."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life: how often it was given, what the rank does, since how many seconds, see ``policy.phase``."""

    number: int
    words: str
    marks: int
    alone: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class RankFault:
    """What failed on a rank, and when by its clock; ``kind`` is the class of an error for the user, else ``None``."""

    at: float
    kind: type[EasyVideoError] | None
    words: str
    trace: str
