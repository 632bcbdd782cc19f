"""Transforms put effects, images and seeds into samples; options are checked with their place."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import BaseModel

from easyvideor1.config import dump_config, load_config, parse_config
from easyvideor1.config.transforms import CURRICULUM_OPTIONS, TRANSFORM_OPTIONS, CustomTransform
from easyvideor1.data import CURRICULA, SampleStream, resolve_transforms
from easyvideor1.data.difficulty import fading_share
from easyvideor1.data.transforms import TRANSFORMS, TransformContext
from easyvideor1.options import with_options
from easyvideor1.types import ConfigError, DataError, MediaInfo, MediaRef, Sample

VIDEO = MediaRef("video", "/w/clip.mp4")
SAMPLE = Sample(
    id="s1",
    question="First <video> and then <image>, when?",
    task="temporal_grounding",
    answer='{"time": [1.5, 3]}',
    media=(VIDEO, MediaRef("image", "/w/a.png")),
    where="/rows/train.jsonl:3",
)


def apply(
    name: str,
    sample: Sample = SAMPLE,
    step: int = 0,
    seed: int = 0,
    steps: int = 10,
    curriculum=None,
    probe=None,
    **options,
):
    section = TRANSFORM_OPTIONS[name].model_validate({"name": name, **options})
    (bound,) = resolve_transforms([section])
    context = TransformContext(None, steps, curriculum, probe)
    return bound(sample, step, np.random.default_rng(0), context)


def effects(sample: Sample) -> list[tuple[str, dict]]:
    assert sample.media[-1].effects == ()  # an image of its own has none
    return [(effect.name, json.loads(effect.options)) for effect in sample.media[0].effects]


def test_every_name_has_options_and_a_function() -> None:
    assert set(TRANSFORM_OPTIONS) - {"module:attr"} == set(TRANSFORMS.names())
    assert set(CURRICULUM_OPTIONS) - {"module:attr", "none"} == set(CURRICULA.names())


def test_options_come_from_yaml_with_file_and_line(tmp_path) -> None:
    text = """
data:
  prepare: [{name: anchors, current: false}]
  transforms:
    - shuffle_options
    - name: noise
      strength: 0.3
    - {name: composite, columns: [current, first], colour: [1, 2, 3]}
    - {name: mask_frames, frames: [0, -1]}
stages:
  - name: rl
    transforms: [fading_mask, "own:thing"]
    curriculum: {name: reward_history, window: 3}
