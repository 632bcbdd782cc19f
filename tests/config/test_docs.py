"""The generated reference says what the schema says, key for key."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from easyvideor1.config import parse_config
from easyvideor1.config.docs import (
    _sections,
    configuration_page,
    json_schema,
    stale_documents,
    type_words,
    write_documents,
)
from easyvideor1.config.keys import all_keys, dotted
from easyvideor1.config.schema import BaseConfig, RunConfig, StageConfig
from easyvideor1.config.stage_sections import KLConfig
from easyvideor1.types import ConfigError

ROOT = Path(__file__).parents[2]


def sections(cls=BaseConfig):
    for sub in cls.__subclasses__():
        if sub.__module__ in ("easyvideor1.config.schema", "easyvideor1.config.model"):
            yield sub


def test_every_key_of_every_section_is_on_the_page_with_its_docstring():
    page = configuration_page()
    for section in sections():
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no docstring"
            what = " ".join(field.description.split()).replace("``", "`").replace("|", "\\|")
            assert any(line.startswith(f"| `{name}` |") and what in line for line in page.splitlines()), name


def test_tables_are_whole():
    rows = [line for line in configuration_page().splitlines() if line.startswith("|")]
    assert len(rows) > 80
    assert {row.replace("\\|", "").count("|") for row in rows} == {5, 6}


def required_on_the_page():
    """BaseConfig class -> keys that its table calls required."""
    found, classes = {}, {model.__name__: model for model, _, mark in _sections(RunConfig, "", None) if mark is None}
    headings = {}
    for model, place, mark in _sections(RunConfig, "", None):
        if mark is not None:
            continue
        headings.setdefault(model.__name__, []).append(f"`{place}`" if place else "Top level")
    for name, places in headings.items():
        table = configuration_page().split(f"\n## {', '.join(places)}\n", 1)[1].split("\n## ", 1)[0]
        rows = [row.replace("\\|", "").split("|") for row in table.splitlines() if row.startswith("| `")]
        assert len(rows) == len(classes[name].model_fields)
        found[classes[name]] = {cells[1].strip(" `") for cells in rows if cells[3].strip() == "required"}
    return found


def test_what_is_called_required_is_refused_when_missing_and_nothing_else():
    marked, schema = required_on_the_page(), json_schema()
    assert {model.__name__: keys for model, keys in marked.items() if keys} == {
        "SourceConfig": {"path"},
        "StageConfig": {"name"},
        "PairConfig": {"builder"},
        "RewardPart": {"name", "reward"},
    }
    for model, keys in marked.items():
        parts = schema if model is RunConfig else schema["$defs"][model.__name__]
        assert set(parts.get("required", ())) == keys, model
        model.model_validate(dict.fromkeys(keys, "some"))  # everything else may be left out
        for key in keys:
            with pytest.raises(ValidationError) as error:
                model.model_validate(dict.fromkeys(keys - {key}, "some"))
            assert [(fault["type"], fault["loc"]) for fault in error.value.errors()] == [("missing", (key,))]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("data: {train: [{weight: 1}]}", "data.train.0.path"),
        ("stages: [{steps: 3}]", "stages.0.name"),
        ("rewards: {parts: [{name: a}]}", "rewards.parts.0.reward"),
        ("rewards: {parts: [{reward: brevity}]}", "rewards.parts.0.name"),
    ],
)
def test_a_missing_key_is_named(text, key):
    with pytest.raises(ConfigError, match=rf"run\.yaml:1: {key} is required and not set"):
        parse_config(text, "run.yaml")


def test_types_in_words():
    words = {name: type_words(field.annotation, field.metadata) for name, field in StageConfig.model_fields.items()}
    assert words["steps"] == "integer > 0 or null"
    assert words["prompts_per_step"] == "integer > 0"
    assert words["tasks"] == "list of text"
    kl = KLConfig.model_fields["estimator"]
    assert type_words(kl.annotation, kl.metadata) == "`none` or `k1` or `k2` or `k3` or `abs` or `full`"
    video = RunConfig.model_fields["data"].annotation.model_fields["video"].annotation
    assert type_words(video.model_fields["frames"].annotation) == "integer > 0 or null"


def test_the_json_schema_forbids_unknown_keys_and_knows_all_sections():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"base", *RunConfig.model_fields}
    free = {name for name, part in schema["$defs"].items() if part["additionalProperties"] is not False}
    assert free == {
        *("CustomAdvantage", "CustomObjective", "CustomWeighter", "CustomCorrection"),
        *("CustomCurriculum", "CustomStrategy", "CustomTransform"),
    }


def test_the_json_schema_takes_a_word_for_a_section():
    """Editors must not mark ``advantage: grpo`` as wrong."""
    stage = json_schema()["$defs"]["StageConfig"]["properties"]
    names, custom, section = stage["advantage"]["anyOf"]
    assert "grpo" in names["enum"] and custom["type"] == "string" and "oneOf" in section
    assert {"type": "string"} in stage["kl"]["anyOf"] and len(stage["off_policy"]["anyOf"]) == 2


def test_the_page_says_which_name_reads_an_option():
    rows = configuration_page().split("## `stages[].objective`")[1].split("\n## ")[0]
    assert "| `tau_positive` | `sapo` |" in rows and "| `clip_dual` | `luffy`, `ppo_clip` |" in rows
    assert "| `entropy_coef` | all |" in rows and 'or `module:attr` | `"ppo_clip"` |' in rows


def test_stale_documents_are_found(tmp_path):
    assert len(stale_documents(tmp_path)) == 2
    page, schema = write_documents(tmp_path)
    assert stale_documents(tmp_path) == ()
    schema.write_text(json.dumps(json.loads(schema.read_text())))  # spelled otherwise, says the same
    assert stale_documents(tmp_path) == ()
    page.write_text(page.read_text().replace("| `seed`", "| `sed`"))
    assert stale_documents(tmp_path) == (page,)
    schema.write_text("{")
    assert stale_documents(tmp_path) == (page, schema)


def test_the_shipped_documents_are_up_to_date():
    assert stale_documents(ROOT / "docs") == ()


def test_all_keys_name_entries_of_lists():
    keys = list(map(dotted, all_keys()))
    assert "stages.0.optimizer.lr" in keys
    assert "data.video.fps" in keys
    assert len(keys) == len(set(keys))
