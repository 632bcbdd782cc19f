"""An option that nothing of a stage would read does not load; its default does, and so does what is read."""

import pytest
from easyvideor1.config.unread_keys import READ
from pydantic import ValidationError

from easyvideor1.config import StageConfig, dump_config, load_config, parse_config, recipes

#: A value that differs from the default, and what else a stage says where it is read.
VALUES = {
    "advantage_clip": (2.0, {}),
    "part_weights": ({"accuracy": 2.0}, {"advantage": "gdpo"}),
    "pass_k": (3, {"advantage": "pass_at_k"}),
    "pass_threshold": (0.3, {"advantage": "pass_at_k"}),
    "gamma": (0.9, {"advantage": "per_turn"}),
    "gae_lambda": (0.9, {"advantage": "gae"}),
    "critic": ({"lr": 1e-4}, {"advantage": "gae"}),
    "clip_low": (0.1, {}),
    "clip_high": (0.1, {"objective": "cispo"}),
    "clip_dual": (3.0, {"objective": "luffy", "hybrid": {}}),
    "sapo_positive": (2.0, {"objective": "sapo"}),
    "sapo_negative": (2.0, {"objective": "sapo"}),
    "regression_floor": (2.0, {"objective": "reg_grpo", "aggregation": "sequence"}),
    "dpo_beta": (0.2, {"objective": "dpo", "aggregation": "sequence"}),
    "reward_temperature": (0.5, {"objective": "reward_weighted_sft"}),
    "reward_weight_cap": (5.0, {"objective": "reward_weighted_sft"}),
    "luffy_gamma": (0.2, {"off_policy": "luffy", "hybrid": {}}),
    "off_policy_coef": (0.5, {"off_policy": "sft", "hybrid": {}}),
    "weighter_alpha": (2.0, {"weighter": "tw_grpo"}),
    "entropy_share": (0.5, {"weighter": "entropy_top"}),
    "correction_cap": (3.0, {"correction": "tis"}),
    "correction_low": (0.1, {"correction": "icepop"}),
    "correction_high": (9.0, {"correction": "geometric_mask"}),
    "kl_coef": (0.1, {"kl": "k3"}),
    "kl_target": (0.2, {"kl": "k3", "kl_control": "adaptive"}),
    "kl_horizon": (5000, {"kl": "k3", "kl_control": "adaptive"}),
    "reference_decay": (0.9, {"kl": "k3", "reference": "ema"}),
    "filter_key": ("format", {"filter_high": 0.9}),
    "overlong_penalty": (0.5, {"overlong_cache": 64}),
}
#: A stage that reads none of them.
DEAF = {"objective": "reinforce", "advantage": "reward"}


def test_every_key_of_the_table_is_tested():
    assert set(VALUES) == set(READ) <= set(StageConfig.model_fields)


@pytest.mark.parametrize("key", VALUES)
def test_what_nothing_reads_is_refused_and_what_is_read_loads(key):
    value, beside = VALUES[key]
    assert StageConfig(name="s", **{key: value}, **beside)
    deaf = {"objective": "dpo", "aggregation": "sequence"} if key == "advantage_clip" else DEAF
    with pytest.raises(ValidationError, match=f"{key} would have no effect: it goes with .*; set that, or leave out"):
        StageConfig(name="s", **{key: value}, **deaf)
    assert StageConfig(name="s", **{**deaf, "objective": "my_module:mine", key: value}), "one's own may read anything"


@pytest.mark.parametrize("key", VALUES)
def test_what_loads_loads_again_with_all_defaults_written_out(key):
    value, beside = VALUES[key]
    stage = {"name": "s", key: value, **beside}
    config = parse_config(dump_config(parse_config(f"stages: [{stage!r}]".replace("None", "null"), "f")), "g")
    assert parse_config(dump_config(config), "h") == config


@pytest.mark.parametrize("recipe", recipes())
def test_recipes_load_with_all_defaults_written_out(recipe):
    config = load_config(recipe)
    assert parse_config(dump_config(config), "shown") == config
