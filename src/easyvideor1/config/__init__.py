"""Configuration: the schema, reading it, and writing it."""

from easyvideor1.config.load import load_config, parse_config
from easyvideor1.config.paths import located
from easyvideor1.config.schema import (
    BaseConfig,
    CacheConfig,
    ClusterConfig,
    DataConfig,
    EvaluationConfig,
    ImageBudget,
    ImageOverride,
    JudgeConfig,
    LoraConfig,
    ModalityShares,
    ModelConfig,
    OptimizerConfig,
    PromptConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    SourceConfig,
    StageConfig,
    VideoBudget,
    VideoOverride,
)
from easyvideor1.config.shipped import recipes
from easyvideor1.config.writing import dump_config, write_config

__all__ = [
    "BaseConfig",
    "CacheConfig",
    "ClusterConfig",
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
    "SourceConfig",
    "StageConfig",
    "VideoBudget",
    "VideoOverride",
    "dump_config",
    "load_config",
    "located",
    "parse_config",
    "recipes",
    "write_config",
]
