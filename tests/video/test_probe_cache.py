"""What probing found is kept on disk, for every process and no longer than the file stays the same."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from easyvideor1 import video
from easyvideor1.config import ImageBudget
from easyvideor1.types import Geometry, MediaInfo
from easyvideor1.video import decode, media_files, plan, probe_cache
from easyvideor1.video.media_files import FileVersion, media_version
from easyvideor1.video.packets import PacketIndex, packet_index, video_info
from easyvideor1.video.probe import probe
from easyvideor1.video.probe_cache import FORMAT, ProbeCache, info_and_index_from_json, info_from_json, info_to_json

from .clips import picture, write_clip

LONG_AGO = 1_700_000_000_123_456_789


def settle(path: str | Path) -> None:
    """Let a file be older than the cache's care for files that were written just now."""
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    time.sleep(0.12)


def clip_of(tmp_path: Path, name: str = "a.mp4", frames: int = 12) -> str:
    path = write_clip(tmp_path / name, frames)
    settle(path)
    return path


def files(tmp_path: Path, count: int) -> list[tuple[FileVersion, MediaInfo]]:
    """Small files with descriptions that tell them apart; what they hold does not matter to a cache."""
    out = []
    for number in range(count):
        path = tmp_path / f"file {number}.png"
        path.write_bytes(bytes(number + 1))
        settle(path)
        info = MediaInfo(str(path), "image", f"{number:064x}", "png", 10 + number, 20)
        out.append((media_version(str(path)), info))
    return out


def in_another_process(path: str, cache: Path) -> dict[str, object]:
    """What ``probe`` says there, what decoding will find without reading the file, and the bytes that were read."""
    if not Path("/proc/self/io").exists():
        pytest.skip("needs Linux's /proc/self/io to count what is read")
    code = (
        "import json, sys\n"
        "from easyvideor1.video.probe_cache import ProbeCache\n"
        "from easyvideor1.video.packets import packet_index\n"
        "from easyvideor1.video.media_files import fingerprint\n"
        "from easyvideor1.video.probe import probe\n"
        "def read():\n"
        "    return int(open('/proc/self/io').readline().split()[1])\n"
        "path, cache = sys.argv[1:]\n"
        "before = read()\n"
        "info = probe(path, ProbeCache(cache))\n"
        "index = packet_index(path) if info.kind == 'video' else None\n"
        "found = {'info': repr(info), 'index': repr(index), 'fingerprint': fingerprint(path)}\n"
        "print(json.dumps({**found, 'read': read() - before}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path, str(cache)], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_another_process_reads_nothing(tmp_path: Path) -> None:
    path, cache = clip_of(tmp_path), tmp_path / "cache"
    with Path(path).open("ab") as file:
        file.write(bytes(200_000))  # behind the video, so that reading the file is seen
    settle(path)
    first = in_another_process(path, cache)
    assert first["info"] == repr(probe(path))
    assert first.pop("read") > 200_000
    again = in_another_process(path, cache)
    assert again.pop("read") < 50_000
    assert again == first


def test_images_are_remembered_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(3, 50, 40)).save(path)
    with path.open("ab") as file:
        file.write(bytes(200_000))
    settle(path)
    first = in_another_process(str(path), tmp_path / "cache")
    assert first["info"] == repr(probe(str(path)))
    assert first.pop("read") > 200_000
    again = in_another_process(str(path), tmp_path / "cache")
    assert again.pop("read") < 50_000
    assert again == first


def test_a_changed_file_is_probed_again(tmp_path: Path) -> None:
    path, cache = clip_of(tmp_path), ProbeCache(tmp_path / "cache")
    info = probe(path, cache)
    key = media_version(path)
    assert cache.get(key) == info
    os.utime(path, ns=(LONG_AGO + 1, LONG_AGO + 1))
    assert cache.get(media_version(path)) is None
    settle(path)
    assert cache.get(media_version(path)) is None, "it was changed, whatever its time of modification says now"
    assert probe(path, cache) == info
    copy = tmp_path / "copy"
    copy.write_bytes(Path(path).read_bytes())
    copy.replace(path)  # same content, size and time; another inode
    settle(path)
    assert cache.get(media_version(path)) is None
    again = write_clip(tmp_path / "a.mp4", 15)
    settle(again)
    assert cache.get(media_version(path)) is None
    assert probe(path, cache).frame_count == 15
    reread = ProbeCache(tmp_path / "cache").get(media_version(path))
    assert reread is not None
    assert reread.frame_count == 15
    assert len(cache) == 1


