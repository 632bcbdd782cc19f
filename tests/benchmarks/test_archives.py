"""Archives in every form in which releases come, whole and damaged."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from easyvideor1.benchmarks import unpacking
from easyvideor1.benchmarks.archives import find_archives
from easyvideor1.benchmarks.unpacking import Unpacked, unpack
from easyvideor1.types import DataError

FILES = {f"clips/{name}.mp4": os.urandom(70_000) for name in ("a", "b", "c")} | {"clips/notes.md": b"no medium"}
MEDIA = {name: content for name, content in FILES.items() if name.endswith(".mp4")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "release").mkdir()
    return tmp_path / "tree"


def make_tar(tree: Path, mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        tar.add(tree / "clips", "clips")
    return packed.getvalue()


def make_zip(tree: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as found:
        for name in FILES:
            found.write(tree / name, name)
    return packed.getvalue()


def cut(content: bytes, path: Path, ends: tuple[str, ...]) -> None:
    size = -(-len(content) // len(ends))
    for number, end in enumerate(ends):
        path.with_name(path.name + end).write_bytes(content[number * size : (number + 1) * size])


def unpacked(release: Path) -> Unpacked:
    archives, faults = find_archives(release, sorted(path for path in release.rglob("*") if path.is_file()))
    found = unpack(archives, release.parent / "out")
    return Unpacked(found.files, found.bytes, found.refused, {**faults, **found.unusable})


def media(out: Path) -> dict[str, bytes]:
    place = out / "media"
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def write_form(form: str, tree: Path, release: Path) -> None:
    if form == "zip":
        (release / "videos.zip").write_bytes(make_zip(tree))
    elif form in ("tar", "tar.gz", "tar.xz"):
        name, mode = {
            "tar": ("videos.tar", "w"),
            "tar.gz": ("videos.tar.gz", "w:gz"),
            "tar.xz": ("videos.txz", "w:xz"),
        }[form]
        (release / name).write_bytes(make_tar(tree, mode))
    elif form == "tar in parts":
        cut(make_tar(tree), release / "videos.tar.part.", ("aa", "ab", "ac", "ad"))
    elif form == "tar.gz in parts":
        cut(make_tar(tree, "w:gz"), release / "videos.tar.gz.part", ("aa", "ab", "ac"))
    elif form == "zip in parts":
        cut(make_zip(tree), release / "videos.zip.", ("001", "002", "003"))
    else:
        if shutil.which("zip") is None:
            pytest.skip("no zip command: archives that span several files cannot be made here")
        subprocess.run(["zip", "-q", "-r", "-s", "64k", release / "videos.zip", "clips"], cwd=tree, check=True)
        assert (release / "videos.z03").is_file()


FORMS = ("zip", "tar", "tar.gz", "tar.xz", "tar in parts", "tar.gz in parts", "zip in parts", "spanned zip")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_unpacked_once(form: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "release"
    write_form(form, tree, release)
    assert unpacked(release) == Unpacked(3, 210_000, {}, {})
    assert media(tmp_path / "out") == {f"videos/{name}": content for name, content in MEDIA.items()}

    def again(*_: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(unpacking, "members", again)
    assert unpacked(release) == Unpacked(3, 210_000, {}, {})


@pytest.mark.parametrize("form", ["tar in parts", "zip in parts", "spanned zip", "tar.gz in parts"])
@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_missing_part_is_named(form: str, lost: int, tree: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    write_form(form, tree, release)
    sorted(release.iterdir())[lost].unlink()
    (name, reason), *others = unpacked(release).unusable.items()
    assert name.startswith("videos") and not others
    assert "missing" in reason or "download it again" in reason
    whole = {f"videos/{name}": content for name, content in MEDIA.items()}
    assert media(tmp_path / "out").items() <= whole.items(), "what is there is whole"


@pytest.mark.parametrize("form", ["tar", "zip", "tar.gz"])
def test_damage_is_named(form: str, tree: Path, tmp_path: Path) -> None:
    write_form(form, tree, tmp_path / "release")
    (path,) = (tmp_path / "release").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:100_000])
    assert "download it again" in unpacked(tmp_path / "release").unusable["videos"]
    path.write_bytes(content)
    assert unpacked(tmp_path / "release") == Unpacked(3, 210_000, {}, {})


def test_members_that_leave_the_directory_and_links_are_refused(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    with tarfile.open(release / "a.tar", "w") as tar:
        for name in ("../evil.mp4", "/tmp/evil.mp4", "x/../../evil.mp4", "fine/./a.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        for name, kind in (
            ("soft.mp4", tarfile.SYMTYPE),
            ("hard.mp4", tarfile.LNKTYPE),
            ("pipe.mp4", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(release / "b.zip", "w") as found:
        found.writestr("..\\evil.mp4", b"abc")
        found.writestr("C:/evil.mp4", b"abc")
        link = zipfile.ZipInfo("soft.mp4")
        link.external_attr = 0o120777 << 16
        found.writestr(link, "/etc/passwd")
    done = unpacked(release)
    assert media(tmp_path / "out") == {"a/fine/a.mp4": b"abc"}
    assert dict(done.refused) == {
        "a: ../evil.mp4": "leaves the directory",
        "a: /tmp/evil.mp4": "leaves the directory",
        "a: x/../../evil.mp4": "leaves the directory",
        "a: soft.mp4": "is a link",
        "a: hard.mp4": "is a link",
        "a: pipe.mp4": "is no plain file",
        "b: ..\\evil.mp4": "leaves the directory",
        "b: C:/evil.mp4": "leaves the directory",
        "b: soft.mp4": "is a link",
    }
    assert not list(tmp_path.rglob("evil.mp4"))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyvideor1.benchmarks.archives.FREE_BYTES", 1 << 20)
    zeros = bytes(4 << 20)
    (tmp_path / "release").mkdir()
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "release/a.zip", "w", zipfile.ZIP_DEFLATED) as found:
            found.writestr("a.mp4", zeros)
    else:
        with tarfile.open(tmp_path / "release/a.tar.gz", "w:gz") as tar:
            info = tarfile.TarInfo("a.mp4")
            info.size = len(zeros)
            tar.addfile(info, io.BytesIO(zeros))
    done = unpacked(tmp_path / "release")
    assert done.files == 0 and "unpacks to more than" in done.unusable["a"]
    assert not (tmp_path / "out/media").exists()


def test_a_full_disk_is_seen_before(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_form("zip", tree, tmp_path / "release")
    free = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(DataError, match=r"unpacking needs 0\.0 GB, the disk has 0\.0 GB free - free some space"):
        unpacked(tmp_path / "release")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_goes_on(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_form("tar", tree, tmp_path / "release")
    written = []
    write = unpacking.write_atomic

    def one(path: Path, *rest: object, **options: object) -> None:
        if written and written[-1] == "stop":
            raise KeyboardInterrupt
        write(path, *rest, **options)
        written.append(path.name)
        if len(written) == 1:
            written.append("stop")

    monkeypatch.setattr(unpacking, "write_atomic", one)
    with pytest.raises(KeyboardInterrupt):
        unpacked(tmp_path / "release")
    assert len(media(tmp_path / "out")) == 1
    written[:] = ["first"] * 2
    assert unpacked(tmp_path / "release") == Unpacked(3, 210_000, {}, {})
    assert len(written) == 4, "only the other two files were written"


def test_other_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release/videos.zip.md").write_text("about videos.zip")
    (tmp_path / "release/videos.7z").write_bytes(b"7z")
    assert unpacked(tmp_path / "release").unusable == {
        "videos.7z": "is not unpacked here - unpack it with its own tool, beside itself"
    }
