"""Files are whole or not there, whatever happens to the writer."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from easyvideor1.files import (
    append,
    atomic_path,
    check_writable,
    is_sealed,
    json_bytes,
    seal,
    sweep,
    write_atomic,
    write_directory,
    write_json,
    write_text,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b/text", "é\n")
    write_atomic(tmp_path / "bytes", lambda file: file.write(b"12"))
    write_json(tmp_path / "value.json", {"ä": [1, None]})
    assert (tmp_path / "a/b/text").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "bytes").read_bytes() == b"12"
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == {"ä": [1, None]}
    assert names(tmp_path) == ["a", "bytes", "value.json"]


def test_rights_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
        write_directory(tmp_path / "directory", lambda directory: None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o750


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "file", "old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "file", half)
    with pytest.raises(error), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("ne")
        raise error
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": 1}


def test_broken_text_survives() -> None:
    assert json.loads(json_bytes({"a": "half \ud83d"})) == {"a": "half \ud83d"}
    assert json_bytes({"a": "é"}) == b'{"a": "\xc3\xa9"}\n'


def test_encoders_see_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4" and temporary.parent == tmp_path
        temporary.write_bytes(b"1")
    assert names(tmp_path) == ["clip.mp4"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    write_directory(tmp_path / "directory", lambda directory: (directory / "a").write_text("old") and None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError):
            write_atomic(tmp_path / "file", bytes(1 << 20))
        with pytest.raises(OSError):
            write_directory(
                tmp_path / "directory", lambda directory: (directory / "a").write_bytes(bytes(1 << 20)) and None
            )
        with pytest.raises(OSError) as caught:
            append(tmp_path / "lines", bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path / "lines"), "a refused write does not know its file by itself"
    assert (tmp_path / "file").read_text() == "old" and (tmp_path / "directory/a").read_text() == "old"
    assert names(tmp_path) == ["directory", "file", "lines"]


def test_lines_are_added(tmp_path: Path) -> None:
    for line in (b"1\n", b"2\n"):
        append(tmp_path / "a/lines", line)
    assert (tmp_path / "a/lines").read_bytes() == b"1\n2\n"


def test_a_seal_tells_every_change() -> None:
    sealed = json.loads(json_bytes(seal({"b": [1, 2.5, None], "a": {"é": "x"}})))
    assert is_sealed(sealed) and list(sealed) == ["b", "a", "checksum"]
    assert is_sealed(dict(reversed(sealed.items()))), "the order of keys is no content"
    for value in ({**sealed, "b": [1, 2.5]}, {**sealed, "c": 1}, {"b": 1}, {**sealed, "checksum": "x"}, [], None, "a"):
        assert not is_sealed(value)


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "a/b/c")
    check_writable(tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(NotADirectoryError) as caught:
            check_writable(tmp_path / place)
        assert caught.value.filename == str(tmp_path / place)


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    def first(directory: Path) -> None:
        (directory / "a").write_text("1")
        (directory / "b").write_text("1")

    def second(directory: Path) -> None:
        (directory / "deep").mkdir()
        (directory / "deep/a").write_text("2")

    def broken(directory: Path) -> None:
        (directory / "a").write_text("3")
        raise RuntimeError

    write_directory(tmp_path / "out", first)
    write_directory(tmp_path / "out", second)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["deep"]
    with pytest.raises(RuntimeError):
        write_directory(tmp_path / "out", broken)
    assert names(tmp_path) == ["out"] and (tmp_path / "out/deep/a").read_text() == "2"


#: Writes with the first fsyncs real and a kill in the place of the n-th.
KILLED = """
import os, signal, sys
from pathlib import Path
from easyvideor1.files import write_directory, write_text

left, real, rename = int(sys.argv[1]), os.fsync, os.rename

def count(call):
    def counted(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return counted

os.fsync, os.rename, os.replace, os.mkdir = map(count, (os.fsync, os.rename, os.replace, os.mkdir))
write_text("file", "new" * 1000)
write_directory("directory", lambda d: [(d / n).write_text("new") for n in "ab"] and None)
"""


@pytest.mark.parametrize("moment", range(1, 14))
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, moment: int) -> None:
    write_text(tmp_path / "file", "old")
    write_directory(tmp_path / "directory", lambda d: [(d / n).write_text("old") for n in "abc"] and None)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(moment)], cwd=tmp_path, check=False)
    assert ended.returncode == (-signal.SIGKILL if moment <= 12 else 0)
    assert (tmp_path / "file").read_text() in ("old", "new" * 1000)
    sweep(tmp_path)
    assert names(tmp_path) == ["directory", "file"]
    content = {path.name: path.read_text() for path in (tmp_path / "directory").iterdir()}
    assert content in (dict.fromkeys("abc", "old"), dict.fromkeys("ab", "new"))
    assert sweep(tmp_path) == 0


def test_only_what_writers_leave_is_swept(tmp_path: Path) -> None:
    for name in (".hidden", ".env.tmp", "file.0123abcd.tmp", ".a.0123abcg.tmp", ".lock"):
        (tmp_path / name).write_text("")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/.clip.mp4.0123abcd.tmp.mp4").write_text("")
    (tmp_path / "deep/.step.0123abcd.tmp").mkdir()
    (tmp_path / "deep/.step.0123abcd.tmp/.x.0123abcd.tmp").write_text("")
    assert sweep(tmp_path) == 2
    assert names(tmp_path) == [".a.0123abcg.tmp", ".env.tmp", ".hidden", ".lock", "deep", "file.0123abcd.tmp"]
    assert names(tmp_path / "deep") == []
