"""STVG-R1's recipe: its codec, reward and measures against numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.config.transforms import CustomTransform
from easyvideor1.data import resolve_transforms
from easyvideor1.data.transforms import TransformContext
from easyvideor1.recipes import stvg_r1
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import DataError, Effect, MediaRef, Sample
from easyvideor1.video.tracks import Track, Tracks, read_tracks, tracks_file

A, B = (0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0)  # IoU 50 / 150


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Target ID: 3, Time range: 2.5 to 7", (3, (2.5, 7.0))),
        (" target id: 12, time range: 0 to 0 ", (12, (0.0, 0.0))),
        ("Target ID: 3, Time range: 7 to 2.5", None),
        ("Target ID: three, Time range: 1 to 2", None),
        ("Target ID: 3, Time range: 1 to 2 or 4", None),
        ("3, 1 to 2", None),
        ("", None),
    ],
)
def test_answers_are_read_in_the_form_that_is_asked_for(text, read) -> None:
    assert stvg_r1.read_answer(text) == read
    if read is not None:
        assert stvg_r1.read_answer(stvg_r1.write_answer(*read)) == read


def test_overlaps_are_those_worked_out_by_hand() -> None:
    assert stvg_r1.box_iou(A, B) == pytest.approx(1 / 3)
    assert stvg_r1.box_iou(A, A) == 1.0 and stvg_r1.box_iou(A, (20.0, 0.0, 30.0, 10.0)) == 0.0
    assert stvg_r1.span_iou((1, 3), (2, 5)) == pytest.approx(1 / 4)
    assert stvg_r1.span_iou((1, 2), (3, 4)) == 0.0 and stvg_r1.span_iou((1, 1), (1, 1)) == 0.0


def tracks_of(*objects: tuple[int, dict]) -> Tracks:
    return Tracks(100, 100, 8, tuple(Track(number, "", boxes) for number, boxes in objects), 2.0)


def test_the_label_is_the_number_in_most_frames_and_changes_are_counted() -> None:
    truth = dict.fromkeys(range(6), A)
    far = (50.0, 50.0, 60.0, 60.0)
    one = {0: A, 1: A, 2: far, 5: A}
    tracks = tracks_of((4, one), (7, {2: A, 3: A, 4: B}), (9, dict.fromkeys(range(8), far)))
    assert stvg_r1.ids_on_target(tracks, truth) == [4, 4, 7, 7, 4]  # nothing lies on it in frame 4: IoU 1/3
    assert stvg_r1.majority_id(tracks, truth) == (4, 2)
    assert stvg_r1.majority_id(tracks, {2: A, 0: A}) == (4, 1)  # one frame each: the lower number
    assert stvg_r1.majority_id(tracks, {4: A}) == (None, 0)


def test_v_iou_is_the_mean_over_the_frames_of_both_spans() -> None:
    tracks = tracks_of((1, {0: A, 1: B, 2: A, 3: A}))
    truth = dict.fromkeys(range(1, 5), A)
    # 2 frames a second: the answer [0, 2) s has the frames 0-3, the truth [0.5, 2.5) s those of 1-4; both have 1, 2, 3.
    found = stvg_r1.v_iou(tracks, 1, (0, 2), truth, (0.5, 2.5))
    assert found == pytest.approx((1 / 3 + 1 + 1) / 5)
    assert stvg_r1.v_iou(tracks, 2, (0, 2), truth, (0.5, 2.5)) == 0.0
    with pytest.raises(DataError, match="have no fps"):
        stvg_r1.v_iou(replace(tracks, fps=None), 1, (0, 2), truth, (0.5, 2.5))


def test_the_reward_has_three_equal_terms(tmp_path) -> None:
    objects = [{"id": 1, "boxes": {"1": [*A], "2": [*A]}}, {"id": 2, "boxes": {"1": [*B], "2": [*B]}}]
    file = tmp_path / "a.tracks.json"
    file.write_text(json.dumps({"width": 50, "height": 50, "frames": 4, "fps": 1, "objects": objects}))
    video = MediaRef("video", "a.mp4", effects=(Effect("overlay_ids", files=(tracks_file(str(file)),)),))
    extra = {"target_id": 1, "span": [1, 3], "target_boxes": {"1": [*A], "2": [*A]}}
    sample = Sample("s", "?", "open_ended", "-", (video,), extra=extra)
    right = stvg_r1.reward(sample, "<think>x</think><answer>Target ID: 1, Time range: 1 to 3</answer>")
    assert (right.accuracy, right.format, right.total) == (1.0, 1.0, 1.0)
    assert right.parts == {"time_iou": 1.0, "right_id": 1.0, "v_iou": 1.0}
    other = stvg_r1.reward(sample, "<think>x</think><answer>Target ID: 2, Time range: 1 to 2</answer>")
    assert other.parts == {"time_iou": 0.5, "right_id": 0.0, "v_iou": pytest.approx(1 / 6)}
    assert (other.accuracy, other.total) == (0.25, 0.5)
    bare = stvg_r1.reward(sample, "<answer>Target ID: 1, Time range: 1 to 3</answer>")
    assert (bare.accuracy, bare.format, bare.total) == (1.0, 0.0, pytest.approx(2 / 3))
    none = stvg_r1.reward(sample, "<think>x</think><answer>1</answer>")
    assert none.total == 0.0 and set(none.parts) == set(right.parts)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("stvg")
    spec = {"seed": 31, "bodies": (2, 3), "image_share": 0.0, "bare_share": 0.0, "kinds": ("tube",)}
    write_world(WorldSpec(train=9, validation=0, test=2, **spec), root / "world")
    stvg_r1.write_toy(root)
    return root / "world"


def asked(world, row: dict) -> Sample:
    """The row as ``data.prepare`` of the recipe makes it."""
    media = (MediaRef("video", str(world / row["videos"][0])),)
    fields = {key: row[key] for key in ("span", "target_boxes")}
    sample = Sample("s", row["problem"], "open_ended", row["answer"], media, extra=fields)
    for transform in resolve_transforms(load_config("stvg_r1").data.prepare[1:]):
        (sample,) = transform(sample, 0, np.random.default_rng(0), TransformContext(None))
    return sample


def test_the_toy_tracker_agrees_with_the_traces_and_bounds_v_iou(toy) -> None:
    rows = [json.loads(line) for line in (toy / "stvg-train.jsonl").read_text().splitlines()]
    samples = [asked(toy, row) for row in rows]
    for row, sample in zip(rows, samples, strict=True):
        score = stvg_r1.reward(sample, row["offline_output"])
        assert (score.accuracy, score.format) == (1.0, 1.0) and sample.answer in row["offline_output"]
        assert sample.extra["answer_example"] in ("Target ID: 3, Time range: 2.5 to 7",)
        tracks = read_tracks(sample.media[0].effects[0].files[0])
        truth = stvg_r1.true_boxes(sample)
        kept = sum(frame in tracks.of(sample.extra["target_id"]).boxes for frame in truth)
        assert score.parts["v_iou"] == pytest.approx(kept / len(truth))
    switches = [sample.extra["id_switches"] for sample in samples]
    assert switches == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_rows_without_what_they_need_are_named(toy) -> None:
    row = json.loads((toy / "stvg-test.jsonl").read_text().splitlines()[0])
    with pytest.raises(DataError, match="'target_boxes' does not hold boxes by frame"):
        asked(toy, {**row, "target_boxes": {"0": [1, 2]}})
    with pytest.raises(DataError, match=r"no track of .* lies on the target"):
        asked(toy, {**row, "target_boxes": {"0": [0, 0, 1, 1]}})
    ask = CustomTransform.model_validate({"name": "easyvideor1.recipes.stvg_r1:ask_target", "boxes": "mine"})
    with pytest.raises(DataError, match="it has no video"):
        (transform,) = resolve_transforms([ask])
        transform(Sample("s", "?", "open_ended", "-"), 0, np.random.default_rng(0), TransformContext(None))