"""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    config = load_config(path, ["data.transforms.0.name=invert_question", "stages.rl.transforms.0.share=0.5"])
    assert [each.name for each in config.data.transforms] == ["invert_question", "noise", "composite", "mask_frames"]
    assert config.data.transforms[2].columns == ("current", "first") and config.data.transforms[2].colour == (1, 2, 3)
    assert config.data.transforms[3].frames == (0, -1)
    assert parse_config(dump_config(config), "again") == config
    assert config.data.transforms[1].strength == 0.3 and not config.data.prepare[0].current
    assert config.stages[0].transforms[0].share == 0.5 and isinstance(config.stages[0].transforms[1], CustomTransform)
    assert config.stages[0].curriculum.window == 3
    for wrong, said in (
        ("strength: 0.3", ("strenght: 0.3", r"run\.yaml:7: unknown key data\.transforms\.1\.strenght: did you mean")),
        ("strength: 0.3", ("strength: 3", r"run\.yaml:7: data\.transforms\.1\.strength: .*less than or equal to 1")),
        ("strength: 0.3", ("window: 3", r"run\.yaml:7: .*window would have no effect|unknown key")),
        ("shuffle_options", ("shuffle_option", r"run\.yaml:5: data\.transforms\.0: unknown name 'shuffle_option'")),
        ("window: 3", ("successes: false, success: 0.9", "success would have no effect")),
        ("fading_mask", ("{name: fading_mask, below: 0.1}", "below would have no effect")),
        ("current: false", ("first: false, clip: false, current: false", "nothing would be shown")),
    ):
        path.write_text(text.replace(wrong, said[0]))
        with pytest.raises(ConfigError, match=said[1]):
            load_config(path)


class Options(BaseModel):
    word: str = "so"


@with_options(Options)
def own(sample, step, rng, context):
    return [replace(sample, question=f"{sample.question} {context.options.word} {step} of {context.steps}")]


def test_a_function_of_your_own_gets_its_options_and_the_length_of_the_stage() -> None:
    section = CustomTransform.model_validate({"name": "data.test_media_transforms:own", "word": "well"})
    stream = SampleStream([[SAMPLE]], [1.0], 0, [section], steps=7)
    assert stream.batch(3, 1)[0].question.endswith("when? well 3 of 7")
    assert stream.batch(9, 1, training_step=3)[0].question.endswith("well 3 of 7")  # a further round of step 3
    wrong = CustomTransform.model_validate({"name": "data.test_media_transforms:own", "words": 1})
    with pytest.raises(ConfigError, match=r"stages\.rl\.transforms\.0\.words: unknown key; valid keys here: word"):
        resolve_transforms([wrong], "stages.rl.transforms")


def test_noise_is_fixed_in_the_sample_and_new_in_every_step() -> None:
    stream = SampleStream([[SAMPLE]], [1.0], 0, [TRANSFORM_OPTIONS["noise"](name="noise")], steps=7)
    seeds = [effects(stream.batch(step, 1)[0])[0][1]["seed"] for step in range(5)]
    assert len(set(seeds)) == 5
    again = SampleStream([[SAMPLE]], [1.0], 0, ["noise"], steps=7)
    assert [effects(again.batch(step, 1)[0])[0][1]["seed"] for step in range(5)] == seeds


def test_masks_take_the_span_of_the_answer_or_of_its_column() -> None:
    (found,) = apply("mask_frames", outside_answer=True, share=0.5)
    ((name, options),) = effects(found)
    assert (name, options["outside"], options["share"]) == ("mask_frames", [[1.5, 3.0]], 0.5)
    (found,) = apply("mask_frames", replace(SAMPLE, answer="7", extra={"span": [2, 4]}), outside_answer=True)
    assert effects(found)[0][1]["outside"] == [[2.0, 4.0]]
    with pytest.raises(DataError, match="has no span of time"):
        apply("mask_frames", replace(SAMPLE, answer="seven"), outside_answer=True)
    (found,) = apply("mask_frames", frames=(0, -1))
    assert effects(found)[0][1]["frames"] == [0, -1]


def test_composites_carry_their_geometry() -> None:
    (found,) = apply("composite", columns=("previous", "current"), gap=2)
    assert effects(found) == [("composite", {"columns": ["previous", "current"], "gap": 2, "colour": [0, 0, 0]})]


@pytest.mark.parametrize(
    ("options", "question", "shown"),
    [
        ({}, "First <image><video><image> and then <image>, when?", ["first", "", "last", ""]),
        ({"clip": False}, "First <image><image> and then <image>, when?", ["first", "last", ""]),
        ({"first": False, "current": False}, SAMPLE.question, ["", ""]),
        ({"first": False, "clip": False}, "First <image> and then <image>, when?", ["last", ""]),
    ],
)
def test_anchors_stand_around_the_clip(options, question, shown) -> None:
    (found,) = apply("anchors", **options)
    assert found.question == question
    assert [ref.still for ref in found.media] == shown
    assert all(ref.kind == ("image" if ref.still else ref.kind) for ref in found.media)
    assert {ref.path for ref in found.media} == {"/w/clip.mp4", "/w/a.png"}


def test_effects_reach_the_stills_of_a_clip() -> None:
    (found,) = apply("noise", apply("anchors")[0])
    first, clip, last, image = found.media
    assert first.effects == clip.effects == last.effects != () and image.effects == ()


def test_tracks_lie_beside_the_video_or_where_the_row_says(tmp_path) -> None:
    tracks = {"width": 8, "height": 8, "frames": 2, "objects": []}
    (tmp_path / "clip.tracks.json").write_text(json.dumps(tracks))
    (tmp_path / "rows").mkdir()
    sample = replace(SAMPLE, media=(MediaRef("video", str(tmp_path / "clip.mp4")), SAMPLE.media[1]))
    (beside,) = apply("overlay_ids", sample, size=10)
    ((name, options),) = effects(beside)
    assert (name, options["size"], options["boxes"]) == ("overlay_ids", 10, False) and "tracks" not in options
    named = replace(sample, extra={"t": "../clip.tracks.json"}, where=str(tmp_path / "rows" / "a.jsonl:1"))
    (found,) = apply("overlay_ids", named, tracks="t", size=10)
    assert found.media == beside.media
    with pytest.raises(DataError, match="the column 'u' is None"):
        apply("overlay_ids", named, tracks="u")
    with pytest.raises(DataError, match=r"clip\.tracks\.json: the tracks cannot be read"):
        apply("overlay_ids")


@pytest.mark.parametrize(("span", "fine"), [([0, 1], True), ([4, 9], True), ([5.5, 9], False), ([-3, -1], False)])
def test_spans_must_touch_their_clip(span, fine) -> None:
    info = MediaInfo("/w/clip.mp4", "video", "f", "h264", 8, 8, duration=5.0)
    sample = replace(SAMPLE, extra={"span": span})
    if fine:
        assert apply("require_span", sample, probe=lambda path: info) == [sample]
        clipped = replace(sample, media=(replace(VIDEO, start=1.5, end=3.5), SAMPLE.media[1]))
        with pytest.raises(DataError, match=r"outside of the clip \[1\.5, 3\.5\] s of /w/clip\.mp4"):
            apply("require_span", clipped, probe=lambda path: info)
    else:
        with pytest.raises(DataError, match=r"lies outside of the clip \[0, 5\] s"):
            apply("require_span", sample, probe=lambda path: info)
    with pytest.raises(ConfigError, match=r"name it in data\.prepare"):
        apply("require_span", sample)


def test_the_mask_fades_to_nothing_and_spares_easy_rows() -> None:
    shares = []
    for step in range(12):
        (found,) = apply("fading_mask", step=step, share=0.8)
        shares.append(effects(found)[0][1]["share"] if found.media[0].effects else 0.0)
    wanted = [0.8 * (10 - step) / 10 for step in range(10)] + [0.0, 0.0]
    assert shares == pytest.approx(wanted)
    assert [fading_share(1.0, step, 4) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    hard, easy = (replace(SAMPLE, extra={"iou": iou}) for iou in (0.2, 0.3))
    assert apply("fading_mask", easy, difficulty="iou", below=0.3) == [easy]
    assert effects(apply("fading_mask", hard, difficulty="iou", below=0.3)[0])[0][0] == "mask_frames"
    with pytest.raises(DataError, match=r"train\.jsonl:3: the column 'iou' is None, not a number"):
        apply("fading_mask", difficulty="iou")
    with pytest.raises(ConfigError, match="follows steps"):
        apply("fading_mask", steps=0)


class Known:
    """A curriculum with known numbers."""

    def __init__(self, difficulty, success=""):
        self.difficulty, self.success = lambda id_: difficulty, lambda id_: success


def test_what_is_hard_gets_hints_and_what_is_easy_gets_noise() -> None:
    response = "<think>I see <image> one two three four five six seven</think><answer>B</answer>"
    assert apply("adapt_difficulty", curriculum=Known(None)) == [SAMPLE]
    assert apply("adapt_difficulty", curriculum=Known(0.5)) == [SAMPLE]  # no response was rewarded
    (hinted,) = apply("adapt_difficulty", curriculum=Known(0.4, response), hints=1.0)
    assert hinted.question == f"{SAMPLE.question}\nHint: a good answer may begin like this: I see one two"
    (most,) = apply("adapt_difficulty", curriculum=Known(1.0, response), hints=9.0, most=0.5)
    assert most.question.endswith("this: I see one two") and "B" not in most.question
    (easy,) = apply("adapt_difficulty", curriculum=Known(-0.4, response), noise=0.5, mask=0.5)
    (mask, masked), (noise, noisy) = effects(easy)
    assert (mask, noise) == ("mask_frames", "noise") and easy.question == SAMPLE.question
    assert masked["share"] == pytest.approx(0.2) and noisy["strength"] == pytest.approx(0.2)
    assert apply("adapt_difficulty", curriculum=Known(-0.4), noise=0.0) == [SAMPLE]


@pytest.mark.parametrize(
    ("changes", "outside"),
    [
        ({"task": "temporal_grounding", "answer": '{"time": [1, 2]}'}, [[1.0, 2.0]]),
        ({"task": "multiple_choice", "answer": "B", "extra": {"span": [3, 4]}}, [[3.0, 4.0]]),
        ({"task": "multiple_choice", "answer": "1 s to 2 s"}, None),  # reads like a span, and is none
    ],
)
def test_masks_of_easy_samples_spare_what_the_answer_is_about(changes, outside) -> None:
    (easy,) = apply("adapt_difficulty", replace(SAMPLE, **changes), curriculum=Known(-0.4), noise=0.0, mask=1.0)
    ((name, options),) = effects(easy)
    assert name == "mask_frames" and options["outside"] == outside and (options["inside"] is None) == bool(outside)


def test_an_easy_sample_about_time_without_a_span_is_refused() -> None:
    bare = replace(SAMPLE, task="temporal_grounding", answer="soon")
    with pytest.raises(DataError, match="the answer 'soon' has no span of time"):
        apply("adapt_difficulty", bare, curriculum=Known(-0.4), mask=1.0)
