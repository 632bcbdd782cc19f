"""Configurations that lie over others, recipes of real size put together by name, and all of it as one file."""

import jsonschema
import pytest
import yaml

from easyvideor1.config import RunConfig, dump_config, load_config, parse_config
from easyvideor1.config.docs import json_schema
from easyvideor1.config.one_file import one_file
from easyvideor1.config.shipped import real_overlays, real_recipes, recipes
from easyvideor1.types import ConfigError

BASE = """\
# What all runs share.
seed: 3
model: {path: big}
rollout:
  engine: vllm        # on GPUs
  vllm: {enforce_eager: true}
  max_new_tokens: 64  # "short" # answers
stages:
  - name: sft
    steps: 5
    trajectories: offline
    objective: sft
    advantage: ones
  - {name: grpo, steps: 10, advantage: {name: pass_at_k, k: 2}, optimizer: {lr: 1e-6}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "base.yaml").write_text(BASE)
    return tmp_path / "lab"


def over(folder, text, name="mine.yaml"):
    (folder / name).write_text(text)
    return load_config(f"lab/{name}")


def test_sections_are_merged_and_lists_are_replaced(folder):
    config = over(folder, "base: base.yaml\nname: mine\nmodel: {dtype: bfloat16, freeze: [vision]}\nloggers: [wandb]\n")
    assert (config.name, config.seed, config.model.path, config.model.dtype) == ("mine", 3, "big", "bfloat16")
    assert config.rollout.vllm.enforce_eager and [stage.name for stage in config.stages] == ["sft", "grpo"]
    again = over(folder, "base: mine.yaml\nloggers: []\nmodel: {freeze: [merger]}\n", "again.yaml")
    assert (again.loggers, again.model.freeze, again.model.dtype) == ((), ("merger",), "bfloat16")


def test_stages_are_changed_by_name_or_replaced_by_a_list(folder):
    config = over(folder, "base: base.yaml\nstages:\n  grpo: {steps: 7, optimizer: {weight_decay: 0.5}}\n")
    assert [stage.steps for stage in config.stages] == [5, 7]
    assert (config.stages[1].optimizer.lr, config.stages[1].optimizer.weight_decay) == (1e-6, 0.5)
    assert [stage.name for stage in over(folder, "base: base.yaml\nstages: [{name: only}]\n").stages] == ["only"]
    loop = "base: base.yaml\nstages: [{repeat: 2, stages: [{name: rl, steps: 1}]}]\n"
    assert [stage.name for stage in over(folder, loop, "loop.yaml").stages] == ["rl", "rl-2"]
    assert over(folder, "base: loop.yaml\nstages: {rl-2: {steps: 4}}\n").stages[1].steps == 4


def test_a_section_with_another_name_does_not_keep_the_keys_of_the_old_one(folder):
    assert over(folder, "base: base.yaml\nstages: {grpo: {advantage: grpo}}\n").stages[1].advantage.name == "grpo"
    other = over(folder, "base: base.yaml\nstages: {grpo: {advantage: {name: rloo, clip: 2.0}}}\n").stages[1].advantage
    assert (other.name, other.clip) == ("rloo", 2.0)
    same = over(folder, "base: base.yaml\nstages: {grpo: {advantage: {clip: 2.0}}}\n").stages[1].advantage
    assert (same.name, same.k, same.clip) == ("pass_at_k", 2, 2.0)
    word = over(folder, "base: base.yaml\nstages: {sft: {objective: {entropy_coef: 0.1}}}\n").stages[0].objective
    assert (word.name, word.entropy_coef) == ("sft", 0.1)


def test_null_takes_a_section_away_and_is_a_value_elsewhere(folder):
    config = over(folder, "base: base.yaml\nrollout: {vllm: null, engine: local}\nrewards: {timeout: null}\n")
    assert config.rollout.vllm == RunConfig().rollout.vllm
    assert config.rewards.timeout is None and config.rollout.max_new_tokens == 64


def test_null_of_a_section_that_the_base_has_not_is_no_mistake(folder):
    (folder / "plain.yaml").write_text("seed: 5\n")
    config = over(folder, "base: plain.yaml\ncluster: null\nrollout: {vllm: null}\nmodel: {lora: null}\n")
    assert (config.seed, config.cluster, config.model.lora) == (5, RunConfig().cluster, None)
    assert over(folder, "base: mine.yaml\n", "again.yaml").rollout == RunConfig().rollout
    with pytest.raises(ConfigError, match="seed: expected a whole number, got null"):
        over(folder, "base: plain.yaml\nseed: null\n")


def test_a_circle_is_found_however_its_paths_are_written(folder):
    (folder / "round.yaml").write_text("base: ../lab/mine.yaml\n")
    with pytest.raises(ConfigError, match="lies over itself"):
        over(folder, "base: ../lab/round.yaml\n")


def test_several_bases_lie_over_each_other_in_order(folder):
    (folder / "more.yaml").write_text("seed: 4\nmodel: {dtype: bfloat16}\n")
    config = over(folder, "base: [base.yaml, more.yaml]\n")
    assert (config.seed, config.model.path, config.model.dtype) == (4, "big", "bfloat16")
    assert over(folder, "base: [more.yaml, base.yaml]\n").seed == 3


def test_overrides_lie_over_everything(folder):
    (folder / "mine.yaml").write_text("base: base.yaml\nstages: {grpo: {steps: 7}}\n")
    config = load_config("lab/mine.yaml", ["stages.grpo.steps=2", "seed=9"])
    assert (config.stages[1].steps, config.seed) == (2, 9)


def test_a_file_may_lie_over_a_shipped_recipe(folder):
    config = over(folder, "base: real/qwen3_vl_8b+lora\ndata: {train: [{path: rows.jsonl}]}\n")
    assert config.model.lora.rank and [source.path for source in config.data.train] == ["rows.jsonl"]
    assert over(folder, "base: recipes/quickstart\n", "quick.yaml") == load_config("quickstart")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("base: nothing.yaml\n", "mine.yaml:1: base: nothing.yaml: no such file"),
        ("base: [base.yaml, 3]\n", "mine.yaml:1: base: expected a recipe, a YAML file, or a list of them"),
        ("base: []\n", "base: expected a recipe, a YAML file, or a list of them, got a list of 0"),
        ("base: {a: 1}\n", "base: expected a recipe"),
        ("base: mine.yaml\n", "mine.yaml lies over itself"),
        ("base: round.yaml\n", "lies over itself"),
        ("base: base.yaml\nstages: {rl: {steps: 1}}\n", "mine.yaml:2: stages.rl: no stage of the base has this name"),
        ("base: base.yaml\nstages: {grpo: 3}\n", "mine.yaml:2: stages.grpo: expected a section, got 3"),
        ("base: base.yaml\nstages:\n  grpo:\n    stps: 3\n", "mine.yaml:4: unknown key stages.grpo.stps"),
        ("base: base.yaml\nseed: x\n", "mine.yaml:2: seed: expected a whole number"),
        ("base: wrong.yaml\n", "wrong.yaml:2: unknown key model.pth"),
        ("stages: {grpo: {steps: 1}}\n", "changes of stages by name need base: FILE, whose stages they change"),
        ("base: [named.yaml, base.yaml]\n", "named.yaml:1: stages: changes by name (grpo) come before the list"),
        ("base: real/qwen3_vl_8b+lorra\n", "'lorra' is no overlay of real size: did you mean lora?"),
        ("base: real/qwen3_vl_9b\n", "'real/qwen3_vl_9b' is no recipe of real size: did you mean real/qwen3_"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_file_and_line_that_it_is_from(folder, text, told):
    (folder / "round.yaml").write_text("base: mine.yaml\n")
    (folder / "named.yaml").write_text("stages: {grpo: {steps: 2}}\n")
    (folder / "wrong.yaml").write_text("model:\n  pth: x\n")
    with pytest.raises(ConfigError) as error:
        over(folder, text)
    assert told in str(error.value)


@pytest.mark.parametrize("name", real_recipes())
def test_every_recipe_of_real_size_loads_with_every_overlay(name):
    assert name in recipes()
    alone = load_config(name)
    assert alone.model.path.startswith("models/") and alone.data.train and alone.stages[0].name == "grpo"
    for overlay in real_overlays():
        config = load_config(f"{name}+{overlay}")
        assert config.model.path == alone.model.path and config.name.endswith(f"-{overlay}")
        assert parse_config(dump_config(config), "dumped") == config


def test_a_recipe_as_one_file_says_the_same_and_where_its_values_are_from():
    name = "real/qwen2_5_vl_7b+lora+gpus_1"
    text = one_file(name)
    assert parse_config(text, "one") == load_config(name)
    assert "base:" not in text and "lr: 1.0e-05  # [I] ten times" in text and "steps: 200  # [F] EasyVideoR1" in text
    assert one_file("quickstart").startswith("#") and parse_config(one_file("quickstart"), "q") == load_config(
        "quickstart"
    )


def test_comments_follow_the_values_they_stand_behind(folder):
    (folder / "mine.yaml").write_text("# Mine.\nbase: base.yaml\nrollout:\n  engine: local  # here\n  vllm: null\n")
    text = one_file("lab/mine.yaml")
    assert "# Mine." in text and "# What all runs share." in text
    assert "engine: local  # here" in text and "on GPUs" not in text
    assert 'max_new_tokens: 64  # "short" # answers' in text
    assert parse_config(text, "one") == load_config("lab/mine.yaml")


def test_editors_know_bases_and_stages_by_name():
    schema = json_schema()
    for text in ("base: a\n", "base: [a, b]\nstages: {grpo: {steps: 1}}\n", "stages: [{name: a}]\nseed: 1\n"):
        jsonschema.validate(yaml.safe_load(text), schema)
    for text in ("base: []\n", "base: 3\n", "stages: 3\n"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), schema)