@pytest.mark.parametrize("removed", [False, True])
def test_a_file_overwritten_in_place_never_shows_its_old_pixels(tmp_path: Path, *, removed: bool) -> None:
    """Equal in size, time of modification and, written in place, inode: in this process and in another."""
    path = tmp_path / "a.bmp"  # as large whatever it shows

    def write(colour: int) -> None:
        if removed:
            path.unlink(missing_ok=True)
        Image.new("RGB", (56, 56), (colour, 0, 0)).save(path)
        os.utime(path, ns=(LONG_AGO, LONG_AGO))

    budget, geometry, cache = ImageBudget(), Geometry(14, 2, 2), tmp_path / "cache"
    script = (
        "import sys; from easyvideor1.video.probe import probe; from easyvideor1.video.probe_cache import ProbeCache; "
        "print(probe(sys.argv[1], ProbeCache(sys.argv[2])).fingerprint)"
    )
    for colour in (10, 200, 90):
        write(colour)
        time.sleep(0.12)
        info = probe(str(path), ProbeCache(cache))
        pixels = decode(str(path), plan(info, budget, geometry)).pixels
        assert int(pixels[0, 0, 0, 0]) == colour
        other = subprocess.run([sys.executable, "-c", script, path, cache], capture_output=True, text=True, check=True)
        assert other.stdout.strip() == info.fingerprint
    for colour in (11, 201, 91):  # faster than the clock of files ticks
        write(colour)
        assert int(decode(str(path), plan(probe(str(path)), budget, geometry)).pixels[0, 0, 0, 0]) == colour


def test_a_file_that_was_written_just_now_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ProbeCache(tmp_path / "cache")
    path = tmp_path / "a.png"
    info = MediaInfo(str(path), "image", "f" * 64, "png", 8, 8)
    with monkeypatch.context() as patched:
        patched.setattr(media_files, "_TICK", 60.0)  # so that it is still now, however busy the machine
        patched.setattr(media_files, "_COARSE_TICK", 60.0)
        Image.new("RGB", (8, 8)).save(path)
        cache.put(media_version(str(path)), info)
        assert len(cache) == 0
    before = media_version(str(path))
    settle(path)
    cache.put(before, info)  # it has changed since
    assert len(cache) == 0
    cache.put(media_version(str(path)), info)
    assert len(cache) == 1


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    known = files(tmp_path, 60)
    code = (
        "import sys\n"
        "from easyvideor1.types import MediaInfo\n"
        "from easyvideor1.video.media_files import media_version\n"
        "from easyvideor1.video.probe_cache import ProbeCache\n"
        "cache = ProbeCache(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    number = int(path.split()[-1][:-4])\n"
        "    cache.put(media_version(path), MediaInfo(path, 'image', f'{number:064x}', 'png', 10 + number, 20))\n"
    )
    paths = [info.path for _, info in known]
    shares = [paths[:40], paths[20:], paths[::-1]]  # every file by two of them
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache"), *share]) for share in shares]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    cache = ProbeCache(tmp_path / "cache")
    assert [cache.get(key) for key, _ in known] == [info for _, info in known]
    lines = (tmp_path / "cache").read_bytes().splitlines()
    assert all(line.startswith(FORMAT) for line in lines)
    for line in lines:
        _, checksum, body = line.split(b"\t", 2)
        assert int(checksum, 16) == zlib.crc32(body)


def test_what_one_process_adds_another_sees(tmp_path: Path) -> None:
    known = files(tmp_path, 2)
    one, other = ProbeCache(tmp_path / "cache"), ProbeCache(tmp_path / "cache")
    assert other.get(known[0][0]) is None
    for key, info in known:
        one.put(key, info)
        assert other.get(key) == info


def test_a_kill_at_any_byte_costs_one_line(tmp_path: Path) -> None:
    known, path = files(tmp_path, 3), tmp_path / "cache"
    cache = ProbeCache(path)
    for key, info in known[:2]:
        cache.put(key, info)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        torn = ProbeCache(path)
        assert torn.get(known[0][0]) == known[0][1]
        assert torn.get(known[1][0]) is None
        torn.put(*known[2])
        torn.put(*known[1])
        again = ProbeCache(path)
        assert [again.get(key) for key, _ in known] == [info for _, info in known], cut


def test_a_flipped_byte_is_never_believed(tmp_path: Path) -> None:
    known, path = files(tmp_path, 4), tmp_path / "cache"
    cache = ProbeCache(path)
    for key, info in known:
        cache.put(key, info)
    whole = path.read_bytes()
    rng = random.Random(0)
    for position in [*range(40), *(rng.randrange(len(whole)) for _ in range(200))]:
        spoilt = bytearray(whole)
        spoilt[position] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        reread = ProbeCache(path)
        answers = [reread.get(key) for key, _ in known]
        assert all(answer in (None, info) for answer, (_, info) in zip(answers, known, strict=True))
        if position > 20:  # at the beginning the whole file is taken for a foreign one
            assert sum(answer is None for answer in answers) <= 2


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + bytes(5000), b"{}\n", bytes(100), b"\xff" * 70])
def test_a_foreign_file_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    known, path = files(tmp_path, 1), tmp_path / "cache"
    path.write_bytes(content)
    cache = ProbeCache(path)
    assert cache.get(known[0][0]) is None
    cache.put(*known[0])
    assert ProbeCache(path).get(known[0][0]) == known[0][1]
    assert (tmp_path / "cache.aside").read_bytes() == content


