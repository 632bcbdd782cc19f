"""Options of a stage that contradict each other do not load, and say what to do."""

import pytest
from easyvideor1.config.algorithm_names import GROUP_CENTRED
from pydantic import ValidationError

from easyvideor1.config import StageConfig, parse_config
from easyvideor1.config.stages import HybridConfig, OptimizerConfig
from easyvideor1.types import ConfigError

CENTRED = sorted(GROUP_CENTRED)
K1 = {"kl": "k1", "kl_in": "reward"}
OFFLINE = {"trajectories": "offline", "advantage": "ones"}
#: What an objective needs beside its name.
REST = {"sft": {"advantage": "ones"}, "dpo": {"aggregation": "sequence"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "fixed"}, "aggregation: fixed and aggregation_length go together"),
        ({"aggregation_length": 100}, "aggregation: fixed and aggregation_length go together"),
        ({"objective": "gspo"}, "objective gspo is a mean over sequences: set aggregation: sequence"),
        ({"objective": "gmpo", "aggregation": "sequence", "weighter": "tw_grpo"}, "no terms of single tokens"),
        ({"objective": "dpo", "aggregation": "sequence", "off_policy": "luffy"}, "set off_policy: none"),
        ({"objective": "dpo", "aggregation": "sequence", "correction": "tis"}, "set correction: none"),
        (
            {"objective": "dpo", "aggregation": "sequence", "advantage": "gae"},
            "pay for a critic: set advantage: reward",
        ),
        ({"objective": "dpo", "aggregation": "sequence", "advantage": "remax"}, "pay for greedy responses"),
        ({"objective": "gspo", "aggregation": "sequence", "advantage": "gae"}, "set objective: gspo_token"),
        ({"objective": "gmpo", "aggregation": "sequence", "advantage": "gae"}, "set objective: gspo_token"),
        ({"objective": "reg_grpo", "aggregation": "sequence", "advantage": "gae"}, "set objective: gspo_token"),
        (
            {"objective": "gspo", "aggregation": "sequence", "advantage": "reinforce_plus_plus", **K1},
            "set objective: gspo_token, which takes one for each token, or set kl_in: loss",
        ),
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
        ({"kl": "k2", "kl_control": "adaptive", "kl_coef": 0}, "never leaves 0"),
        (
            {"kl": "k2", "kl_control": "adaptive", "kl_horizon": 51},
            r"kl_horizon \(51\) is within a fifth of the 256 seq",
        ),
        ({"kl": "k1"}, "no gradient in expectation: set kl_in: reward, or kl: k2"),
        *[
            ({"advantage": name, **K1}, "does not read the total reward, so that kl_in: reward would be lost")
            for name in ("gdpo", "pass_at_k", "ones")
        ],
        *[
            ({"advantage": name, "overlong_cache": 64}, "penalty of overlong_cache would be lost")
            for name in ("gdpo", "pass_at_k", "ones")
        ],
        ({"objective": "dpo", "aggregation": "sequence", **K1}, "change which responses dpo pairs: set kl_in: loss"),
        ({"filter_low": 0.5, "filter_high": 0.5}, r"no mean lies between filter_low \(0.5\) and filter_high"),
        ({"advantage": "pass_at_k", "pass_k": 9}, r"pass_k \(9\) must be smaller than group_size \(8\)"),
        ({"advantage": "pass_at_k", "group_size": 4}, r"pass_k \(4\) must be smaller than group_size \(4\)"),
        *[({"advantage": name, "group_size": 1}, "set group_size: 2 or more") for name in CENTRED],
        *[({"advantage": name, "objective": "sft"}, "set advantage: ones, or reward") for name in CENTRED],
        *[({"advantage": name, "trajectories": "offline"}, "set advantage: ones, or reward") for name in CENTRED],
        ({"advantage": "gae", "steps": 5, "critic": {"warmup_steps": 5}}, "leaves the policy none of the stage's 5"),
        *[
            ({"objective": name, "old_logprobs": "engine", **REST.get(name, {})}, "set old_logprobs: current")
            for name in ("sft", "reinforce", "reward_weighted_sft", "dpo")
        ],
        *[
            ({"objective": name, "off_policy": "importance", "hybrid": {}, **REST.get(name, {})}, "takes no ratio, so")
            for name in ("sft", "reinforce", "reward_weighted_sft", "dpo")
        ],
        ({"objective": "luffy"}, "nothing mixes them in: give the stage hybrid, or set objective: ppo_clip"),
        ({"off_policy": "sft"}, "nothing mixes them in: give the stage hybrid, or set off_policy: none"),
        ({"objective": "luffy", **OFFLINE}, "of which this stage has none: set objective: ppo_clip"),
        ({"off_policy": "luffy", **OFFLINE}, "of which this stage has none: set off_policy: none"),
        ({"drop_flat_groups": True, **OFFLINE}, "drop_flat_groups: true would leave groups out"),
        ({"drop_flat_groups": True, "advantage": "ones"}, "drop_flat_groups: true would leave groups out"),
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
        {"objective": "gspo", "aggregation": "sequence", "off_policy": "importance", "hybrid": HybridConfig()},
        {"objective": "gspo", "aggregation": "sequence", "advantage": "reinforce_plus_plus"},
        {"objective": "gspo_token", "aggregation": "sequence", "advantage": "gae"},
        {"objective": "my_module:mine", "off_policy": "importance"},
        {"objective": "reward_weighted_sft", "trajectories": "offline"},
        {"objective": "dpo", "aggregation": "sequence", "trajectories": "offline", "drop_flat_groups": True},
        {"advantage": "remax", "group_size": 1, "drop_flat_groups": True},
        {"advantage": "my_module:mine", "group_size": 1},
        {"kl": "k2", "kl_control": "adaptive", "kl_horizon": 52},
        {"old_logprobs": "current", "clip_low": 0.1, "clip_high": 0.4},
        {"objective": "dpo", "aggregation": "sequence", "reference": "ema"},
        {"kl": "full", "kl_in": "reward", "kl_control": "adaptive", "advantage": "gae"},
        {"correction": "icepop", "off_policy": "luffy", "clip_dual": 3.0, "hybrid": HybridConfig()},
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
        None,
    )


@pytest.mark.parametrize("beta", [-0.1, 1.0])
def test_moments_decay(beta):
    for betas in ((beta, 0.9), (0.9, beta)):
        with pytest.raises(ValidationError, match=r"betas\.\d"):
            OptimizerConfig(betas=betas)
    assert OptimizerConfig(betas=(0.0, 0.99)).betas == (0.0, 0.99)


def test_a_cap_does_not_cut_what_agrees():
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        StageConfig(name="stage", correction="tis", correction_cap=0.5)
