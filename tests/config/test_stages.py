"""Stages: shorthands, options where they are read, and contradictions that do not load and say what to do."""

import pytest
from pydantic import ValidationError

from easyvideor1.config import StageConfig, dump_config, load_config, parse_config, recipes
from easyvideor1.config.algorithms import ADVANTAGE_OPTIONS
from easyvideor1.config.base import ByName, marker_of
from easyvideor1.config.moved_keys import MOVED
from easyvideor1.config.stage_sections import OptimizerConfig
from easyvideor1.types import ConfigError

CENTRED = sorted(name for name, options in ADVANTAGE_OPTIONS.items() if options.group_centred)
WITHOUT_RATIO = ("sft", "reinforce", "reward_weighted_sft", "dpo")
K1 = {"kl": {"estimator": "k1", "placement": "reward"}}
DPO = {"objective": "dpo", "aggregation": "sequence"}
OFFLINE = {"trajectories": "offline", "advantage": "ones"}
ADAPTIVE = {"estimator": "k2", "control": "adaptive"}
#: What an objective needs beside its name.
REST = {"sft": {"advantage": "ones"}, "dpo": {"aggregation": "sequence"}}


def sequence(name, **options):
    return {"objective": name, "aggregation": "sequence", **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "gspo"}, "objective gspo is a mean over sequences: set aggregation: sequence"),
        (sequence("gmpo", weighter="tw_grpo"), "no terms of single tokens"),
        (sequence("dpo", off_policy="luffy"), "set off_policy: none"),
        (sequence("dpo", correction="tis"), "set correction: none"),
        (sequence("dpo", advantage="gae"), "pay for a critic: set advantage: reward"),
        (sequence("dpo", advantage="remax"), "pay for greedy responses"),
        (sequence("dpo", advantage={"clip": 2.0}), "advantage.clip would have no effect"),
        *[(sequence(name, advantage="gae"), "set objective: gspo_token") for name in ("gspo", "gmpo", "reg_grpo")],
        (
            sequence("gspo", advantage="reinforce_plus_plus", **K1),
            "set objective: gspo_token, which takes one for each token, or set kl.placement: loss",
        ),
        ({"objective": "luffy", "off_policy": "sft"}, "leave out off_policy: sft"),
        ({"objective": "luffy", "off_policy": "luffy", "hybrid": {}}, "leave out off_policy: luffy"),
        ({"objective": {"clip_dual": 1.2, "clip_high": 0.28}}, r"clip_dual \(1.2\) lies inside the clip range"),
        ({"correction": "tis", "objective": {"old_logprobs": "engine"}}, "correct the same distance twice"),
        ({"correction": "tis", **OFFLINE}, "a stage of offline trajectories has none"),
        ({"correction": {"name": "icepop", "low": 1.5}}, "must enclose 1"),
        ({"correction": {"name": "icepop", "high": 0.9}}, "must enclose 1"),
        ({"correction": {"name": "tis", "cap": 0.5}}, "greater than or equal to 1"),
        ({"kl": {"placement": "reward"}}, "placement: reward needs an estimator"),
        ({"kl": {"control": "adaptive"}}, "control: adaptive needs an estimator"),
        ({"kl": {"coef": 0.1}}, "coef would have no effect: it goes with an estimator"),
        ({"kl": {"estimator": "k3", "target": 0.2}}, "target would have no effect: it goes with control: adaptive"),
        ({"kl": {"estimator": "k3", "horizon": 20_000}}, "horizon would have no effect: it goes with control: adap"),
        ({"kl": {"estimator": "k3", "reference_decay": 0.5}}, "reference_decay would have no effect"),
        ({"kl": {"reference": "ema"}}, "kl.reference: ema is for a KL term, and there is none"),
        ({**K1, **OFFLINE}, "no effect on offline trajectories"),
        ({"kl": {**ADAPTIVE, "coef": 0}}, "never leaves 0"),
        ({"kl": {**ADAPTIVE, "horizon": 51}}, r"kl.horizon \(51\) is within a fifth of the 256 seq"),
        ({"kl": "k1"}, "no gradient in expectation: set placement: reward, or estimator: k2"),
        *[
            ({"advantage": name, **K1}, "does not read the total reward, so that the KL in the reward would be lost")
            for name in ("gdpo", "pass_at_k", "ones")
        ],
        *[
            ({"advantage": name, "overlong": {"cache": 64}}, "penalty of overlong.cache would be lost")
            for name in ("gdpo", "pass_at_k", "ones")
        ],
        ({**DPO, **K1}, "change which responses dpo pairs: set kl.placement: loss"),
        (
            {"selection": {"filter_low": 0.5, "filter_high": 0.5}},
            r"no mean lies between filter_low \(0.5\) and filter_high",
        ),
        ({"selection": {"filter_key": "format"}}, "filter_key would have no effect: it goes with filter_low or"),
        ({"overlong": {"penalty": 0.5}}, "penalty would have no effect: it goes with cache"),
        ({"critic": {"lr": 1e-4}}, "critic would have no effect: it goes with advantage: gae"),
        ({"advantage": {"name": "pass_at_k", "k": 9}}, r"advantage.k \(9\) must be smaller than group_size \(8\)"),
        ({"advantage": "pass_at_k", "group_size": 4}, r"advantage.k \(4\) must be smaller than group_size \(4\)"),
        *[({"advantage": name, "group_size": 1}, "set group_size: 2 or more") for name in CENTRED],
        *[({"advantage": name, "objective": "sft"}, "set advantage: ones, or reward") for name in CENTRED],
        *[({"advantage": name, "trajectories": "offline"}, "set advantage: ones, or reward") for name in CENTRED],
        ({"advantage": "gae", "steps": 5, "critic": {"warmup_steps": 5}}, "leaves the policy none of the stage's 5"),
        *[
            ({"objective": {"name": name, "old_logprobs": "engine"}, **REST.get(name, {})}, "old_logprobs")
            for name in WITHOUT_RATIO
        ],
        *[
            ({"objective": name, "off_policy": "importance", "hybrid": {}, **REST.get(name, {})}, "takes no ratio, so")
            for name in WITHOUT_RATIO
        ],
        ({"objective": "luffy"}, "nothing mixes them in: set hybrid, or set objective: ppo_clip"),
        ({"off_policy": "sft"}, "nothing mixes them in: set hybrid, or set off_policy: none"),
        ({"objective": "luffy", **OFFLINE}, "this stage has none: set objective: ppo_clip"),
        ({"off_policy": "luffy", **OFFLINE}, "this stage has none: set off_policy: none"),
        ({"selection": {"drop_flat_groups": True}, **OFFLINE}, "drop_flat_groups: true would leave groups out"),
        (
            {"selection": {"drop_flat_groups": True}, "advantage": "ones"},
            "drop_flat_groups: true would leave groups out",
        ),
        ({**DPO, "group_size": 1}, "group_size must be at least 2"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(ValidationError, match=message):
        StageConfig(name="stage", **options)


def test_all_contradictions_are_told_at_once_with_their_place():
    with pytest.raises(ConfigError) as error:
        parse_config("stages:\n  - name: rl\n    objective: gspo\n    off_policy: sft\n    aggregation: fixed\n", "f")
    assert str(error.value) == "f:5: stages.0.aggregation.length is required and not set"
    with pytest.raises(ConfigError) as error:
        parse_config("stages:\n  - name: rl\n    objective: gspo\n    off_policy: sft\n", "f")
    assert "f:2: stages.0: " in str(error.value) and "mixes them in" in str(error.value)
    assert "set aggregation: sequence" in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": {"name": "fixed", "length": 512}, "advantage": "dr_grpo"},
        {"objective": {"name": "gspo", "clip_low": 3e-4, "clip_high": 4e-4}, "aggregation": "sequence"},
        {"objective": "gspo_token", "aggregation": "turn", "weighter": "entropy_top"},
        sequence("gspo", off_policy="importance", hybrid={}),
        sequence("gspo", advantage="reinforce_plus_plus"),
        sequence("gspo_token", advantage="gae"),
        {"objective": "my_module:mine", "off_policy": "importance"},
        {"objective": "reward_weighted_sft", "trajectories": "offline"},
        {**DPO, "trajectories": "offline", "selection": {"drop_flat_groups": True}},
        {"advantage": "remax", "group_size": 1, "selection": {"drop_flat_groups": True}},
        {"advantage": "my_module:mine", "group_size": 1, "critic": {"lr": 1e-4}},
        {"kl": {**ADAPTIVE, "horizon": 52}},
        {**DPO, "kl": {"reference": "ema"}},
        {"kl": {"estimator": "full", "placement": "reward", "control": "adaptive"}, "advantage": "gae"},
        {"correction": "icepop", "off_policy": "luffy", "objective": {"clip_dual": 3.0}, "hybrid": {}},
        {"selection": {"filter_low": 0.0, "filter_high": 1.0, "generation_rounds": 10}, "overlong": {"filter": True}},
    ],
)
def test_what_goes_together_loads_and_loads_again_with_all_defaults_written_out(options):
    config = parse_config(f"stages: [{ {'name': 'rl', **options}!r}]".replace("True", "true"), "f")
    for key, value in options.items():
        found = config.model_dump()["stages"][0][key]
        if isinstance(value, str) and isinstance(found, dict):
            assert found["name"] == value
        elif isinstance(value, dict) and value:
            assert {name: found[name] for name in value} == value
    assert parse_config(dump_config(config), "shown") == config
    assert parse_config(dump_config(config, only_set=True), "shown") == config


