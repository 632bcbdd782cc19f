"""evr1 cache, with real videos and a real checkpoint directory."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.cache_plan import size_words
from easyvideor1.video import FrameStore

pytestmark = pytest.mark.model
RUN = CliRunner(env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    from easyvideor1.families.tiny import write_tiny_checkpoint

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
    assert "8 entries, 1 damaged" in done.stdout
    assert digest in done.stderr
    assert "corrupt_entry" in cache("doctor", config).stdout
    assert "1 built, 7 present, 0 failed" in cache("build", config).stdout
    assert cache("verify", config).exit_code == 0


def test_a_build_looks_at_what_it_calls_present(config):
    """Cut off, grown and empty entries are found by their sizes; a changed byte by its checksum alone."""
    cache("build", config)
    store = FrameStore(config.parent / "frames")
    files = [file.path for file in store.files()]
    whole = [path.read_bytes() for path in files]
    files[0].write_bytes(whole[0][:-1])
    files[1].write_bytes(whole[1] + b"x")
    files[2].write_bytes(b"")
    files[3].write_bytes(whole[3][:100])
    planned = cache("build", config, "--dry-run")
    assert re.search(r"to build: 4 entries", planned.stdout)
    assert files[0].stat().st_size == len(whole[0]) - 1, "a dry run changes nothing"
    done = cache("build", config)
    assert done.exit_code == 0, done.output
    assert "4 built, 4 present, 0 failed, 4 damaged entries set aside" in done.stdout
    for path, fault in zip(files, ("it has", "it has", "the header is cut off", "the header is cut off"), strict=False):
        for said in (planned.stderr, done.stderr):
            assert f"DAMAGED: {path}: {fault}" in said
    assert [path.read_bytes() for path in files] == whole
    assert len(list(store.directory.glob("*/*.corrupt"))) == 4
    assert cache("doctor", config).stdout.count("corrupt_entry") >= 4
    content = bytearray(whole[5])
    content[-1] ^= 1
    files[5].write_bytes(content)
    assert "0 built, 8 present, 0 failed\n" in cache("build", config).stdout
    assert "to build: 1 entries" in cache("build", config, "--dry-run", "--verify").stdout
    done = cache("build", config, "--verify")
    assert "1 built, 7 present, 0 failed, 1 damaged entry set aside" in done.stdout
    assert f"DAMAGED: {files[5]}: checksum of the pixels is" in done.stderr
    assert files[5].read_bytes() == whole[5]


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


def test_a_dry_run_counts_and_decodes_nothing(config):
    said = cache("build", config, "--dry-run")
    assert said.exit_code == 0, said.output
    store = FrameStore(config.parent / "frames")
    assert list(store.entries()) == []
    lines = said.stdout.splitlines()
    found = re.fullmatch(r"  total: 8 entries, (\d+) frames, (\d+) tokens", lines[1])
    assert found
    assert "failed to plan" in lines[0]
    assert lines[3] == lines[1].replace("total", "to build")
    cache("build", config)
    kept = [store.get(digest) for digest in store.entries()]
    assert int(found[1]) == sum(len(frames.plan.frame_indices) for frames in kept)
    assert int(found[2]) == sum(frames.plan.tokens for frames in kept)
    size = sum(file.size for file in store.files())
    assert lines[2].startswith(f"    bytes: raw {size_words(size)} (cache.codec), zstd about ")
    again = cache("build", config, "--dry-run").stdout.splitlines()
    assert again[1] == lines[1]
    assert again[3] == "  to build: 0 entries, 0 frames, 0 tokens"


def test_files_are_built_without_a_configuration(config):
    world, frames = config.parent / "world", config.parent / "others"
    videos = videos_of(config)
    words = ("--video", world, "--geometry", "qwen3", "--cache", frames, "--max-frames", "4", "cache.codec=jpeg")
    done = cache("build", *words)
    assert done.exit_code == 0, done.output
    store = FrameStore(frames, "jpeg")
    digests = list(store.entries())
    assert len(digests) >= len(videos)
    assert all(file.lossy for file in store.files())
    assert all(len(store.get(digest).plan.frame_indices) <= 4 for digest in digests)
    more = cache(
        "build", "--image", world, "--model", json.loads(config.read_text())["model"]["path"], "--cache", frames
    )
    assert more.exit_code == 0, more.output
    assert len(list(store.entries())) > len(digests)
    counted = cache("stats", frames)
    assert f"{len(list(store.entries()))} entries" in counted.stdout
    assert f"codec jpeg: {len(digests)} entries" in counted.stdout
    assert "kind image: " in counted.stdout


def test_gc_comes_down_to_a_size_and_keeps_what_is_referred_to(config):
    cache("build", config)
    cache("build", config, "data.video.fps=4")
    store = FrameStore(config.parent / "frames")
    everything = set(store.entries())
    would = cache("gc", config, "--unreferenced", config, "--dry-run")
    assert would.exit_code == 0, would.output
    assert set(store.entries()) == everything
    done = cache("gc", config, "--unreferenced", config)
    assert done.stdout == would.stdout.replace("would remove", "removed")
    kept = set(store.entries())
    assert len(kept) == 8
    assert "0 built, 8 present, 0 failed" in cache("build", config).stdout
    size = sum(file.size for file in store.files())
    done = cache("gc", config.parent / "frames", "--max-size", str(size - 1))
    assert done.exit_code == 0, done.output
    assert len(set(store.entries())) < 8
    assert cache("verify", config.parent / "frames").exit_code == 0


def test_gc_does_not_guess_what_is_referred_to(config):
    cache("build", config)
    videos_of(config)[0].unlink()
    done = cache("gc", config, "--unreferenced", config)
    assert done.exit_code == 2
    assert "1 media files cannot be planned" in done.stderr
    assert len(list(FrameStore(config.parent / "frames").entries())) == 8


def test_the_doctor_names_a_file_once_and_says_what_to_do(config):
    video = videos_of(config)[0]
    video.write_bytes(b"this is no video")
    for _ in range(2):
        cache("build", config)
    said = cache("doctor", config).stdout.splitlines()
    assert said[0] == f"{video}: unreadable (2 times: 2 unreadable)"
    assert said[3].startswith("    to do: re-encode the file")
    assert said[-1] == "1 files: 1 unreadable"
    assert len(cache("doctor", config, "--all").stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build"], "nothing to cache"),
        (["build", "--video", "/nowhere.mp4", "--geometry", "qwen3"], "no such file, no video"),
        (["build", "--video", "/nowhere.mp4"], "add --model DIRECTORY or --geometry"),
        (["build", "--video", __file__, "--geometry", "llava"], "expected qwen2 or qwen3"),
        (["build", "--video", __file__, "--geometry", "qwen3", "--max-frames", "x"], "data.video.max_frames"),
        (["build", "--video", __file__, "--geometry", "qwen3", "cache.mode=decode_only"], "so nothing is cached"),
        (["build", "--video", __file__, "--geometry", "qwen3", "cache.on_miss=error"], "on_miss is now mode"),
        (["gc", ".", "--max-size", "many"], "is not a size"),
        (["stats", "/nowhere"], "/nowhere"),
    ],
)
def test_other_mistakes_exit_with_2(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cache(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.path="], "model.path is not set"),
        (["model.path=/nowhere"], "was not found: looked for"),
        (["data={}"], "no rows to cache"),
        (["data.train.0.path=/nowhere.jsonl"], "/nowhere.jsonl"),
    ],
)
def test_mistakes_exit_with_2(config, overrides, message):
    done = cache("build", config, *overrides)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not (config.parent / "frames").exists()
