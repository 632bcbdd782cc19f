"""What is drawn lies where the numbers of the answer say, worked out here by hand."""

import re
from dataclasses import replace

import pytest

from easyvideor1.evaluation.benchmark_report.drawing import reference_marks, time_bar
from easyvideor1.viewer.group_view import group_view
from easyvideor1.viewer.overlay import Layer, overlays

from .runs import group, said, scored

NUMBER = r"(-?[\d.]+)"


def boxes(svg):
    """``(classes, x, y, width, height)`` of every box, in shares of the drawing."""
    across, down = (float(one) for one in re.search(rf'viewBox="0 0 {NUMBER} {NUMBER}"', svg).groups())
    found = []
    for classes, content in re.findall(r'<g class="([^"]+)">(.*?)</g>', svg):
        for x, y, w, h in re.findall(rf'<rect x="{NUMBER}" y="{NUMBER}" width="{NUMBER}" height="{NUMBER}"/>', content):
            found.append((classes, float(x) / across, float(y) / down, float(w) / across, float(h) / down))
    return found


def asked(task, answer, measures=None, **values):
    return group(0, [said("x")], task=task, answer=answer, options=(), measures=measures or {}, **values)


def test_a_box_in_pixels_lies_where_its_pixels_are():
    record = asked(
        "spatial_grounding", '{"boxes": [320, 90, 480, 270]}', {"coordinates": "pixel", "image_size": [640, 360]}
    )
    (drawn,) = overlays([Layer("truth", "ref", reference_marks(record, None))], (None,), 320, 180)
    ((classes, x, y, w, h),) = boxes(drawn.svg)
    assert classes == "truth"
    assert (x, y, w, h) == pytest.approx((320 / 640, 90 / 360, 160 / 640, 180 / 360), abs=2e-3)


@pytest.mark.parametrize(
    ("scale", "box"), [("thousand", [250, 500, 750, 1000]), ("normalized", [0.25, 0.5, 0.75, 1.0])]
)
def test_other_scales(scale, box):
    record = asked("spatial_grounding", f'{{"boxes": {box}}}', {"coordinates": scale})
    (drawn,) = overlays([Layer("truth", "ref", reference_marks(record, None))], (None,), 400, 300)
    ((_, x, y, w, h),) = boxes(drawn.svg)
    assert (x, y, w, h) == pytest.approx((0.25, 0.5, 0.5, 0.5), abs=2e-3)


def test_a_box_in_pixels_of_an_unknown_picture_is_not_drawn_and_said():
    record = asked("spatial_grounding", '{"boxes": [320, 90, 480, 270]}', {"coordinates": "pixel"})
    marks = reference_marks(record, None)
    assert "size of the picture is not recorded" in marks.note
    assert overlays([Layer("truth", "ref", marks)], (None,), 320, 180)[0].svg == ""


def test_a_track_is_on_the_frames_of_its_seconds():
    record = asked(
        "tracking", '{"boxes": {"1": [0, 0, 100, 100], "2": [500, 0, 600, 100]}}', {"coordinates": "thousand"}
    )
    drawn = overlays([Layer("truth", "ref", reference_marks(record, None))], (0.0, 1.0, 2.0, 3.0), 100, 100)
    assert [len(boxes(one.svg)) if one.svg else 0 for one in drawn] == [0, 1, 1, 0]
    ((_, x, _, w, _),) = boxes(drawn[2].svg)
    assert (x, w) == pytest.approx((0.5, 0.1), abs=2e-3)
    points = re.search(r'class="track" points="([^"]+)"', drawn[2].svg)[1].split()
    assert [tuple(map(float, point.split(","))) for point in points] == [(50.0, 50.0), (550.0, 50.0)]
    assert "track" not in drawn[1].svg


