"""Configuration: the schema, reading it, and writing it."""

from easyvideor1.config.dump import dump_config, write_config
from easyvideor1.config.load import load_config, parse_config, recipes
from easyvideor1.config.schema import (
    CacheConfig,
    DataConfig,
    EvaluationConfig,
    ImageBudget,
    JudgeConfig,
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
)

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
    "dump_config",
    "load_config",
    "parse_config",
    "recipes",
    "write_config",
]
