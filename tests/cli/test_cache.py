"""evr1 cache, with real videos and a real checkpoint directory."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.video import FrameStore

pytestmark = pytest.mark.model
RUN = CliRunner(env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    from easyvideor1.models.tiny import write_tiny_checkpoint

    root = tmp_path_factory.mktemp("cache")
    done = RUN.invoke(app, ["toyworld", str(root / "world"), "train=6", "validation=2", "test=2", "image_share=0.5"])
    assert done.exit_code == 0, done.output
    write_tiny_checkpoint(root / "model", ["a question about a red square"], width=64, layers=1, vision_layers=1)
    return root


@pytest.fixture
def config(ground, tmp_path):
    shutil.copytree(ground / "world", tmp_path / "world")
    path = tmp_path / "run.yaml"
    values = {
        "model": {"path": str(ground / "model")},
        "cache": {"dir": str(tmp_path / "frames")},
        "data": {
            split: [{"path": str(tmp_path / "world" / f"{file}.jsonl")}]
            for split, file in {"train": "train", "validation": "validation", "test": "train"}.items()
        },
    }
    path.write_text(json.dumps(values))
    return path


def videos_of(config):
    """Paths of the videos that the sources name."""
    world = config.parent / "world"
    rows = [json.loads(line) for file in ("train", "validation") for line in (world / f"{file}.jsonl").open()]
    return sorted({world / video for row in rows for video in row.get("videos") or ()})


def cache(*words):
    return RUN.invoke(app, ["cache", *map(str, words)])


def test_build_decodes_once_and_then_finds_everything(config):
    first = cache("build", config)
    assert first.exit_code == 0, first.output
    store = FrameStore(config.parent / "frames")
    count = len(list(store.entries()))
    assert count == 8  # 6 of training and 2 of validation; the test split names the training file again
    assert f"{count} built, 0 present, 0 failed" in first.stdout
    assert "decoding: 8/8" in first.stderr
    assert all(store.get(digest) is not None for digest in store.entries())
    assert f"0 built, {count} present, 0 failed" in cache("build", config).stdout
    assert cache("verify", config).exit_code == 0
    assert "no file has failed" in cache("doctor", config).stdout
    videos = len(videos_of(config))
    changed = cache("build", config, "data.video.fps=4")
    assert f"{videos} built, {count - videos} present, 0 failed" in changed.stdout


def test_a_damaged_entry_is_found_named_and_made_again(config):
    cache("build", config)
    store = FrameStore(config.parent / "frames")
    digest = next(iter(store.entries()))
    path = store.path_of(digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    done = cache("verify", config)
    assert done.exit_code == 1
    assert "8 entries, 1 broken" in done.stdout
    assert digest in done.stderr
    assert "corrupt_entry" in cache("doctor", config).stdout
    assert "1 built, 7 present, 0 failed" in cache("build", config).stdout
    assert cache("verify", config).exit_code == 0


def test_broken_and_missing_media_are_named_and_the_rest_is_built(config):
    videos = videos_of(config)
    videos[0].write_bytes(b"this is no video")
    videos[1].unlink()
    done = cache("build", config)
    assert done.exit_code == 1
    assert "6 built, 0 present, 2 failed" in done.stdout
    assert str(videos[0]) in done.stderr
    assert str(videos[1]) in done.stderr
    ledger = cache("doctor", config).stdout
    assert f"{videos[0]}: " in ledger
    assert f"{videos[1]}: missing" in ledger


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.path="], "model.path is not set"),
        (["model.path=/nowhere"], "config.json"),
        (["data={}"], "no source to cache"),
        (["data.train.0.path=/nowhere.jsonl"], "/nowhere.jsonl"),
    ],
)
def test_mistakes_exit_with_2(config, overrides, message):
    done = cache("build", config, *overrides)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not (config.parent / "frames").exists()
