"""Options of a stage that contradict each other do not load, and say what to do."""

import pytest
from pydantic import ValidationError

from easyvideor1.config import StageConfig, parse_config
from easyvideor1.types import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "fixed"}, "aggregation: fixed and aggregation_length go together"),
        ({"aggregation_length": 100}, "aggregation: fixed and aggregation_length go together"),
        ({"objective": "gspo"}, "objective gspo is a mean over sequences: set aggregation: sequence"),
        ({"objective": "gmpo", "aggregation": "sequence", "weighter": "tw_grpo"}, "no terms of single tokens"),
        ({"objective": "dpo", "aggregation": "sequence", "off_policy": "luffy"}, "set off_policy: none"),
        ({"objective": "luffy", "off_policy": "sft"}, "leave out off_policy: sft"),
        ({"clip_dual": 1.2, "clip_high": 0.28}, r"clip_dual \(1.2\) lies inside the clip range"),
        ({"correction": "tis", "old_logprobs": "engine"}, "correct the same distance twice"),
        ({"correction": "tis", "trajectories": "offline"}, "a stage of offline trajectories has none"),
        ({"correction_low": 1.5}, "must enclose 1"),
        ({"correction_high": 0.9}, "must enclose 1"),
        ({"kl_in": "reward"}, "kl_in: reward needs an estimator"),
        ({"kl_control": "adaptive"}, "kl_control: adaptive needs an estimator"),
        ({"reference": "ema"}, "reference: ema is for a KL term, and kl is none"),
        ({"kl": "k1", "kl_in": "reward", "trajectories": "offline"}, "no effect on offline trajectories"),
        ({"kl": "k1", "kl_control": "adaptive", "kl_coef": 0}, "never leaves 0"),
        ({"filter_low": 0.5, "filter_high": 0.5}, r"no mean lies between filter_low \(0.5\) and filter_high"),
        ({"advantage": "pass_at_k", "pass_k": 9}, r"pass_k \(9\) is larger than group_size \(8\)"),
        ({"objective": "dpo", "aggregation": "sequence", "group_size": 1}, "group_size must be at least 2"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(ValidationError, match=message):
        StageConfig(name="stage", **options)


def test_all_contradictions_are_told_at_once_with_their_place():
    with pytest.raises(ConfigError) as error:
        parse_config("stages:\n  - name: rl\n    kl_in: reward\n    aggregation: fixed\n", "f")
    assert "f:2: stages.0: aggregation: fixed" in str(error.value) and "kl_in: reward needs" in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "fixed", "aggregation_length": 512, "advantage": "dr_grpo"},
        {"objective": "gspo", "aggregation": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
        {"objective": "gspo_token", "aggregation": "turn", "weighter": "entropy_top"},
        {"objective": "gspo", "aggregation": "sequence", "off_policy": "importance"},
        {"objective": "dpo", "aggregation": "sequence", "reference": "ema"},
        {"kl": "full", "kl_in": "reward", "kl_control": "adaptive", "advantage": "gae"},
        {"correction": "icepop", "off_policy": "luffy", "clip_dual": 3.0},
        {"filter_low": 0.0, "filter_high": 1.0, "generation_rounds": 10, "overlong_filter": True},
    ],
)
def test_what_goes_together(options):
    stage = StageConfig(name="stage", **options)
    assert {name: getattr(stage, name) for name in options} == options


def test_what_a_stage_does_unless_told_otherwise():
    """Defaults are a promise: a configuration that names none of these keys trains as it always did."""
    stage = StageConfig(name="stage")
    assert (stage.advantage, stage.objective, stage.aggregation) == ("grpo", "ppo_clip", "token")
    assert (stage.clip_low, stage.clip_high, stage.clip_dual) == (0.2, 0.28, None)
    assert (stage.weighter, stage.correction, stage.off_policy, stage.kl) == ("none", "none", "none", "none")
    assert (stage.advantage_clip, stage.entropy_coef, stage.overlong_cache, stage.generation_rounds) == (None, 0, 0, 1)
    assert (stage.filter_low, stage.filter_high, stage.overlong_filter, stage.drop_flat_groups) == (
        None,
        None,
        False,
        True,
    )
