"""What the first bytes of real files say, and that probing says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from easyvideor1 import video
from easyvideor1.video.formats import HEAD_BYTES, IMAGE_FORMATS, kinds_of_bytes, kinds_of_name, unread_still

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
    assert unread_still(head(path), str(path)) == ""


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
    assert unread_still(b"\0\0\0\x1cftypavif" + bytes(20), "a.png") == avif
    assert unread_still(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(20), "a.png") == avif
    assert unread_still(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(20), "a.png") == "HEIC"
    assert unread_still(b"\0\0\0\x1cftypheic" + bytes(20), "a.jpg") == "HEIC"
    assert unread_still(b"\0\0\0\x1cftypisom" + bytes(20), "a.avif") == ""
    assert unread_still(b"", "a.HEIC") == "HEIC"
    assert unread_still(b"", "a.png") == ""