@pytest.mark.parametrize("recipe", recipes())
def test_recipes_load_with_all_defaults_written_out(recipe):
    config = load_config(recipe)
    assert parse_config(dump_config(config), "shown") == config


def test_what_a_stage_does_unless_told_otherwise():
    """Defaults are a promise: a configuration that names none of these keys trains as it always did."""
    stage = StageConfig(name="stage")
    assert (stage.advantage.name, stage.objective.name, stage.aggregation.name) == ("grpo", "ppo_clip", "token")
    assert stage.objective.model_dump() == {
        "name": "ppo_clip",
        "entropy_coef": 0.0,
        "old_logprobs": "current",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "clip_dual": None,
    }
    assert (stage.weighter.name, stage.correction.name, stage.off_policy.name) == ("none", "none", "none")
    assert (stage.kl.estimator, stage.advantage.clip, stage.overlong.cache, stage.overlong.filter) == (
        *("none", None, 0),
        False,
    )
    assert (stage.selection.filters, stage.selection.generation_rounds, stage.selection.drop_flat_groups) == (
        *(False, 1),
        None,
    )


@pytest.mark.parametrize("kind", ["advantage", "objective", "aggregation", "off_policy", "weighter", "correction"])
def test_a_word_is_short_for_a_section_with_that_name(kind):
    mark = marker_of(StageConfig.model_fields[kind])
    assert isinstance(mark, ByName)
    beside = {"objective": {"advantage": "reward"}, "advantage": {"group_size": 9}, "off_policy": {"hybrid": {}}}
    for name in mark.names():
        if name in ("fixed", "luffy", "gspo", "gmpo", "reg_grpo", "dpo", "gspo_token") and kind != "off_policy":
            continue
        options = beside.get(kind, {})
        short, whole = (StageConfig(name="s", **{kind: value}, **options) for value in (name, {"name": name}))
        assert short == whole and type(getattr(short, kind)) is mark.classes[name]


