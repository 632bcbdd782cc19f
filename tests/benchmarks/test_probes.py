"""Probes change what they name and nothing else; the pixels are those of the real clip."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import make_plan
from tests.training.runs import World
from tests.video.clips import plan_clip, reference_frames, write_clip

from easyvideor1 import video
from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.probes import probe
from easyvideor1.components import Components
from easyvideor1.config.schema import RunConfig, VideoBudget
from easyvideor1.types import ConfigError, DataError, Frames, Geometry, MediaInfo, MediaPlan, MediaRef, Sample
from easyvideor1.video.derived import derived_frames
from easyvideor1.video.effects import make_effect, plan_effects

CHOICE = Sample(
    id="q1",
    question="<image><video>\nWhat does the man open?",
    task="multiple_choice",
    answer="B",
    media=(MediaRef("image", "a.png"), MediaRef("video", "a.mp4")),
    options=("A. a book", "B. a door", "C. a box", "D. a can"),
    extra={"facets": {"duration": "short"}},
)


def test_what_each_probe_asks() -> None:
    blind = probe("blind").sample(CHOICE)
    assert blind == replace(CHOICE, question="<image>\nWhat does the man open?", media=CHOICE.media[:1])
    nothing = probe("none_of_the_above").sample(CHOICE)
    assert nothing.options == ("A. a book", "B. None of the above", "C. a box", "D. a can") and nothing.answer == "B"
    asked = probe("open").sample(CHOICE)
    assert (asked.task, asked.options, asked.answer, asked.media) == ("open_ended", (), "a door", CHOICE.media)
    moved = probe("shuffled_options").sample(CHOICE)
    assert moved == probe("shuffled_options").sample(CHOICE) and moved.options != CHOICE.options
    assert f"{moved.answer}. a door" in moved.options
    assert sorted(each[3:] for each in moved.options) == ["a book", "a box", "a can", "a door"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("blind", {"question": "<image>What?", "media": CHOICE.media[:1]}),
        ("one_frame", {"question": "What?", "media": ()}),
        ("shuffled_options", {"task": "numerical", "options": (), "answer": "3"}),
        ("shuffled_options", {"options": ("A. one", "B. two", "C. all of the above")}),
        ("none_of_the_above", {"options": ("A. one", "B. two", "C. none of the above")}),
        ("none_of_the_above", {"options": ("A. one", "B. Both A and C", "C. two")}),
        ("none_of_the_above", {"options": ("A. left", "B. right", "C. Neither")}),
        ("none_of_the_above", {"answer": "E"}),
        ("open", {"question": "<image><video>Which of the following happens?"}),
        ("open", {"options": ("A. both of them", "B. a door")}),
        ("open", {"options": ("A", "B")}),
    ],
)
def test_questions_that_a_probe_cannot_be_made_of_are_left_out(name: str, changes: dict) -> None:
    assert probe(name).sample(replace(CHOICE, **changes)) is None


def test_options_change_places_evenly() -> None:
    places = [probe("shuffled_options").sample(replace(CHOICE, id=f"q{n}")).answer for n in range(400)]
    assert all(60 < places.count(letter) < 140 for letter in "ABCD")


def test_frames_are_those_of_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames=24)
    plan = plan_clip(path, VideoBudget(frames=8, min_pixels=1024, max_pixels=64 * 64))
    frames = reference_frames(path)
    mixed = probe("shuffled_frames").plan(plan)
    assert mixed == probe("shuffled_frames").plan(plan)
    assert mixed.frame_indices != plan.frame_indices and sorted(mixed.frame_indices) == sorted(plan.frame_indices)
    assert (
        mixed == replace(plan, frame_indices=mixed.frame_indices, digest=mixed.digest) and mixed.digest != plan.digest
    )
    for pixels, index in zip(video.decode(path, mixed).pixels, mixed.frame_indices, strict=True):
        np.testing.assert_array_equal(pixels, frames[index])
    single = probe("one_frame").plan(plan)
    assert single.frame_indices == (plan.frame_indices[4],) * 2 and single.timestamps == (plan.timestamps[4],) * 2
    assert single.grid == (1, *plan.grid[1:]) and single.tokens * 4 == plan.tokens
    np.testing.assert_array_equal(video.decode(path, single).pixels[1], frames[plan.frame_indices[4]])


@pytest.mark.parametrize(("name", "shown"), [("one_frame", (3, 3)), ("shuffled_frames", None)])
def test_effects_are_made_on_the_frames_that_a_probe_shows(name: str, shown: tuple[int, ...] | None) -> None:
    """A frame that a mask hides stays hidden, and the store gives frames without effects."""
    clip = make_plan("video", frames=6)
    info = MediaInfo("a.mp4", "video", clip.fingerprint, "h264", 64, 64, timestamps=clip.timestamps, duration=3.0)
    masked = plan_effects(clip, (make_effect("mask_frames", inside=((0.0, 0.6),)),), Geometry(), info)
    change = probe(name).plan
    assert change is not None
    plan = change(masked)
    assert len({plan.digest, masked.digest, clip.digest}) == 3 and plan.source is not None
    assert shown is None or plan.frame_indices == shown

    def store(ref: MediaRef, wanted: MediaPlan) -> Frames:
        assert not wanted.effects
        pixels = np.array(wanted.frame_indices, np.uint8)[:, None, None, None] + np.ones((64, 64, 3), np.uint8)
        return Frames(pixels, wanted)

    found = derived_frames(store, MediaRef("video", "a.mp4"), plan)
    assert found is not None and found.pixels.shape == (len(plan.frame_indices), 64, 64, 3)
    hidden = [place for place, time in enumerate(plan.timestamps) if time <= 0.6]
    wanted = [0 if place in hidden else index + 1 for place, index in enumerate(plan.frame_indices)]
    assert found.pixels[:, 0, 0, 0].tolist() == wanted


def test_an_unknown_probe_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown probe 'blnd': did you mean blind"):
        probe("blnd")


@pytest.mark.model
def test_a_probed_benchmark_becomes_prompts(tmp_path: Path) -> None:
    world = World(tmp_path)
    real = Benchmark("toy", "1", world.rows("test"), video=VideoBudget(fps=4.0, max_frames=8))
    prompts = {}
    for name in ("", "blind", "one_frame", "shuffled_frames", "shuffled_options"):
        benchmark = real.probed(probe(name)) if name else real
        assert benchmark.name == (f"toy-{name}" if name else "toy")
        config = benchmark.configure(world.short())
        with Components.open(config, shown=benchmark.shown) as components:
            (loaded,) = components.check([benchmark.load(components.config)])
            prompts[name] = {sample.id: components.render(sample) for sample in loaded.samples}
            for prompt in prompts[name].values():
                assert sum(span.length for span in prompt.spans) == sum(plan.tokens for plan in prompt.plans)
    videos = {id_: prompt for id_, prompt in prompts[""].items() if prompt.plans and prompt.plans[0].kind == "video"}
    assert videos and set(prompts["blind"]) == set(prompts["one_frame"]) == set(prompts["shuffled_frames"]) == set(
        videos
    )
    for id_, prompt in videos.items():
        assert not prompts["blind"][id_].plans
        assert prompts["one_frame"][id_].plans[0].grid[0] == 1 < prompt.plans[0].grid[0]
        mixed = prompts["shuffled_frames"][id_]
        assert mixed.token_ids.tolist() == prompt.token_ids.tolist() and mixed.plans != prompt.plans
    assert 0 < len(prompts["shuffled_options"]) < len(prompts[""])


def test_missing_media_stay_as_questions(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    row = {"problem": "<video>Is it red?", "problem_type": "boolean", "answer": "yes", "videos": ["gone.mp4"]}
    rows.write_text(json.dumps({**row, "problem_id": "gone"}) + "\n")
    benchmark = Benchmark("mine", "1", str(rows))
    config = benchmark.configure(RunConfig())
    assert [sample.id for sample in benchmark.load(config).samples] == ["gone"]
    skipping = benchmark.configure(RunConfig.model_validate({"data": {"on_bad_row": "skip"}}))
    with pytest.raises(DataError, match=r"gone\.mp4' does not exist"):
        benchmark.load(skipping)
    with pytest.raises(DataError, match="probe open applies to none of 1 rows"):
        benchmark.probed(probe("open")).load(config)


@pytest.mark.model
def test_subtitles_of_the_sampled_frames_reach_the_prompt(tmp_path: Path) -> None:
    world = World(tmp_path)
    (row, *_) = [row for row in world.read("test") if row["videos"]]
    cues = [(n, f"00:00:{n // 4:02},{n % 4 * 250:03}", f"00:00:{n // 4:02},{n % 4 * 250 + 100:03}") for n in range(8)]
    lines = [f"{n}\n{start} --> {end}\nword{n}\n" for n, start, end in cues]
    (tmp_path / "a.srt").write_text("\n".join([*lines, "9\n01:00:00,000 --> 01:00:01,000\nnever\n"]))
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "subtitles": "a.srt", "subtitles_format": "srt"}) + "\n")
    real = Benchmark("toy", "1", str(tmp_path / "rows.jsonl"), video=VideoBudget(fps=4.0, max_frames=8))
    prompts = {}
    for name, benchmark in {
        "none": real,
        "sampled": replace(real, subtitles="sampled"),
        "all": replace(real, subtitles="all"),
        "one_frame": replace(real, subtitles="sampled").probed(probe("one_frame")),
        "blind": replace(real, subtitles="all").probed(probe("blind")),
    }.items():
        config = benchmark.configure(world.short())
        with Components.open(config, shown=benchmark.shown) as components:
            (sample,) = benchmark.load(components.config).samples
            prompts[name] = components.render(sample)
    times = prompts["sampled"].plans[0].timestamps
    shown = {f"word{round(time * 4)}" for time in times if time * 4 % 1 <= 0.4}
    assert shown and {word for word in prompts["sampled"].text.split() if word.startswith("word")} == shown
    assert "never" in prompts["all"].text and "never" not in prompts["sampled"].text
    assert prompts["one_frame"].text.count("word") == 1
    assert "word" not in prompts["none"].text and "word" not in prompts["blind"].text
    assert prompts["sampled"].plans == prompts["none"].plans
