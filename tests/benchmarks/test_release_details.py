"""What releases say beside their questions reaches the samples: clips, folders of frames, subtitles."""

import json

import pytest
from PIL import Image
from tests.benchmarks.releases import longvideobench, mvbench, video_mme, video_mme_v2
from tests.video.clips import GEOMETRY, write_clip

from easyvideor1 import video
from easyvideor1.benchmarks import BENCHMARKS, open_benchmark
from easyvideor1.benchmarks.benchmark import load_definitions
from easyvideor1.benchmarks.preparation import ROWS, load_report, prepare
from easyvideor1.benchmarks.readers.shapes import REPEATED
from easyvideor1.benchmarks.subtitles import read_cues
from easyvideor1.config.schema import RunConfig

load_definitions()


def fixture_of(module, layout):
    return next(one for one in module.FIXTURES if one.layout == layout)


def test_clips_and_frames_of_mvbench(tmp_path):
    release = fixture_of(mvbench, "branch main").write(tmp_path / "release")
    for name in ("action_antonym", "notes"):
        (release / "json" / f"{name}.json").unlink()
    star, frames = release / "video/star/Charades_v1_480", release / "video/tvqa/frames_fps3_hq"
    star.mkdir(parents=True)
    for name in "ac":
        write_clip(star / f"{name}.mp4", 100)  # 10 frames a second
    pictures = frames / "friends_s01e01_seg02_clip_00"
    pictures.mkdir(parents=True)
    for number in range(1, 31):
        Image.new("RGB", (64, 64), (number * 8, 0, 0)).save(pictures / f"{number:05}.jpg")
    report = prepare(BENCHMARKS.resolve("mvbench"), release)
    assert (report.layout, report.questions, report.missing) == ("branch main", 3, {})
    benchmark = open_benchmark(f"mvbench={release}")
    config = benchmark.configure(RunConfig.model_validate({"cache": {"dir": str(tmp_path / "cache")}}))
    samples = {sample.id: sample for sample in benchmark.load(config).samples}
    limits = {"action_sequence-1": (3.5, 9.25), "action_sequence-3": (0.0, 4.0), "episodic_reasoning-1": (1.0, 5.0)}
    for id_, (start, end) in limits.items():
        (media,) = samples[id_].media
        assert (media.start, media.end) == (start, end)
        plan = video.plan(video.probe(media.path), config.data.video, GEOMETRY, start=media.start, end=media.end)
        assert all(start <= time <= end for time in plan.timestamps)
        assert plan.timestamps[-1] - plan.timestamps[0] > 0.8 * (end - start), "the whole clip is seen"
    assert len(plan.frame_indices) <= 16 and plan.height * plan.width <= 224 * 224


SRT = "1\n00:00:00,000 --> 00:00:02,500\nHello there\n"
WORDS = '{"text": "hello", "start_time": 0.5, "end_time": 1.0}\n{"text": "there", "start_time": 1.0, "end_time": 1.5}\n'
LVB = json.dumps([{"timestamp": [30.0, 32.0], "text": "hello there"}])


@pytest.mark.parametrize(
    ("name", "module", "layout", "path", "content", "times"),
    [
        ("video_mme", video_mme, "official", "subtitle/tube1.srt", SRT, [(0.0, 2.5)]),
        ("video_mme", video_mme, "published", "subtitle/tube1.srt", SRT, [(0.0, 2.5)]),
        ("video_mme_v2", video_mme_v2, "official", "subtitle/001.jsonl", WORDS, [(0.5, 1.0), (1.0, 1.5)]),
        ("longvideobench", longvideobench, "authors", "subtitles/v1_en.json", LVB, [(0.0, 2.0)]),
        ("longvideobench", longvideobench, "hub", "subtitles/v1_en.json", LVB, [(0.0, 2.0)]),
    ],
)
def test_subtitles(name, module, layout, path, content, times, tmp_path):
    release = fixture_of(module, layout).write(tmp_path / "release")
    (release / path).parent.mkdir(parents=True)
    (release / path).write_text(content)
    prepare(BENCHMARKS.resolve(f"{name}_subtitles"), release)
    rows = [json.loads(line) for line in (release / "evr1" / f"{name}_subtitles" / ROWS).read_text().splitlines()]
    named = [row for row in rows if row["subtitles"]]
    assert named and {row["subtitles"] for row in named} == {path}
    found = read_cues(release / path, named[0]["subtitles_format"], named[0].get("subtitles_start", 0.0))
    assert [(cue.start, cue.end) for cue in found] == times
    assert BENCHMARKS.resolve(f"{name}_subtitles").subtitles and not BENCHMARKS.resolve(name).subtitles
    prepare(BENCHMARKS.resolve(name), release)
    plain = [json.loads(line) for line in (release / "evr1" / name / ROWS).read_text().splitlines()]
    assert [row["problem_id"] for row in plain] == [row["problem_id"] for row in rows]
    assert not any("subtitles" in row for row in plain)


def test_mended_rows_are_named(tmp_path):
    release = fixture_of(video_mme, "official").write(tmp_path / "release")
    prepare(BENCHMARKS.resolve("video_mme"), release)
    report = load_report(release / "evr1" / "video_mme")
    assert report["repaired"] == {REPEATED: ["008-1"]}
    assert sorted(report["refused"].values()) == sorted(video_mme.REFUSED)
    assert all(":" in id_ for id_ in report["refused"])
