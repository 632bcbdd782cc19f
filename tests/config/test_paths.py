"""Paths in a configuration: from the working directory, else beside its YAML file; what is written stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.config import dump_config, load_config, located, parse_config
from easyvideor1.config.paths import require_sources
from easyvideor1.types import ConfigError, DataError

TEXT = """
model: {path: tiny}
data:
  train: [{path: rows.jsonl, media_root: clips}]
  test: [{path: held/out.jsonl}]
prompts: {templates: words}
rewards: {judge: {url: "http://localhost:1/v1", model: m, templates: judging}}
output_dir: runs/mine
cache: {dir: frames}
stages: [{name: grpo, sources: [rows.jsonl]}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a YAML file and all that it names, seen from the directory above."""
    folder = tmp_path / "study"
    for directory in ("tiny", "clips", "held", "words", "judging"):
        (folder / directory).mkdir(parents=True)
    for file in ("rows.jsonl", "held/out.jsonl"):
        (folder / file).write_text("{}\n")
    (folder / "run.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return folder


def test_what_is_beside_the_file_is_found(folder: Path) -> None:
    config = located(load_config("study/run.yaml"))
    assert config.model.path == "study/tiny"
    (train,), (test,) = config.data.train, config.data.test
    assert (train.path, train.media_root, test.path) == ("study/rows.jsonl", "study/clips", "study/held/out.jsonl")
    assert config.stages[0].sources == ("study/rows.jsonl",)
    assert (config.prompts.templates, config.rewards.judge.templates) == ("study/words", "study/judging")
    require_sources(config, (*config.data.train, *config.data.test))


def test_what_is_written_stays_relative_to_the_working_directory(folder: Path) -> None:
    (folder / "frames").mkdir()
    (folder / "runs/mine").mkdir(parents=True)
    config = located(load_config("study/run.yaml"))
    assert (config.output_dir, config.cache.dir) == ("runs/mine", "frames")


def test_the_working_directory_comes_first(folder: Path) -> None:
    Path("rows.jsonl").write_text("{}\n")
    config = located(load_config("study/run.yaml"))
    assert (config.data.train[0].path, config.data.train[0].media_root) == ("rows.jsonl", "study/clips")


def test_a_configuration_is_the_same_wherever_its_files_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = load_config("study/run.yaml")
    assert outside == parse_config(TEXT, "text")
    monkeypatch.chdir(folder)
    inside = load_config("run.yaml")
    assert outside == inside and located(inside) == inside
    assert dump_config(outside) == dump_config(inside) == dump_config(parse_config(TEXT, "text"))


def test_an_error_names_both_places_and_what_is_near(folder: Path) -> None:
    config = load_config("study/run.yaml", ["data.train.0.path=row.jsonl"])
    with pytest.raises(DataError) as told:
        require_sources(config, config.data.train)
    places = f"{folder.parent / 'row.jsonl'} and {folder / 'row.jsonl'}"
    near = folder / "rows.jsonl"
    assert str(told.value) == (f"row.jsonl: no such data file: looked for {places}; did you mean {near}?")
    for override, key in (
        ("data.train.0.media_root=none", "media_root of rows.jsonl"),
        ("prompts.templates=none", "prompts.templates"),
        ("rewards.judge.templates=none", "rewards.judge.templates"),
    ):
        config = load_config("study/run.yaml", [override])
        with pytest.raises(ConfigError, match=f"^{key}: none: no such directory: looked for .*/none and .*/study/none"):
            require_sources(config, config.data.train)


def test_a_recipe_and_plain_text_have_no_directory(folder: Path) -> None:
    config = load_config("quickstart")
    with pytest.raises(DataError) as told:
        require_sources(config, config.data.train)
    assert " and " not in str(told.value)
