"""References in frames become references in seconds."""

import json

import pytest

from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.tubes import in_gold, tube_in_seconds


def test_a_box_for_every_whole_second():
    boxes = {str(frame): [frame, 0, 10, 20] for frame in range(14, 56)}
    # 15 to 55 frames at 25 frames a second are 0.6 to 2.2 s: the whole seconds are 1 and 2.
    found = json.loads(tube_in_seconds([15, 55], boxes, 25))
    assert found == {"time": [0.6, 2.2], "boxes": {"1": [25, 0, 35, 20], "2": [50, 0, 60, 20]}}
    # At 29.97 frames a second, second 1 is nearest to frame 30.
    assert json.loads(tube_in_seconds([15, 55], boxes, 29.97))["boxes"] == {"1": [30, 0, 40, 20]}
    assert json.loads(tube_in_seconds([15, 24], boxes, 25)) == {"time": [0.6, 0.96], "boxes": {}}


@pytest.mark.parametrize(
    ("span", "boxes", "fps", "words"),
    [
        ([15, 55], {}, None, "None frames per second say no time"),
        ([15, 55], {}, 0, "0 frames per second say no time"),
        ([55, 15], {}, 25, "is not a first and a last frame"),
        ([15], {}, 25, "is not a first and a last frame"),
        (["a", 55], {}, 25, "is not a first and a last frame"),
        ([15, 55], {"25": [1, 2, 3]}, 25, "is not x, y, width and height"),
        ([15, 55], {"25": [1, 2, 3, None]}, 25, "is not x, y, width and height"),
    ],
)
def test_what_is_no_tube_is_refused(span, boxes, fps, words):
    with pytest.raises(QuestionError, match=words):
        tube_in_seconds(span, boxes, fps)


def test_whether_a_reference_has_boxes():
    says = in_gold("gold")
    assert says({"gold": '<answer>{"time": [0, 2], "boxes": {"1": [0, 0, 9, 9]}}</answer>'}) == "yes"
    assert says({"gold": '{"time": [0.2, 0.8], "boxes": {}}'}) == "no"
    for bad in ('{"time": [2, 0], "boxes": {"1": [0, 0, 9, 9]}}', '{"time": [0, 2], "boxes": {}}', "{"):
        with pytest.raises(QuestionError, match="cannot be used"):
            says({"gold": bad})