def said(text, *overrides):
    with pytest.raises(ConfigError) as error:
        parse_config(text, "f", overrides)
    return str(error.value)


STAGE = "stages:\n  - name: rl\n    objective: sapo\n"


def test_options_go_below_a_word_by_an_override():
    (stage,) = parse_config(STAGE, "f", ["stages.rl.objective.tau_positive=2.0", "stages.0.kl.estimator=k3"]).stages
    assert (stage.objective.name, stage.objective.tau_positive, stage.kl.estimator) == ("sapo", 2.0, "k3")
    (stage,) = parse_config(STAGE, "f", ["stages.0.objective=ppo_clip", "stages.0.objective.clip_low=0.3"]).stages
    assert (stage.objective.name, stage.objective.clip_low) == ("ppo_clip", 0.3)
    (stage,) = parse_config("stages: [{name: rl}]", "f", ["stages.0.objective.clip_low=0.3"]).stages
    assert (stage.objective.name, stage.objective.clip_low) == ("ppo_clip", 0.3)


def test_an_option_that_another_name_reads_is_refused_with_those_names():
    assert said(STAGE + "    weighter: {alpha: 2.0}\n") == (
        "f:4: stages.rl.weighter.alpha would have no effect: it goes with weighter tw_grpo; set that in place of none, "
        "or leave out alpha"
    )
    assert "it goes with objective luffy or ppo_clip; set that in place of sapo" in said(
        STAGE, "stages.rl.objective.clip_dual=3.0"
    )


@pytest.mark.parametrize("key", MOVED)
def test_a_key_of_an_earlier_version_is_told_its_place(key):
    section, inner = MOVED[key]
    assert said(STAGE + f"    {key}: 1\n") == f"f:4: stages.rl.{key} is now stages.rl.{section}.{inner}"
    shown = f"override 'stages.0.{key}=1': stages.rl.{key} is now stages.rl.{section}.{inner}"
    assert said(STAGE, f"stages.0.{key}=1") == shown


