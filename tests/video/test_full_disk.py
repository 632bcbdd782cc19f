"""Disks that are full or read-only: real ones, small, in a mount namespace that ends with the test's process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from easyvideor1.video import FrameStore

from .builders import Items, assert_complete, builder_command, clips

_READ_ONLY = """
import sys
from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import EasyVideoError, MediaRef
store = video.FrameStore(sys.argv[1])
ledger = video.HealthLedger(sys.argv[1] + "/health.jsonl")
plans = [video.plan_from_json(text) for text in sys.argv[3:5]]
for mode in ("prefer_cache", "cache_only", "decode_only"):
    with video.FrameSource(store, ledger, CacheConfig(workers=1, mode=mode)) as source:
        for plan in plans:
            try:
                print(mode, source.load(MediaRef("video", sys.argv[2]), plan).pixels.shape[0])
            except EasyVideoError as error:
                print(mode, type(error).__name__, str(error).replace(chr(10), " "))
"""


def in_small_disk(mount: Path, setup: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of its own at ``mount``: 250 KiB of memory, prepared by the shell words ``setup``."""
    script = f'mount -t tmpfs -o size=250k tmpfs "{mount}" && {{ {setup}; }} && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False
    )


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) for a mount of its own")
    path = tmp_path / "disk"
    path.mkdir()
    if in_small_disk(path, ":", ["true"]).returncode != 0:
        pytest.skip("needs the right to mount (root, or a user namespace)")
    return path


@pytest.fixture
def items(tmp_path: Path) -> Items:
    return clips(tmp_path, 6)  # about 60 kB of pixels each: the disk holds three or four


def test_a_full_disk_is_one_clear_error_and_the_build_goes_on_later(tmp_path: Path, mount: Path, items: Items) -> None:
    saved = tmp_path / "saved"
    command = builder_command(items, mount / "store", tmp_path / "items.json")
    done = in_small_disk(mount, ":", ["sh", "-c", f'"$@"; cp -a "{mount}/store" "{saved}"', "sh", *command])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "free some space" in errors[0]
    store = FrameStore(saved)
    kept = list(store.entries())
    assert 0 < len(kept) < len(items)
    assert all(store.verify(digest) for digest in kept)
    assert list(saved.rglob("*.tmp")) == []  # what was begun is taken back, so that the space is free again
    again = subprocess.run(
        builder_command(items, saved, tmp_path / "items.json"), capture_output=True, text=True, check=True
    )
    assert again.stdout.splitlines()[-1] == f"[{len(items) - len(kept)}, {len(kept)}, 0]"
    assert_complete(items, saved)


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, mount: Path, items: Items) -> None:
    command = builder_command(items, mount / "store", tmp_path / "items.json")
    done = in_small_disk(mount, f'cat /dev/zero > "{mount}/ballast" 2>/dev/null; true', command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("error: ") == 1
    assert "cannot write" in done.stdout


def test_a_read_only_store_serves_what_it_has(tmp_path: Path, mount: Path, items: Items) -> None:
    first, other = items[:2]
    prepared = tmp_path / "prepared"
    subprocess.run(builder_command([first], prepared, tmp_path / "items.json"), check=True, capture_output=True)
    from easyvideor1.video import plan_to_json

    setup = f'cp -a "{prepared}" "{mount}/store" && mount -o remount,ro "{mount}"'
    arguments = [str(mount / "store"), other[0].path, plan_to_json(first[1]), plan_to_json(other[1])]
    done = in_small_disk(mount, setup, [sys.executable, "-c", _READ_ONLY, *arguments])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    frames = len(first[1].frame_indices)
    assert lines[0] == f"prefer_cache {frames}"
    assert lines[1].startswith("prefer_cache StoreError cannot write")
    assert "Read-only file system" in lines[1]
    assert "cache.mode=decode_only" in lines[1]
    assert lines[2] == f"cache_only {frames}"
    assert lines[3].startswith("cache_only MediaError")
    # The first plan is of another file, and this mode does not look into the store; nor can it note the failure.
    assert lines[4].startswith("decode_only EasyVideoError")
    assert "health.jsonl cannot be written" in lines[4]
    assert lines[5] == f"decode_only {len(other[1].frame_indices)}"
