"""Loops of stages are written out: names, references, places of mistakes, overrides."""

import json
from pathlib import Path

import pytest
import yaml

from easyvideor1.config import dump_config, parse_config
from easyvideor1.types import ConfigError

LOOP = """
stages:
  - {name: warm, steps: 3}
  - repeat: 2
    stages:
      - {name: grpo, steps: 2, kl: k3}
      - {name: dpo, steps: 4}
  - {name: last, steps: 1}
"""


def names(config):
    return [(stage.name, stage.steps) for stage in config.stages]


def test_rounds_follow_each_other_under_names_of_their_own():
    config = parse_config(LOOP, "f")
    written = [("warm", 3), ("grpo", 2), ("dpo", 4), ("grpo-2", 2), ("dpo-2", 4), ("last", 1)]
    assert names(config) == written
    assert [stage.kl.estimator for stage in config.stages] == ["none", "k3", "none", "k3", "none", "none"]
    assert parse_config(dump_config(config), "g") == config
    assert "repeat:" not in dump_config(config)


def test_a_loop_of_one_round_is_its_stages():
    once = parse_config(LOOP.replace("repeat: 2", "repeat: 1"), "f")
    assert names(once) == [("warm", 3), ("grpo", 2), ("dpo", 4), ("last", 1)]


def test_overrides_reach_each_round_by_name_and_by_index():
    config = parse_config(LOOP, "f", ["stages.dpo-2.steps=7", "stages.1.steps=9", "stages.grpo-2.kl=k2"])
    assert names(config)[1:5] == [("grpo", 9), ("dpo", 4), ("grpo-2", 2), ("dpo-2", 7)]
    assert config.stages[1].kl.estimator == "k3" and config.stages[3].kl.estimator == "k2"


def test_mistakes_inside_are_told_with_their_line_for_every_round():
    with pytest.raises(ConfigError) as told:
        parse_config(LOOP.replace("{name: dpo, steps: 4}", "{name: dpo, stepz: 4}"), "f")
    lines = str(told.value).splitlines()
    assert [line.partition(":")[2].partition(":")[0] for line in lines] == ["7", "7"]
    assert "stages.dpo.stepz" in lines[0] and "stages.dpo-2.stepz" in lines[1]


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        ("{repeat: 0, stages: [{name: a}]}", "at least 1, got 0"),
        ("{repeat: true, stages: [{name: a}]}", "at least 1, got true"),
        ("{repeat: 2}", "a loop needs `stages`, a list of at least one stage$"),
        ("{repeat: 2, stages: []}", "a loop needs `stages`, a list of at least one stage, got"),
        ("{repeat: 2, stages: [{name: a}], steps: 4}", "got steps; set it in the stages of the loop"),
        ("{repeat: 2, stages: [{repeat: 2, stages: [{name: a}]}]}", "cannot have another one inside"),
    ],
)
def test_a_wrong_loop_is_told_with_its_line(loop, told):
    with pytest.raises(ConfigError, match=rf"^f:3: stages.1: .*{told}"):
        parse_config(f"stages:\n  - {{name: b}}\n  - {loop}\n", "f")


def test_a_name_that_a_loop_makes_is_not_free():
    with pytest.raises(ConfigError, match=r"^f:8: the name 'dpo-2' is taken: .* a further round of the stage of f:7"):
        parse_config(LOOP.replace("name: last", "name: dpo-2"), "f")
    with pytest.raises(ConfigError, match=r"^f:3: the name 'grpo-2' is taken: .* a further round of the stage of f:6"):
        parse_config(LOOP.replace("name: warm", "name: grpo-2"), "f")
    with pytest.raises(ConfigError, match="stage names must differ"):
        parse_config(LOOP.replace("name: last", "name: warm"), "f")


def test_editors_know_loops():
    schema = json.loads((Path(__file__).parents[2] / "docs" / "config.schema.json").read_text(encoding="utf-8"))
    (listed,) = (form for form in schema["properties"]["stages"]["anyOf"] if "items" in form)
    stage, loop = listed["items"]["anyOf"]
    assert stage == loop["properties"]["stages"]["items"]
    assert set(yaml.safe_load(LOOP)["stages"][1]) == set(loop["required"])
