from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from easyvideor1.types import MediaError, MediaRef
from easyvideor1.video.find import find_media

from .clips import write_clip


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.mp4", "deep/er/a.mkv", ".hidden/x.mp4", "deep/.y.mp4"):
        write_clip(tmp_path / name, 3)
    (tmp_path / "b.mp4").rename(tmp_path / "no_suffix")
    (tmp_path / "broken.mp4").write_bytes(b"not a video at all")
    (tmp_path / "rows.jsonl").write_text("{}")
    Image.new("RGB", (8, 8)).save(tmp_path / "deep" / "c.png")
    return tmp_path


def names(ground: Path, refs: list[MediaRef]) -> list[str]:
    return [os.path.relpath(ref.path, ground) for ref in refs]


def test_directories_are_searched_by_content(ground: Path) -> None:
    assert names(ground, find_media([str(ground)], "video")) == ["broken.mp4", "deep/er/a.mkv", "no_suffix"]
    assert names(ground, find_media([str(ground)], "image")) == ["deep/c.png"]


def test_patterns_and_files(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(ground, find_media([str(ground / "**" / "*.mkv")], "video")) == ["deep/er/a.mkv"]
    assert names(ground, find_media([str(ground / "d*")], "video")) == ["deep/er/a.mkv"]
    monkeypatch.chdir(ground)
    refs = find_media(["rows.jsonl", "deep/er/a.mkv", "deep", "no_suffix"], "video")
    assert names(ground, refs) == ["rows.jsonl", "deep/er/a.mkv", "no_suffix"]
    assert all(Path(ref.path).is_absolute() and ref.kind == "video" for ref in refs)


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "[1].mp4", 3)
    assert [ref.path for ref in find_media([path], "video")] == [path]


@pytest.mark.parametrize("place", ["absent.mp4", "*.avi", "empty"])
def test_nothing_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no such file, no video"):
        find_media([str(tmp_path / place)], "video")


def test_a_link_to_nowhere_is_found_and_an_empty_name_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_clip(tmp_path / "good.mp4", 3)
    (tmp_path / "moved.mp4").symlink_to(tmp_path / "not-here.mp4")
    assert [ref.path for ref in find_media([str(tmp_path)], "video")] == [good, str(tmp_path / "moved.mp4")]
    monkeypatch.chdir(tmp_path)  # an empty shell variable does not mean the whole working directory
    with pytest.raises(MediaError, match=r"^'': no such file"):
        find_media([""], "video")
