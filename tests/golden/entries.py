"""Every name of the package that golden tests use: what is renamed there is renamed here, and no file of numbers."""

from __future__ import annotations

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage
from easyvideor1.algorithms.aggregation import AGGREGATIONS, token_weights
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.kl import full_kl, reward_with_kl
from easyvideor1.algorithms.objectives import OBJECTIVES, objective_loss, pairs_of, value_loss
from easyvideor1.algorithms.token_batch import token_batch
from easyvideor1.algorithms.weighters import WEIGHTERS
from easyvideor1.components import Components
from easyvideor1.config import ImageBudget, RunConfig, StageConfig, VideoBudget
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.records.trajectories import score_to_json
from easyvideor1.rewards import Scorer, score
from easyvideor1.rewards.certificates.case import load_certificate
from easyvideor1.tasks import TASKS
from easyvideor1.toyworld import KIND_NAMES, WorldSpec, write_world
from easyvideor1.types import EasyVideoError, Geometry, MediaInfo
from easyvideor1.video import plan

__all__ = [
    "ADVANTAGES",
    "AGGREGATIONS",
    "CORRECTIONS",
    "KIND_NAMES",
    "OBJECTIVES",
    "TASKS",
    "WEIGHTERS",
    "AdvantageContext",
    "Components",
    "EasyVideoError",
    "Geometry",
    "ImageBudget",
    "MediaInfo",
    "RunConfig",
    "Scorer",
    "StageConfig",
    "VideoBudget",
    "WorldSpec",
    "call_advantage",
    "full_kl",
    "load_certificate",
    "objective_loss",
    "pairs_of",
    "plan",
    "reward_with_kl",
    "score",
    "score_to_json",
    "token_batch",
    "token_weights",
    "value_loss",
    "write_tiny_checkpoint",
    "write_world",
]