def test_points_of_a_segmentation_are_inside_and_outside():
    answer = (
        '{"boxes": [100, 100, 300, 500], "positive_points": [[200, 300]], "negative_points": [[900, 50]], "time": 2}'
    )
    record = asked("segmentation", answer, {"coordinates": "thousand"})
    drawn = overlays([Layer("truth", "ref", reference_marks(record, None))], (0.0, 2.0), 200, 100)
    assert drawn[0].svg == ""
    dots = re.findall(rf'<circle class="(\w+)" cx="{NUMBER}" cy="{NUMBER}"', drawn[1].svg)
    assert [(kind, float(x) / 1000, float(y) / 500) for kind, x, y in dots] == [
        ("inside", pytest.approx(0.2), pytest.approx(0.3)),
        ("outside", pytest.approx(0.9), pytest.approx(0.05)),
    ]


def test_several_boxes_have_ids_of_their_own():
    record = asked("spatial_grounding", '{"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]]}', {"coordinates": "thousand"})
    (drawn,) = overlays([Layer("s0", "3", reference_marks(record, None))], (None,), 100, 100)
    assert re.findall(r"<text[^>]*>([^<]+)</text>", drawn.svg) == ["3.1", "3.2"]


def test_spans_lie_on_the_axis_of_the_video(tmp_path):
    record = asked("temporal_grounding", '{"time": [2, 4]}', {"duration": 10.0})
    bar = time_bar(record, [("reference", "truth", reference_marks(record, None))])
    x, width = re.search(rf'<rect class="truth" x="{NUMBER}" y="8" width="{NUMBER}"', bar.lanes[0].svg).groups()
    assert (float(x), float(width)) == (pytest.approx(20.0), pytest.approx(20.0))


def test_answers_are_drawn_as_they_were_scored(tmp_path):
    """The prompt asked for 0-1000 and the row has pixels: the answer is on the scale that the run's settings name."""
    (tmp_path / "config.yaml").write_text("rewards: {coordinates: thousand}\n")
    text = '<answer>{"boxes": [500, 500, 1000, 1000]}</answer>'
    parsed = "((500.0, 500.0, 1000.0, 1000.0),)"
    replies = [said(text, 1.0, score=scored(1.0, parsed)), said(text, 1.0, score=scored(1.0, "something else"))]
    record = asked(
        "spatial_grounding",
        '{"boxes": [320, 180, 640, 360]}',
        {"coordinates": "pixel", "image_size": [640, 360]},
        trajectories=tuple(replies),
        media=media(),
    )
    view = group_view(tmp_path, record)
    found = boxes(view.drawings[0][0].svg)
    assert sorted(classes for classes, *_ in found) == ["s0 r0", "truth"]  # what cannot be read as it was is left out
    assert found[0][1:] == pytest.approx(found[1][1:], abs=2e-3)
    assert [reply.located for reply in view.replies] == [True, False]


def media():
    from easyvideor1.records.trajectories import MediaRecord

    return (MediaRecord("image", "a.png", "0" * 64, (0,), (), 180, 320),)


def test_a_box_lies_on_the_one_medium_that_it_can_be_of(tmp_path):
    (image,) = media()
    other = replace(image, path="b.png")
    video = replace(image, kind="video", path="c.mp4", frame_indices=(0, 30), timestamps=(1.0, 2.0))
    still = asked("spatial_grounding", '{"boxes": [250, 500, 750, 1000]}', {"coordinates": "thousand"})
    moving = asked("tracking", '{"boxes": {"1": [0, 0, 100, 100]}}', {"coordinates": "thousand"})
    for record, shown, drawn in (
        (still, (image,), [1]),
        (still, (image, other), [0, 0]),  # on which of them is not known
        (still, (image, image), [1, 1]),  # the same picture twice
        (moving, (image, video), [0, 1]),
        (moving, (video, replace(video, path="d.mp4")), [0, 0]),
    ):
        view = group_view(tmp_path, replace(record, media=shown))
        assert [bool(frames[0].svg) for frames in view.drawings] == [bool(one) for one in drawn]
        assert any("several media" in note for note in view.notes) == (not any(drawn))
