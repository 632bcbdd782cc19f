"""Tubes frame by frame, against the authors' definition in terms of sets of frames."""

from __future__ import annotations

import json
import random

import pytest

from easyvideor1.benchmarks.readers.tube_frames import FrameTube, frame_ious, framed_tube, in_frames, tubes_by_frame
from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards.readers.tubes import Tube
from easyvideor1.types import Completion, Sample


def overlap(a, b):
    sides = [max(0.0, min(a[at + 2], b[at + 2]) - max(a[at], b[at])) for at in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def by_sets(predicted, gold):
    """vIoU and tIoU of mappings from frames to boxes."""
    every = set(range(min(*predicted, *gold), max(*predicted, *gold) + 1))
    shared = predicted.keys() & gold.keys()
    return sum(overlap(predicted[at], gold[at]) for at in shared) / len(every), len(shared) / len(every)


def test_ious_are_those_of_the_definition():
    draw = random.Random(5)
    for _ in range(200):
        sides = [(draw.randint(1, 40), draw.randint(1, 30)) for _ in range(2)]
        tubes = []
        for first, count in sides:
            corners = [(draw.uniform(0, 50), draw.uniform(0, 50)) for _ in range(count)]
            boxes = tuple((x, y, x + draw.uniform(20, 60), y + draw.uniform(20, 60)) for x, y in corners)
            tubes.append(FrameTube(first, boxes, 10.0))
        as_sets = [dict(enumerate(tube.boxes, start=tube.first)) for tube in tubes]
        assert frame_ious(*tubes) == pytest.approx(by_sets(*as_sets))


def test_boxes_move_evenly_between_seconds_and_stay_outside():
    tube = Tube((1.0, 3.0), {2.0: (0.0, 0.0, 10.0, 10.0), 3.0: (10.0, 0.0, 20.0, 10.0)})
    found = in_frames(tube, (1.0, 3.0), 4.0)
    assert (found.first, found.last) == (5, 13)
    assert found.boxes[0] == (0.0, 0.0, 10.0, 10.0) and found.boxes[4] == (0.0, 0.0, 10.0, 10.0)
    assert found.boxes[6] == (5.0, 0.0, 15.0, 10.0) and found.boxes[8] == (10.0, 0.0, 20.0, 10.0)
    assert in_frames(Tube((1.0, 1.5), {}), (1.0, 1.5), 4.0).boxes == (None, None, None)


def sample(**changes):
    """A person who walks 10 pixels a second to the right, in frames 11 to 31 of a video of 200 x 100 pixels."""
    boxes = [[at, 10, 20, 40] for at in range(10, 31)]
    answer, columns = framed_tube(11, boxes, 10.0, (200, 100), 20.0)
    return Sample("a", "Who walks?", "spatial_temporal_grounding", answer, extra={**columns, **changes})


def test_the_reference_itself_is_right_on_every_scale_that_a_run_asks_for():
    asked = sample()
    assert json.loads(asked.answer)["boxes"]["2"] == [20.0, 10.0, 40.0, 50.0]
    found = tubes_by_frame(RewardConfig())(asked, Completion(asked.answer, "stop"))
    assert (found.accuracy, found.parts["viou"], found.parts["tiou"]) == (1.0, 1.0, 1.0)
    thousand = {
        "time": [1, 3],
        "boxes": {"1": [50, 100, 150, 500], "2": [100, 100, 200, 500], "3": [150, 100, 250, 500]},
    }
    moved = tubes_by_frame(RewardConfig(coordinates="thousand"))(asked, Completion(json.dumps(thousand), "stop"))
    assert moved.parts["viou"] == pytest.approx(1.0)
    unmoved = tubes_by_frame(RewardConfig())(asked, Completion(json.dumps(thousand), "stop"))
    assert unmoved.accuracy < 0.5


def test_faults_of_a_response_are_0_and_cost_no_memory():
    score = tubes_by_frame(RewardConfig())
    for reply in (
        "",
        '{"boxes": {"1": [10, 10, 30, 50]}}',
        '{"time": [3, 1], "boxes": {"1": [10, 10, 30, 50]}}',
        '{"time": [1, 1e9], "boxes": {"1": [10, 10, 30, 50]}}',
        '{"time": [-1e9, -1e8], "boxes": {"1": [10, 10, 30, 50]}}',
    ):
        found = score(sample(), Completion(reply, "stop"))
        assert found.applicable and found.accuracy < 0.01, reply
