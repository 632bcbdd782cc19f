"""Rows in several files, in directories and in data sets of the ``datasets`` library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from easyvideor1.config import load_config, located, parse_config
from easyvideor1.config.paths import as_written, require_sources
from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import Loaded, distinct_stems, scan_source, source_files
from easyvideor1.types import DataError

datasets = pytest.importorskip("datasets")


def asked(number: int, **more: Any) -> dict[str, Any]:
    return {"problem": f"What is {number}?", "answer": str(number), "problem_type": "numerical", **more}


def load(path: Path | str, **source: Any) -> Loaded:
    loaded = scan_source(SourceConfig(path=str(path), **source), DataConfig())
    assert not loaded.bad, loaded.bad
    return loaded


def answers(loaded: Loaded) -> list[str]:
    return [sample.answer for sample in loaded.samples]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    directory = tmp_path / "mine"
    for name, numbers in (("train-00000-of-00002", (1, 2)), ("train-00001-of-00002", (3,)), ("test-00000", (4,))):
        (directory / "data").mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([asked(number) for number in numbers])
        parquet.write_table(table, directory / "data" / f"{name}.parquet")
    (directory / "dataset_infos.json").write_text("{}")
    (directory / ".cache").mkdir()
    (directory / ".cache/x.parquet").write_text("not one")
    return directory


def test_shards_are_one_source(shards: Path) -> None:
    loaded = load(f"{shards}@train")
    assert answers(loaded) == ["1", "2", "3"]
    assert [sample.id for sample in loaded.samples][::2] == [
        f"mine@train:data/train-0000{k}-of-00002:1" for k in (0, 1)
    ]
    assert loaded.samples[2].where == f"{shards}/data/train-00001-of-00002.parquet:1"
    assert answers(load(shards)) == ["4", "1", "2", "3"]
    assert [file.name for file in source_files(SourceConfig(path=f"{shards}@test"))] == ["test-00000.parquet"]


def test_a_split_may_be_a_directory(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("validation", 2)):
        (tmp_path / split).mkdir()
        (tmp_path / split / "rows.jsonl").write_text(json.dumps(asked(number)) + "\n")
    assert answers(load(f"{tmp_path}@validation")) == ["2"]
    assert answers(load(f"{tmp_path}/train/rows.jsonl@train")) == ["1"]


def test_media_of_a_directory_start_there(shards: Path) -> None:
    Image.new("RGB", (32, 32)).save(shards / "a.png")
    (shards / "more").mkdir()
    (shards / "more/rows.jsonl").write_text(json.dumps(asked(5, images=["a.png"])) + "\n")
    (shards / "data").rename(shards / ".data")
    assert load(shards).samples[0].media[0].path == str(shards / "a.png")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{}@val", "none of its 3 files is of the split 'val' - it holds data/test-00000.parquet"),
        ("{}@tra", "none of its 3 files is of the split 'tra'"),
        ("{}/data/test-00000.parquet@test", "is one file and has no split 'test'"),
        ("{}/.cache/..", "holds files of .jsonl and .parquet"),
        ("{}/empty", "without a JSON, JSONL or Parquet file"),
    ],
)
def test_what_is_no_source_is_named(shards: Path, path: str, words: str) -> None:
    (shards / "empty").mkdir()
    if "holds files" in words:
        (shards / "rows.jsonl").write_text(json.dumps(asked(5)) + "\n")
    with pytest.raises(DataError) as error:
        load(path.format(shards))
    assert words in str(error.value)


def test_lists_of_frames_and_runs_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([asked(1)]))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.frames.json").write_text('{"frames": ["0.png"], "fps": 1}')
    (tmp_path / "out/run/stages").mkdir(parents=True)
    (tmp_path / "out/run/run.json").write_text("{}")
    (tmp_path / "out/run/stages/metrics.jsonl").write_text("{}\n")
    assert answers(load(tmp_path)) == ["1"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/nope.jsonl@train", "nope.jsonl: no such data file"),
        ("data/train@v2.jsonl", "data/train@v2.jsonl: no such data file"),
        ("./x@train", "x: no such data file"),
    ],
)
def test_a_file_that_was_mistyped_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse_config(f"data: {{train: [{{path: {path!r}}}]}}\nstages: [{{name: grpo}}]", "run.yaml")
    with pytest.raises(DataError) as error:
        require_sources(config, config.data.train)
    assert words in str(error.value)


def test_names_with_an_at_are_files_where_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "a@b.jsonl").write_text(json.dumps(asked(1)) + "\n")
    assert load(tmp_path / "a@b.jsonl").samples[0].id == "a@b:1"


def test_ids_tell_splits_and_directories_apart() -> None:
    assert distinct_stems(["x/shards@train", "x/shards@test", "x/v1.5"]) == ["shards@train", "shards@test", "v1.5"]
    assert distinct_stems(["x/shards@train", "y/shards@train"]) == ["x/shards@train", "y/shards@train"]
    assert distinct_stems(["rows.jsonl", "./more/rows.jsonl"]) == ["rows", "more/rows"]


def test_ids_do_not_depend_on_where_a_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "study"
    (study / "more").mkdir(parents=True)
    (study / "sub").mkdir()
    (study / "run.yaml").write_text(
        "data: {train: [{path: rows.jsonl}, {path: more/rows.jsonl}]}\nstages: [{name: grpo}]"
    )
    for place in ("rows.jsonl", "more/rows.jsonl"):
        (study / place).write_text("{}\n")
    found = []
    names = (
        (study, "run.yaml"),
        (study / "sub", "../run.yaml"),
        (tmp_path, "study/run.yaml"),
        (Path("/"), str(study / "run.yaml")),
    )
    for directory, name in names:
        monkeypatch.chdir(directory)
        config = located(load_config(name))
        found.append(distinct_stems([as_written(config, source.path) for source in config.data.train]))
    assert found == [["rows", "more/rows"]] * 4


def saved(directory: Path, *splits: str) -> Path:
    """What ``save_to_disk`` writes of data sets with a picture in each row."""
    pixels = np.full((32, 32, 3), 7, np.uint8)
    features = datasets.Features(
        {"problem": datasets.Value("string"), "answer": datasets.Value("string"), "images": [datasets.Image()]}
    )
    made = {
        split: datasets.Dataset.from_list(
            [
                {"problem": "How many?", "answer": str(k), "images": [Image.fromarray(pixels)]}
                for k in range(at, at + 2)
            ],
            features=features,
        )
        for at, split in enumerate(splits)
    }
    (datasets.DatasetDict(made) if len(splits) > 1 else made[splits[0]]).save_to_disk(str(directory))
    return directory


def test_a_saved_data_set_is_read_with_its_pictures(tmp_path: Path) -> None:
    path = saved(tmp_path / "saved", "train", "test")
    loaded = scan_source(SourceConfig(path=f"{path}@test", task="numerical"), DataConfig(), embedded=tmp_path / "media")
    assert not loaded.bad
    assert answers(loaded) == ["1", "2"]
    assert [sample.id for sample in loaded.samples] == ["saved@test:1", "saved@test:2"]
    (picture,) = {sample.media[0].path for sample in loaded.samples}
    assert np.asarray(Image.open(picture)).mean() == 7
    assert all(file.suffix == ".arrow" for file in source_files(SourceConfig(path=f"{path}@test")))
    with pytest.raises(DataError, match=r"has several splits - write .*saved@train or .*saved@test"):
        load(path, task="numerical")
    with pytest.raises(DataError, match="has no split 'dev'"):
        load(f"{path}@dev", task="numerical")


def test_a_saved_data_set_of_one_split_needs_no_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "saved", "train")
    loaded = scan_source(SourceConfig(path=str(path), task="numerical"), DataConfig(), embedded=tmp_path / "media")
    assert answers(loaded) == ["0", "1"]


def test_a_data_set_that_the_hub_does_not_give_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"nobody/nothing@train: the data set cannot be loaded: .*no such local path either"
    ):
        load("nobody/nothing@train")