def test_lines_of_other_versions_are_passed_over(tmp_path: Path) -> None:
    known, path = files(tmp_path, 2), tmp_path / "cache"
    ProbeCache(path).put(*known[0])
    line = path.read_bytes()
    path.write_bytes(line.replace(FORMAT, b"evr1-probe/0"))
    cache = ProbeCache(path)
    assert cache.get(known[0][0]) is None
    cache.put(*known[1])
    assert ProbeCache(path).get(known[1][0]) == known[1][1]
    assert not (tmp_path / "cache.aside").exists()


@pytest.mark.parametrize("place", ["directory", "below a file"])
def test_a_cache_that_cannot_be_written_is_told_once_and_costs_nothing_else(tmp_path: Path, place: str) -> None:
    if place == "directory":
        path = tmp_path / "cache"
        path.mkdir()
    else:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "cache"
    clips = [clip_of(tmp_path, "a.mp4"), clip_of(tmp_path, "b.mp4", 6)]
    cache = ProbeCache(path)
    with pytest.warns(UserWarning, match="cannot be used") as told:
        assert [probe(clip, cache).frame_count for clip in clips] == [12, 6]
    assert len(told) == 1


def test_lines_of_no_use_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_cache, "_SPARE_BYTES", 2000)
    known, path = files(tmp_path, 3), tmp_path / "cache"
    cache = ProbeCache(path)
    for key, info in known:
        cache.put(key, info)
    live = path.stat().st_size
    changing, info = Path(known[0][0][0]), known[0][1]
    for version in range(20):
        os.utime(changing, ns=(LONG_AGO, LONG_AGO + version))
        time.sleep(0.12)
        cache.put(media_version(str(changing)), info)
    assert path.stat().st_size > 5 * live
    late = ProbeCache(path)
    assert late.get(known[1][0]) == known[1][1]
    assert path.stat().st_size == live
    # Who had the old file open goes over to the new one, and what it writes is not lost.
    assert cache.get(known[2][0]) == known[2][1]
    settle(changing)
    cache.put(media_version(str(changing)), info)
    assert late.get(media_version(str(changing))) == info


def long_index(pts: tuple[int, ...], time_base: Fraction, rate: Fraction | None) -> PacketIndex:
    return PacketIndex(
        pts=pts,
        keyframes=tuple(range(0, len(pts), 250)),
        time_base=time_base,
        end=pts[-1] + pts[1] - pts[0],
        timed=True,
        rate=rate,
        codec="h264",
        width=1280,
        height=720,
        rotation=90,
        mirror=True,
    )


@pytest.mark.parametrize("kind", ["constant", "milliseconds", "variable"])
def test_two_hours_of_timestamps_are_small_and_exact(kind: str) -> None:
    frames = 216_000
    if kind == "constant":
        index = long_index(tuple(1001 * k + 7 for k in range(frames)), Fraction(1, 30_000), Fraction(30_000, 1001))
    elif kind == "milliseconds":
        index = long_index(tuple(round(k * 1001 / 30) for k in range(frames)), Fraction(1, 1000), None)
    else:
        rng = random.Random(1)
        ticks = [0]
        for _ in range(frames - 1):
            ticks.append(ticks[-1] + rng.randrange(500, 6000))
        index = long_index(tuple(ticks), Fraction(1, 90_000), Fraction(27, 1))
    info = video_info("v.mp4", "f" * 64, index)
    assert info.timestamps == tuple(index.seconds(tick - index.pts[0]) for tick in index.pts)
    text = info_to_json(info, index)
    assert info_and_index_from_json(text) == (info, index)
    assert info_from_json(info_to_json(info)) == info
    assert len(text) < (1_000_000 if kind == "variable" else 20_000)


def test_a_real_index_survives(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 40, fps=30, ticks=[33 * k + k // 3 for k in range(40)])
    text = info_to_json(video.probe(path), packet_index(path))
    assert info_and_index_from_json(text) == (video.probe(path), packet_index(path))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"index": 3}', '{"timestamps": "A"}', '{"timestamps": "AAAA"}'])
def test_other_texts_are_no_descriptions(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        info_from_json(text)


def test_an_index_is_added_to_what_is_known(tmp_path: Path) -> None:
    path, cache = clip_of(tmp_path), ProbeCache(tmp_path / "cache")
    key, info = media_version(path), video.probe(path)
    cache.put(key, info)
    assert cache.recall(key) == (info, None)
    cache.put(key, info, packet_index(path))
    assert cache.recall(key) == (info, packet_index(path))
    size = cache.path.stat().st_size
    cache.put(key, info)
    assert cache.path.stat().st_size == size
