"""Scales of boxes and points: declared, checked, converted; what is on another scale is reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import ColumnError, Scorer, check_answer, score
from easyvideor1.rewards.readers.geometry import declared_scale, factors, off_scale, picture_size
from easyvideor1.types import DataError, Sample

SIZE = {"image_size": [640, 480]}


def boxed(*box: float) -> str:
    return f"<answer>{json.dumps({'boxes': list(box)})}</answer>"


@pytest.mark.parametrize(
    ("asked", "box", "row", "answer", "expected"),
    [
        # The upper half of the picture on every scale, against the whole of it in pixels of 640x480.
        ("normalized", (0, 0, 1, 0.5), {"coordinates": "pixel", **SIZE}, [0, 0, 640, 480], 0.5),
        ("thousand", (0, 0, 1000, 500), {"coordinates": "pixel", **SIZE}, [0, 0, 640, 480], 0.5),
        ("pixel", (0, 0, 640, 240), {"coordinates": "pixel", **SIZE}, [0, 0, 640, 480], 0.5),
        ("pixel", (0, 0, 640, 240), {"coordinates": "normalized", "width": 640, "height": 480}, [0, 0, 1, 1], 0.5),
        ("pixel", (0, 0, 640, 240), {"coordinates": "0-1000", "video_size": "[640, 480]"}, [0, 0, 1000, 1000], 0.5),
        ("thousand", (0, 0, 250, 1000), {"coordinates": "normalised"}, [0, 0, 0.5, 1], 0.5),
        # Only one of the two speaks: it speaks for both.
        (None, (0, 0, 1000, 500), {"coordinates": "thousand"}, [0, 0, 1000, 1000], 0.5),
        ("thousand", (0, 0, 1000, 500), {}, [0, 0, 1000, 1000], 0.5),
        ("pixel", (0, 0, 320, 240), {}, [0, 0, 640, 240], 0.5),
    ],
)
def test_both_sides_are_brought_to_one_scale(
    asked: Any, box: tuple[float, ...], row: dict[str, Any], answer: list[float], expected: float
) -> None:
    result = score("spatial", boxed(*box), {"boxes": answer}, asked_coordinates=asked, **row)
    assert result.applicable, result.reason
    assert result.accuracy == pytest.approx(expected)
    check_answer("spatial", {"boxes": answer}, row=row, coordinates=asked)


@pytest.mark.parametrize(
    ("scale", "box", "row", "side"),
    [
        ("normalized", (100, 100, 500, 500), {}, "answer"),
        ("thousand", (0.1, 0.1, 0.5, 0.5), {}, "answer"),
        ("thousand", (100, 100, 1900, 900), {}, "answer"),
        ("pixel", (0.1, 0.1, 0.5, 0.5), {}, "answer"),
        ("pixel", (100, 100, 900, 400), SIZE, "answer"),
        ("pixel", (100, 100, 400, 900), SIZE, "answer"),
    ],
)
def test_an_answer_on_another_scale_is_reported(scale: Any, box: Any, row: dict[str, Any], side: str) -> None:
    answer = {"boxes": {"normalized": [0, 0, 1, 1], "thousand": [9, 9, 900, 900], "pixel": [9, 9, 300, 300]}[scale]}
    masked = score("spatial", boxed(*box), answer, coordinates=scale, **row)
    assert (masked.applicable, masked.parts) == (False, {"scale_mismatch": 1.0})
    assert masked.reason.startswith(f"scale mismatch: the {side} is not on the declared scale")
    zero = score("spatial", boxed(*box), answer, coordinates=scale, scale_mismatch="zero", **row)
    assert (zero.applicable, zero.accuracy, zero.format) == (True, 0.0, 1.0)


def test_a_box_that_leaves_the_picture_a_little_is_a_box() -> None:
    result = score("spatial", boxed(0, 0, 1.04, 1), {"boxes": [0, 0, 1, 1]}, coordinates="normalized")
    assert result.accuracy == pytest.approx(1 / 1.04)


@pytest.mark.parametrize(
    ("row", "answer", "coordinates", "why"),
    [
        ({"coordinates": "normalized"}, [1, 2, 30, 40], None, "scale mismatch: the reference .*0-1"),
        ({"coordinates": "thousand"}, [1, 2, 3000, 40], None, "scale mismatch: the reference .*0-1000"),
        ({"coordinates": "pixel", **SIZE}, [1, 2, 3000, 40], None, "scale mismatch: the reference .*pixel"),
        ({}, [1, 2, 3000, 40], "thousand", "scale mismatch: the reference"),
    ],
)
def test_a_reference_on_another_scale_is_named_when_loaded_and_never_scored(
    row: dict[str, Any], answer: list[float], coordinates: Any, why: str
) -> None:
    reference = {"boxes": answer}
    with pytest.raises(DataError, match=why):
        check_answer("spatial", reference, row=row, coordinates=coordinates)
    for mismatch in ("mask", "zero"):
        result = score(
            "spatial", boxed(0, 0, 1, 1), reference, asked_coordinates=coordinates, scale_mismatch=mismatch, **row
        )
        assert not result.applicable
        assert "reference" in result.reason


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"coordinates": "metres"}, "coordinates"),
        ({"coordinates": 1}, "coordinates"),
        ({"coordinates": "pixel", "image_size": [640]}, "image_size"),
        ({"coordinates": "pixel", "image_size": [640, -1]}, "image_size"),
        ({"coordinates": "pixel", "video_size": "big"}, "video_size"),
    ],
)
def test_columns_that_say_no_scale_or_size_are_named(row: dict[str, Any], column: str) -> None:
    with pytest.raises(ColumnError) as caught:
        check_answer("spatial", {"boxes": [1, 2, 30, 40]}, row=row)
    assert caught.value.column == column
    result = score("spatial", boxed(0, 0, 9, 9), {"boxes": [1, 2, 30, 40]}, **row)
    assert not result.applicable
    assert column in result.reason


def test_pixels_cannot_be_converted_without_a_size() -> None:
    row = {"coordinates": "pixel"}
    check_answer("spatial", {"boxes": [1, 2, 30, 40]}, row=row)  # fine while the prompt asks for pixels too
    with pytest.raises(ColumnError, match="width, height"):
        check_answer("spatial", {"boxes": [1, 2, 30, 40]}, row=row, coordinates="thousand")
    result = score("spatial", boxed(10, 10, 90, 90), {"boxes": [1, 2, 30, 40]}, asked_coordinates="thousand", **row)
    assert not result.applicable
    assert "size" in result.reason


def test_tubes_tracks_and_segmentation_are_converted_too() -> None:
    row = {"coordinates": "pixel", "image_size": [200, 100]}
    track = '{"boxes": {"1": [0, 0, 500, 1000], "2": [0, 0, 1000, 1000]}}'
    truth = {"boxes": {"1": [0, 0, 100, 100], "2": [0, 0, 100, 100]}}
    result = score("tracking", f"<answer>{track}</answer>", truth, asked_coordinates="thousand", **row)
    assert result.accuracy == pytest.approx(0.75)
    tube = json.dumps({"time": [0, 2], **json.loads(track)})
    result = score("stvg", f"<answer>{tube}</answer>", {"time": [0, 2], **truth}, asked_coordinates="thousand", **row)
    assert result.accuracy == pytest.approx((1 + 0.75) / 2)
    prompts = {"boxes": [0, 0, 500, 1000], "positive_points": [[250, 500]]}
    near = {"boxes": [0, 0, 100, 100], "positive_points": [[50, 50]]}
    result = score("segmentation", f"<answer>{json.dumps(prompts)}</answer>", near, asked_coordinates="thousand", **row)
    assert result.parts == {"box_iou": 1.0, "positive_points": 1.0}


def test_points_on_a_mask_are_brought_to_its_pixels() -> None:
    # The middle four of 4x4 pixels, counted down the columns.
    mask = {"size": [4, 4], "counts": [5, 2, 2, 2, 5]}
    answer = {"boxes": [250, 250, 750, 750], "positive_points": [[500, 500]], "negative_points": [[900, 900]]}
    content = {"boxes": [0.25, 0.25, 0.75, 0.75], "positive_points": [[0.3, 0.7]], "negative_points": [[0.3, 0.3]]}
    result = score(
        "segmentation",
        f"<answer>{json.dumps(content)}</answer>",
        answer,
        asked_coordinates="normalized",
        coordinates="thousand",
        mask=mask,
    )
    assert result.parts == {"box_iou": 1.0, "positive_points": 1.0, "negative_points": 0.0}


def test_the_scorer_takes_the_scale_of_the_configuration_and_counts_mismatches() -> None:
    scorer = Scorer(RewardConfig(coordinates="thousand"))
    row = {"coordinates": "normalized"}
    sample = Sample("a", "?", "spatial_grounding", '{"boxes": [0, 0, 0.5, 0.5]}', extra=row)
    assert scorer(sample, boxed(0, 0, 500, 500)).accuracy == 1.0
    assert not scorer(sample, boxed(0, 0, 0.5, 0.5)).applicable
    ((task, reason),) = scorer.counts
    assert (task, scorer.counts[task, reason]) == ("spatial_grounding", 1)
    assert "0-1000" in reason


SIDES = st.floats(0.0, 1.0).map(lambda side: round(side, 3))


@settings(max_examples=200, deadline=None)
@given(
    corners=st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=2, max_size=2),
    scales=st.tuples(*[st.sampled_from(["normalized", "thousand", "pixel"])] * 2),
)
def test_overlap_does_not_depend_on_the_scales(corners: list[tuple[float, ...]], scales: tuple[Any, Any]) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    boxes = [box if box[2] > box[0] and box[3] > box[1] else (0.0, 0.0, 1.0, 1.0) for box in boxes]

    def on(scale: str, box: tuple[float, ...]) -> list[float]:
        across, down = {"normalized": (1.0, 1.0), "thousand": (1000.0, 1000.0), "pixel": (1920.0, 1080.0)}[scale]
        return [box[0] * across, box[1] * down, box[2] * across, box[3] * down]

    plain = score("spatial", boxed(*boxes[0]), {"boxes": list(boxes[1])}, coordinates="normalized")
    asked, stated = scales
    answer = {"boxes": on(stated, boxes[1])}
    if max(on(asked, boxes[0])) <= 1.0 < 1.5 <= {"normalized": 1, "thousand": 1000, "pixel": 1080}[asked]:
        return  # within the first pixel: taken for another scale
    if stated != "normalized" and max(answer["boxes"]) <= 1.0:
        return
    result = score(
        "spatial",
        boxed(*on(asked, boxes[0])),
        answer,
        asked_coordinates=asked,
        coordinates=stated,
        image_size=[1920, 1080],
    )
    assert result.applicable, result.reason
    assert result.accuracy == pytest.approx(plain.accuracy, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    content=st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3)),
        lambda inner: (
            st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["1", "2", "x"]), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    row=st.fixed_dictionaries(
        {
            "coordinates": st.sampled_from(["normalized", "thousand", "pixel", "other", 3, ["pixel"], None]),
            "image_size": st.sampled_from([None, [640, 480], "[4, 3]", [0, 0], [float("nan"), 1], {}, [1, [2]]]),
        }
    ),
    asked=st.sampled_from(["normalized", "thousand", "pixel", None]),
)
def test_no_boxes_and_no_columns_raise(content: Any, row: dict[str, Any], asked: Any) -> None:
    text = f'<answer>{{"time": [0, 1], "boxes": {json.dumps(content)}}}</answer>'
    references = {
        "spatial": {"boxes": [10, 10, 90, 90]},
        "tracking": {"boxes": {"1": [10, 10, 90, 90]}},
        "stvg": {"time": [0, 1], "boxes": {"1": [10, 10, 90, 90]}},
        "segmentation": {"boxes": [10, 10, 90, 90], "positive_points": [[20, 20]]},
    }
    for task, answer in references.items():
        result = score(task, text, answer, asked_coordinates=asked, **row)
        assert 0.0 <= result.accuracy <= 1.0
        assert result.applicable or result.reason


def test_the_pieces() -> None:
    assert declared_scale({}) is None
    assert declared_scale({"coordinates": " Pixels "}) == "pixel"
    assert picture_size({"width": 4, "height": 3}) == (4.0, 3.0)
    assert picture_size({"width": "4", "height": 3}) is None
    assert factors("normalized", "pixel", (200.0, 100.0)) == (200.0, 100.0)
    assert factors("pixel", "thousand", (200.0, 100.0)) == (5.0, 10.0)
    assert factors("pixel", "thousand", None) is None
    assert not off_scale([], "normalized", None)
    assert not off_scale([(0.0, 0.0)], "pixel", None)


def test_a_mask_says_how_large_its_picture_is() -> None:
    mask = {"size": [100, 200], "counts": [20000]}
    assert picture_size({"mask": mask}) == (200.0, 100.0)
    assert picture_size({"mask": json.dumps(mask)}) == (200.0, 100.0)
    assert picture_size({"mask": mask, "image_size": [50, 60]}) == (50.0, 60.0)
    assert picture_size({"mask": {"size": "large"}}) is None


@pytest.mark.parametrize("asked", [None, "normalized", "thousand", "pixel"])
@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"coordinates": "pixel", **SIZE}, [0, 0, 640, 240]),
        ({"coordinates": "thousand", **SIZE}, [0, 0, 1000, 500]),
        ({"coordinates": "normalized", **SIZE}, [0, 0, 1, 0.5]),
    ],
)
def test_box_tokens_are_on_a_thousand_whatever_was_asked(asked: Any, row: dict[str, Any], answer: list[float]) -> None:
    response = "<answer><|box_start|>(0,0),(1000,1000)<|box_end|></answer>"
    result = score("spatial", response, {"boxes": answer}, asked_coordinates=asked, **row)
    assert result.applicable, result.reason
    assert result.accuracy == pytest.approx(0.5)


def test_box_tokens_stay_as_they_are_where_no_scale_is_declared() -> None:
    response = "<answer><|box_start|>(0,0),(100,100)<|box_end|></answer>"
    assert score("spatial", response, {"boxes": [0, 0, 100, 50]}).accuracy == pytest.approx(0.5)


def test_box_tokens_cannot_be_used_to_be_left_out_of_the_score() -> None:
    response = "<answer><|box_start|>(0,0),(100,100)<|box_end|></answer>"
    result = score("spatial", response, {"boxes": [0, 0, 100, 50]}, coordinates="pixel")
    assert (result.applicable, result.accuracy) == (True, 0.0)
    assert "the size of its picture" in result.reason
