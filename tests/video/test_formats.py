"""What the first bytes of real files say, that probing says the same, and which files a place names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from easyvideor1 import video
from easyvideor1.types import MediaError, MediaRef
from easyvideor1.video.formats import (
    HEAD_BYTES,
    IMAGE_FORMATS,
    find_media,
    kinds_of_bytes,
    kinds_of_name,
    unsupported_image,
)

from .clips import write_clip


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


@pytest.mark.parametrize("form", sorted(set(IMAGE_FORMATS) - {"PPM"}))
def test_every_image_format_is_recognised_as_it_is_probed(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form.lower()}"
    Image.new("RGB", (40, 30), (200, 10, 10)).save(path, format=form)
    assert video.probe(str(path)).kind == "image"
    assert "image" in kinds_of_bytes(head(path))
    assert "image" in kinds_of_name(str(path))
    assert unsupported_image(head(path), str(path)) == ""


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv"])
def test_every_container_is_recognised_as_it_is_probed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_clip(path, 8)
    assert video.probe(str(path)).kind == "video"
    assert kinds_of_bytes(head(path)) == kinds_of_name(str(path)) == {"video"}


@pytest.mark.parametrize(("form", "suffix"), [("WEBP", ".webp"), ("PNG", ".png"), ("GIF", ".gif")])
def test_what_moves_may_stand_in_either_column(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pictures = [Image.new("RGB", (40, 30), (shade, 10, 10)) for shade in (0, 100, 200)]
    pictures[0].save(path, format=form, save_all=True, append_images=pictures[1:], duration=100)
    assert kinds_of_bytes(head(path)) == {"image", "video"}
    assert video.probe(str(path)).kind == "video"


def test_stills_that_are_not_read_are_told_from_films() -> None:
    avif = "" if "AVIF" in IMAGE_FORMATS else "AVIF"
    assert unsupported_image(b"\0\0\0\x1cftypavif" + bytes(20), "a.png") == avif
    assert unsupported_image(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(20), "a.png") == avif
    assert unsupported_image(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(20), "a.png") == "HEIC"
    assert unsupported_image(b"\0\0\0\x1cftypheic" + bytes(20), "a.jpg") == "HEIC"
    assert unsupported_image(b"\0\0\0\x1cftypisom" + bytes(20), "a.avif") == ""
    assert unsupported_image(b"", "a.HEIC") == "HEIC"
    assert unsupported_image(b"", "a.png") == ""


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
