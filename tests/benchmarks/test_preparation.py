"""Releases as downloaded become rows: archives, videos found and missing, and what is told of them."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks import releases
from tests.benchmarks.releases import Fixture
from tests.benchmarks.releases.video_mme import row as official
from tests.video.clips import write_clip
from typer.testing import CliRunner

from easyvideor1.benchmarks import BENCHMARKS, Benchmark, Layout, open_benchmark
from easyvideor1.benchmarks.benchmark import load_definitions
from easyvideor1.benchmarks.media_index import MediaIndex
from easyvideor1.benchmarks.preparation import load_report, opened, prepare, release_words
from easyvideor1.benchmarks.readers.shapes import choice
from easyvideor1.cli.app import app
from easyvideor1.config.schema import RunConfig
from easyvideor1.types import ConfigError, DataError

RUN = CliRunner()
READ = choice(id="id", question="question", options="options", answer="answer", video="video")
OWN = Benchmark(
    "own",
    "3",
    title="Own",
    hub="the author",
    licence="MIT",
    count=3,
    layouts=(Layout("only", ("*.jsonl", "**/questions.jsonl"), READ, media=("videos", ".")),),
)


def asked(id_: str, video: str, **changes: object) -> dict:
    return {"id": id_, "question": "What?", "options": ["red", "blue"], "answer": "A", "video": video, **changes}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def samples(benchmark: Benchmark) -> dict[str, str]:
    """Ids with the paths of their videos, as an evaluation loads them, every file checked."""
    config = benchmark.configure(RunConfig.model_validate({"data": {"on_bad_row": "skip"}}))
    return {sample.id: sample.media[0].path for sample in benchmark.load(config).samples}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Video-MME with two videos in a zip, one beside it as Matroska, and one that is nowhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    load_definitions()
    place = tmp_path / "video_mme"
    (place / "videomme").mkdir(parents=True)
    rows = [official(number, "short", "B") for number in (1, 2, 3, 4)] + [official(5, "long", "Z")]
    pq.write_table(pa.Table.from_pylist(rows), place / "videomme/test-00000-of-00001.parquet")
    with zipfile.ZipFile(place / "videos_chunked_01.zip", "w") as packed:
        for number in (1, 2):
            packed.write(write_clip(tmp_path / f"tube{number}.mp4", 4), f"data/tube{number}.mp4")
    (place / "elsewhere").mkdir()
    write_clip(place / "elsewhere/tube3.mkv", 4)
    return place


def test_an_official_release(release: Path) -> None:
    done = RUN.invoke(app, ["eval", "prepare", "video_mme", "--from", str(release)])
    assert done.exit_code == 0, done.stderr
    told = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in ("questions 4 of 2,700 expected", "refused 1", "media found 3 of 4"):
        assert line in told
    assert any("tube4.mp4: is not there (question 004-1)" in line for line in told)
    report = load_report(release / "evr1/video_mme")
    assert report["missing"] == {"tube4.mp4": {"reason": "is not there", "questions": ["004-1"]}}
    assert list(report["refused"].values()) == ["its answer 'Z' is none of its 4 options"]
    assert list(report["annotations"]) == ["videomme/test-00000-of-00001.parquet"] and report["found"] == 3
    benchmark = open_benchmark(f"video_mme={release}")
    found = {
        "001-1": str(release / "evr1/media/videos_chunked_01/data/tube1.mp4"),
        "002-1": str(release / "evr1/media/videos_chunked_01/data/tube2.mp4"),
        "003-1": str(release / "elsewhere/tube3.mkv"),
    }
    assert samples(benchmark) == found
    where = release / "evr1/video_mme/benchmark.json"
    assert release_words(benchmark) == f"release: questions 4 of 2,700, refused 1, media found 3 of 4 ({where})"
    everything = benchmark.load(benchmark.configure(RunConfig())).samples
    assert [sample.id for sample in everything] == [*found, "004-1"], "a missing video stays a question"


def test_videos_that_come_later_are_found_without_preparing_again(release: Path, tmp_path: Path) -> None:
    before = open_benchmark(f"video_mme={release}")  # nothing is unpacked
    assert samples(before) == {"003-1": str(release / "elsewhere/tube3.mkv")}
    assert not (release / "evr1/media").exists()
    write_clip(release / "elsewhere/tube4.webm", 4, codec="libvpx-vp9")
    assert samples(open_benchmark(f"video_mme={release}"))["004-1"] == str(release / "elsewhere/tube4.webm")


def test_an_output_of_its_own_and_a_moved_release(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    done = RUN.invoke(app, ["eval", "prepare", "video_mme", "--from", str(release), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert not (release / "evr1").exists()
    assert samples(open_benchmark(f"video_mme={out}"))["001-1"].startswith(str(out))
    prepare(BENCHMARKS.resolve("video_mme"), release)
    moved = release.rename(tmp_path / "moved")
    assert samples(open_benchmark(f"video_mme={moved}"))["001-1"].startswith(str(moved))
    assert samples(open_benchmark(f"video_mme={moved / 'evr1'}"))["003-1"] == str(moved / "elsewhere/tube3.mkv")


def test_two_benchmarks_of_one_release(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 4)
    write_rows(tmp_path / "questions.jsonl", [asked("a", "a.mp4")])
    one, two = opened(OWN, tmp_path), opened(replace(OWN, name="other"), tmp_path)
    assert one.rows != two.rows and samples(one) == samples(two)
    prepare(OWN, tmp_path, tmp_path / "out")
    assert samples(opened(replace(OWN, name="other"), tmp_path / "out")) == samples(one)


def test_what_was_unpacked_by_hand_is_not_unpacked_again(release: Path) -> None:
    with zipfile.ZipFile(release / "videos_chunked_01.zip") as packed:
        packed.extractall(release)
    write_clip(release / "elsewhere/tube4.mp4", 4)
    report = prepare(BENCHMARKS.resolve("video_mme"), release)
    assert not report.missing and not (release / "evr1/media").exists()


def test_rows_of_a_release_that_cannot_be_written(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    benchmark = open_benchmark(f"video_mme={release}", tmp_path / "workspace")
    assert benchmark.rows.startswith(str(tmp_path / "workspace")) and not (release / "evr1").exists()
    assert samples(benchmark) == {"003-1": str(release / "elsewhere/tube3.mkv")}


def fixtures() -> list[Fixture]:
    modules = (
        importlib.import_module(f"{releases.__name__}.{each.name}") for each in pkgutil.iter_modules(releases.__path__)
    )
    return [fixture for module in modules for fixture in module.FIXTURES]


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda each: f"{each.benchmark}-{each.layout}")
def test_every_official_layout_is_prepared(fixture: Fixture, tmp_path: Path) -> None:
    load_definitions()
    benchmark = BENCHMARKS.resolve(fixture.benchmark)
    place = fixture.write(tmp_path / "release")
    found = opened(benchmark, place)
    report = load_report(place / "evr1" / benchmark.name)
    assert report["questions"] == len(fixture.questions) and len(report["refused"]) == len(fixture.refused)
    loaded = found.load(found.configure(RunConfig()))
    assert tuple(sample.id for sample in loaded.samples) == fixture.questions


def test_annotations_in_an_archive_and_a_tree_of_archives(tmp_path: Path) -> None:
    place = tmp_path / "release"
    write_rows(
        tmp_path / "questions.jsonl", [asked("a", "kind/1.mp4"), asked("b", "other/1.mp4"), asked("c", "gone/1.mp4")]
    )
    with zipfile.ZipFile(tmp_path / "kind.zip", "w") as packed:
        packed.write(write_clip(tmp_path / "1.mp4", 4), "1.mp4")
    (place / "media").mkdir(parents=True)
    with tarfile.open(place / "media/all.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "kind.zip", "kind.zip")
        packed.add(write_clip(tmp_path / "2.mp4", 6), "other/1.mp4")
    with zipfile.ZipFile(place / "annotations.zip", "w") as packed:
        packed.write(tmp_path / "questions.jsonl", "v1/questions.jsonl")
    with pytest.raises(DataError, match="no annotations of Own"):
        prepare(OWN, place, extract=False)
    report = prepare(OWN, place)
    assert report.questions == 3 and list(report.missing) == ["gone/1.mp4"], "no other 1.mp4 stands for it"
    rows = [json.loads(line) for line in (place / "evr1/own/rows.jsonl").read_text().splitlines()]
    assert [row["videos"] for row in rows][:2] == [
        ["evr1/media/media/all/kind/1.mp4"],
        ["evr1/media/media/all/other/1.mp4"],
    ]


def test_rows_that_cannot_be_used_are_refused_by_id(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 4)
    rows = [asked("a", "a.mp4"), asked("b", "a.mp4", question="Is <video> red?"), asked("a", "a.mp4", question="Why?")]
    write_rows(tmp_path / "questions.jsonl", [*rows, asked("d", "a.mp4", answer="C"), asked("e", "../a.mp4")])
    report = prepare(OWN, tmp_path)
    assert "questions 3" not in release_words(opened(OWN, tmp_path)), "all that are expected"
    assert report.refused == {
        "questions.jsonl:4": "its answer 'C' is none of its 2 options",
        "b": "its text contains a media placeholder",
    }
    assert report.repaired == {"repeated-id": ["a#2"]} and report.questions == 3
    assert report.missing == {"../a.mp4": {"reason": "its path leaves the release", "questions": ["e"]}}
    rows = [json.loads(line) for line in (tmp_path / "evr1/own/rows.jsonl").open()]
    assert rows[-1]["videos"] == ["videos/a.mp4"], "no file outside the directory of the media is read"


def test_nothing_but_what_changed_is_written(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 4)
    write_rows(tmp_path / "questions.jsonl", [asked("a", "a.mp4")])
    own = replace(OWN, layouts=(replace(OWN.layouts[0], files=("questions.jsonl",)),))
    prepare(own, tmp_path)
    written = (tmp_path / "evr1/own/rows.jsonl").stat().st_mtime_ns
    prepare(own, tmp_path)
    assert (tmp_path / "evr1/own/rows.jsonl").stat().st_mtime_ns == written
    damaged = (tmp_path / "evr1/own/benchmark.json").read_text().replace('"found": 1', '"found": 9')
    (tmp_path / "evr1/own/benchmark.json").write_text(damaged)
    with pytest.raises(DataError, match="its checksum differs"):
        load_report(tmp_path / "evr1/own")


def test_files_of_one_name(tmp_path: Path) -> None:
    for name, frames in (("x/1.mp4", 4), ("y/1.mp4", 9), ("y/2.mp4", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_clip(tmp_path / name, frames)
    (tmp_path / "frames/walk").mkdir(parents=True)
    (tmp_path / "frames/walk/001.jpg").write_bytes(b"jpg")
    (tmp_path / "x/3.mp4").write_bytes(b"")
    (tmp_path / "x/4.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    index = MediaIndex([tmp_path])
    assert "3.mp4 is empty; download it again" in index.find("3.mp4", ("x",)).reason
    assert "fetch the file itself with git lfs pull" in index.find("4.mp4", ("videos",)).reason
    assert index.find("y/1.mp4", ("videos",)).path == tmp_path / "y/1.mp4"
    assert index.find("1.mp4", ("x",)).path == tmp_path / "x/1.mp4"
    assert index.find("1.mp4", ("videos",)).reason.startswith("2 different files are called 1.mp4")
    assert index.find("z/2.webm", ("videos",)).path == tmp_path / "y/2.mp4"
    assert index.find("z/2.mp4", ("videos",), by_name=False).path is None
    assert index.find("walk", ("videos",)).path == tmp_path / "frames/walk"


def test_list(release: Path, tmp_path: Path) -> None:
    (tmp_path / "charades_sta").mkdir()
    done = RUN.invoke(app, ["eval", "list", "--root", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.stderr
    entries = {each["name"]: each for each in json.loads(done.stdout)["benchmarks"]}
    mme = entries["video_mme"]
    assert (mme["status"], mme["layout"], mme["questions"], mme["read"]) == ("incomplete", "official", 2700, 4)
    assert (mme["videos"], mme["videos_found"], mme["refused"]) == (4, 1, 1)
    assert entries["charades_sta"]["status"] == "no annotations"
    assert not (release / "evr1").exists(), "looking writes nothing"
    done = RUN.invoke(app, ["eval", "list", "--root", str(tmp_path)])
    assert done.stdout.index("\nvideo_mme ") < done.stdout.index("\nactivitynet_tvg "), "what is there comes first"
    assert "video_mme: missing tube1.mp4, tube2.mp4, tube4.mp4; `evr1 eval prepare" in done.stdout
    done = RUN.invoke(app, ["eval", "list"])
    assert done.exit_code == 0 and "lmms-lab/Video-MME" in done.stdout and "absent" not in done.stdout


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("video_mme", ConfigError, "needs the directory of its release: video_mme=DIRECTORY - get Video-MME from lmms"),
        ("video_mme=nowhere", DataError, "nowhere: no such directory"),
        ("video_mme=.", DataError, "no annotations of Video-MME; expected videomme/test"),
        ("mvbench=.", DataError, r"expected json/\*.json; or mvbench.json - get them"),
        ("tests.benchmarks.test_preparation:PLAIN=x", ConfigError, "names its own rows and takes no location"),
    ],
)
def test_what_cannot_be_opened(
    target: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_benchmark(target)


PLAIN = Benchmark("plain", "1", rows="rows.jsonl")


def own_at(location: str) -> Benchmark:
    """A function that a user names; what it returns still has to be read from the location."""
    return replace(OWN, title=f"Own at {location}")


def test_a_benchmark_of_the_user_is_opened_like_a_public_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", 4)
    write_rows(tmp_path / "questions.jsonl", [asked("a", "a.mp4")])
    for name in ("OWN", "own_at"):
        found = open_benchmark(f"tests.benchmarks.test_preparation:{name}={tmp_path}")
        assert samples(found) == {"a": str(tmp_path / "a.mp4")}
    assert found.title == f"Own at {tmp_path}"