def test_every_key_of_an_earlier_version_has_a_place_that_is_there():
    for section, inner in MOVED.values():
        field = StageConfig.model_fields[section]
        mark = marker_of(field)
        classes = mark.classes.values() if isinstance(mark, ByName) else [field.annotation]
        assert any(inner in model.model_fields for model in classes), (section, inner)


def test_names_that_are_not_there_are_told_with_the_nearest():
    assert "stages.0.advantage: unknown name 'gdpoo': did you mean gdpo? known are dr_grpo, gae" in said(
        STAGE + "    advantage: {name: gdpoo}\n"
    )
    assert said(STAGE + "    off_policy: lufy\n").endswith("known are none, importance, luffy, sft")
    assert "your own goes in as module:attr" in said(STAGE + "    weighter: x\n")
    assert "expected a name, or a section with a name, got 3 (a number)" in said(STAGE + "    weighter: 3\n")


@pytest.mark.parametrize("beta", [-0.1, 1.0])
def test_moments_decay(beta):
    for betas in ((beta, 0.9), (0.9, beta)):
        with pytest.raises(ValidationError, match=r"betas\.\d"):
            OptimizerConfig(betas=betas)
    assert OptimizerConfig(betas=(0.0, 0.99)).betas == (0.0, 0.99)


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({"mismatch": {"action": "stop"}}, "action: stop would have no effect: it goes with bound"),
        (
            {"hybrid": {"policy": "below", "fraction": 0.3}},
            "fraction would have no effect: it goes with policy",
        ),
        ({"hybrid": {"threshold": 0.3}}, "threshold would have no effect: it goes with policy: below"),
        (
            {"trajectories": "offline", "objective": "sft", "advantage": "ones", "selection": {"filter_low": 0.1}},
            "selection.filter_low and filter_high look at the policy's own responses",
        ),
    ],
)
def test_a_setting_that_would_never_act_is_refused(stage: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        StageConfig.model_validate({"name": "rl", **stage})
    assert sentence in str(refused.value)


GRPO = "  - {name: grpo}\n"
PAIRED = "name: dpo, trajectories: rollouts, objective: dpo, aggregation: sequence"


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (GRPO + f"  - {{{PAIRED}}}", "set rollouts.pairs"),
        (GRPO + "  - {name: b, rollouts: {pairs: [{builder: accuracy}]}}", "it goes with trajectories: rollouts"),
        (GRPO + "  - {name: b, rollouts: {}}", "set pairs or drop_solved, or leave rollouts out"),
        (
            GRPO + "  - {name: b, epochs: 1, rollouts: {drop_solved: 0.5}}",
            "drop_solved leaves are not known .*set steps",
        ),
        (GRPO + "  - {name: b, rollouts: {drop_solved: 1.5}}", "rollouts.drop_solved: .*less than or equal to 1"),
        (
            GRPO + "  - {name: b, trajectories: rollouts, rollouts: {pairs: [{builder: accuracy}]}}",
            "does not compare pairs",
        ),
        (GRPO + f"  - {{{PAIRED}, epochs: 1, rollouts: {{pairs: [{{builder: accuracy}}]}}}}", "set steps"),
        (
            GRPO + f"  - {{{PAIRED}, transforms: [shuffle_options], rollouts: {{pairs: [{{builder: accuracy}}]}}}}",
            "leave transforms out",
        ),
        (f"  - {{{PAIRED}, rollouts: {{pairs: [{{builder: accuracy}}]}}}}", "no earlier stage generates responses"),
        (
            GRPO
            + f"  - {{{PAIRED}, rollouts: {{stages: [later], pairs: [{{builder: accuracy}}]}}}}\n  - {{name: later}}",
            "'later' is no earlier stage that generates responses; those are grpo",
        ),
        (
            GRPO
            + "  - {name: b, trajectories: offline, advantage: ones, objective: sft, rollouts: {drop_solved: 0.5}}",
            "drop_solved goes with trajectories: policy",
        ),
    ],
)
def test_what_cannot_be_read_of_rollouts_is_refused(stages, told):
    with pytest.raises(ConfigError, match=told):
        parse_config(f"stages:\n{stages}\n", "f")


def test_a_stage_of_rollouts_names_stages_of_its_own_round():
    rollouts = "rollouts: {stages: [grpo], pairs: [{builder: accuracy}, {builder: length, options: {ratio: 2}}]}"
    loop = f"stages:\n  - repeat: 2\n    stages:\n      - {{name: grpo}}\n      - {{{PAIRED}, {rollouts}}}\n"
    config = parse_config(loop, "f")
    assert [stage.rollouts and stage.rollouts.stages for stage in config.stages] == [None, ("grpo",), None, ("grpo-2",)]
