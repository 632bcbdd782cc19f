"""Loading: overrides, and errors that say which key of which line."""

import math

import pytest

from easyvideor1.config import RunConfig, dump_config, load_config, parse_config, write_config
from easyvideor1.types import ConfigError

STAGES = "stages:\n  - name: sft\n    steps: 10\n  - name: grpo\n    optimizer: {lr: 1e-6}\n"


def errors(text, *overrides):
    with pytest.raises(ConfigError) as error:
        parse_config(text, "run.yaml", overrides)
    return str(error.value)


def test_defaults_are_those_of_the_schema():
    assert parse_config("", "f") == RunConfig()


def test_a_learning_rate_without_a_dot_is_a_number():
    config = parse_config(STAGES, "f")
    assert config.stages[1].optimizer.lr == 1e-6
    assert config.stages[0].steps == 10


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("seed=3", lambda c: c.seed, 3),
        ("name=x", lambda c: c.name, "x"),
        ("name=", lambda c: c.name, ""),
        ('name="3"', lambda c: c.name, "3"),
        ("name=a=b", lambda c: c.name, "a=b"),
        ("data.video.fps=1", lambda c: c.data.video.fps, 1.0),
        ("data.video.frames=null", lambda c: c.data.video.frames, None),
        ("stages.0.steps=5", lambda c: c.stages[0].steps, 5),
        ("stages.grpo.steps=7", lambda c: c.stages[1].steps, 7),
        ("stages.grpo.optimizer.lr=1e-4", lambda c: c.stages[1].optimizer.lr, 1e-4),
        ("stages.sft.optimizer.betas=[0.8, 0.9]", lambda c: c.stages[0].optimizer.betas, (0.8, 0.9)),
        ("stages.sft.optimizer.max_grad_norm=.inf", lambda c: c.stages[0].optimizer.max_grad_norm, math.inf),
        ("stages.2.name=more", lambda c: c.stages[2].name, "more"),
        ("stages=[{name: only}]", lambda c: [s.name for s in c.stages], ["only"]),
        ("data.train.0.path=a.jsonl", lambda c: c.data.train[0].path, "a.jsonl"),
        ("rewards.custom.math=mine:judge", lambda c: c.rewards.custom, {"math": "mine:judge"}),
        ("rewards.custom.*=mine:judge", lambda c: c.rewards.custom, {"*": "mine:judge"}),
        ("model.freeze.0=vision", lambda c: c.model.freeze, ("vision",)),
    ],
)
def test_overrides(override, get, value):
    assert get(parse_config(STAGES, "f", [override])) == value


def test_later_overrides_win_and_the_file_keeps_the_rest():
    config = parse_config(STAGES, "f", ["stages.0.steps=1", "stages.0.steps=2", "stages.0.group_size=4"])
    assert (config.stages[0].name, config.stages[0].steps, config.stages[0].group_size) == ("sft", 2, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("a..b=3", "write it as key=value"),
        ("name.x=3", "name holds 'r' (text) and has no 'x' inside"),
        ("stages.5.steps=1", "stages has 2 entries; the highest index that may be set is 2"),
        ("stages.rl.steps=1", "by index or a name (sft, grpo), got 'rl'"),
        ("seed=[", "not valid YAML"),
        ("stages.grpo.stps=1", "unknown key stages.grpo.stps: did you mean stages.grpo.steps?"),
        ("seed=x", "seed: expected a whole number, got 'x' (text)"),
        ("model.device.x=1", "model.device: expected text, got a section with keys x"),
        ("evaluation=3", "evaluation: expected a section, got 3 (a number)"),
    ],
)
def test_a_wrong_override_is_named(override, message):
    told = errors("name: r\n" + STAGES, override)
    assert f"override {override!r}" in told
    assert message in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "run.yaml:1: unknown key sed: did you mean seed?"),
        (
            "data:\n  video:\n    maxframes: 3",
            "run.yaml:3: unknown key data.video.maxframes: did you mean",
        ),
        (
            "stages:\n  - name: a\n    lr: 1.0",
            "run.yaml:3: unknown key stages.a.lr: did you mean stages.a.optimizer.lr or stages.a.critic.lr?",
        ),
        ("cache: {zzz: 1}", "run.yaml:1: unknown key cache.zzz: valid keys here: dir, codec,"),
        ("data:\n  train:\n    - weight: 1", "run.yaml:3: data.train.0.path is required and not set"),
        (
            "data:\n  train:\n  - {path: a}\n  - {path: b, weight: x}",
            "run.yaml:4: data.train.1.weight: expected a number",
        ),
        ("name: 5", "name: expected text, got 5 (a number); put it in quotes"),
        ("seed: '5'", "seed: expected a whole number, got '5' (text)"),
        ("seed: 1e3", "seed: expected a whole number, got 1000.0 (a number); write 1000"),
        ("prompts: {thinking: yes}", "prompts.thinking: expected true or false, got 'yes' (text)"),
        ("prompts: {thinking: 1}", "prompts.thinking: expected true or false, got 1 (a number)"),
        ("model: {dtype: bfloat}", "got 'bfloat' (text); did you mean bfloat16?"),
        ("rollout: {temperature: 0}", "rollout.temperature: expected greater than or equal to 0.01, got 0 (a number)"),
        ("rollout: {temperature: null}", "rollout.temperature: expected a number, got null"),
        ("stages:\n- {name: a, tasks: math}", "run.yaml:2: stages.0.tasks: expected a list, got 'math' (text)"),
        ("rewards:\n  accuracy_weight: 0.5", "run.yaml:1: rewards: accuracy_weight and format_weight must sum to 1"),
        ("stages: [{name: a}, {name: a}]", "run.yaml:1: stage names must differ"),
        ("worker: {}", "evr1 config migrate"),
    ],
)
def test_a_wrong_key_or_value_is_told_with_its_place(text, message):
    assert message in errors(text)


def test_all_mistakes_are_told_at_once():
    told = errors("sed: 1\nname: 3\n", "rollout.top_p=2").splitlines()
    assert len(told) == 3


def test_no_secret_of_the_schema_leaks_pydantic_words():
    told = errors("sed: 1\nseed: x\ndata: []\nstages: {}\nmodel: {dtype: 3}\n")
    assert "pydantic" not in told
    assert "Input should" not in told
    assert "type=" not in told


def test_files(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(STAGES)
    assert load_config(str(path)) == load_config(path) == parse_config(STAGES, "f")
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="this is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="neither a file nor a recipe"):
        load_config("no_such_recipe")


def test_every_shipped_recipe_is_valid():
    from easyvideor1.config import recipes

    for name in recipes():
        config = load_config(name)
        assert config.stages, f"recipe {name} does nothing"


def test_dump_reads_back_equal(tmp_path):
    config = parse_config(
        STAGES,
        "f",
        [
            "name=yes",
            "data.train.0.path=ä 1e-6.jsonl",
            "stages.0.optimizer.max_grad_norm=.inf",
            "prompts.system='a\nb: #'",
        ],
    )
    assert parse_config(dump_config(config), "f") == config
    assert parse_config(dump_config(config, only_set=True), "f") == config
    assert "rollout" not in dump_config(config, only_set=True)
    write_config(config, tmp_path / "deep" / "config.yaml")
    assert load_config(tmp_path / "deep" / "config.yaml") == config
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["config.yaml"]
