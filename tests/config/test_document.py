"""The generated reference says what the schema says, key for key."""

import json
from pathlib import Path

from easyvideor1.config.document import (
    configuration_page,
    json_schema,
    stale_documents,
    type_words,
    write_documents,
)
from easyvideor1.config.keys import all_keys, dotted
from easyvideor1.config.schema import RunConfig, Section, StageConfig

ROOT = Path(__file__).parents[2]


def sections(cls=Section):
    for sub in cls.__subclasses__():
        if sub.__module__ == "easyvideor1.config.schema":
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
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}


def test_types_in_words():
    words = {name: type_words(field.annotation, field.metadata) for name, field in StageConfig.model_fields.items()}
    assert words["steps"] == words["aggregation_length"] == "integer > 0 or null"
    assert words["prompts_per_step"] == "integer > 0"
    assert words["tasks"] == "list of text"
    assert words["kl"] == "`none` or `k1` or `k2` or `k3` or `abs` or `full`"
    video = RunConfig.model_fields["data"].annotation.model_fields["video"].annotation
    assert type_words(video.model_fields["frames"].annotation) == "integer > 0 or null"


def test_the_json_schema_forbids_unknown_keys_and_knows_all_sections():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values())


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
