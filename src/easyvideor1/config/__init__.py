"""Configuration: the schema, reading it, and writing it."""

from easyvideor1.config.dump import dump_config, write_config
from easyvideor1.config.load import load_config, parse_config, recipes
from easyvideor1.config.places import located
from easyvideor1.config.schema import (
    CacheConfig,
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
    Section,
    SourceConfig,
    StageConfig,
    VideoBudget,
    VideoOverride,
)

__all__ = [
    "CacheConfig",
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
    "dump_config",
    "load_config",
    "located",
    "parse_config",
    "recipes",
    "write_config",
]
