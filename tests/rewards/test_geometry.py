"""Overlaps and the matching against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from easyvideor1.rewards.readers.geometry import best_matching, box_iou, scales_differ, span_iou
from easyvideor1.rewards.readers.json_answers import find_json
from easyvideor1.rewards.tasks.segmentation import decode_rle


def test_the_matching_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows, columns = rng.integers(1, 6, size=2)
        scores = rng.choice([0.0, 0.25, 0.5, rng.random()], size=(rows, columns))
        wide = scores if rows <= columns else scores.T
        best = max(
            sum(wide[row, column] for row, column in enumerate(chosen))
            for chosen in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert best_matching(scores.tolist()) == pytest.approx(best)


def test_overlaps() -> None:
    assert span_iou((0, 10), (5, 15)) == pytest.approx(1 / 3)
    assert span_iou((0, 1), (2, 3)) == span_iou((1, 1), (1, 1)) == 0.0
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0.0


def test_the_last_object_between_words_is_read() -> None:
    assert find_json('{"a": 1} no, {"a": 2} {broken') == {"a": 2}
    assert find_json("{" * 1000) is None
    assert find_json("[" * 100_000) is None


def test_scales() -> None:
    assert scales_differ([0.1, 0.9], [10, 500])
    assert scales_differ([10, 500], [0.1, 0.9])
    assert not scales_differ([0, 0, 0, 0], [10, 500])
    assert not scales_differ([3, 4], [10, 500])


def test_packed_and_plain_run_lengths_are_the_same_mask() -> None:
    mask = decode_rle({"size": [4, 4], "counts": [5, 2, 2, 2, 5]})
    assert mask.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    # 5, 2, 2, then differences to two before: 2 - 2 = 0, 5 - 2 = 3; each below 16, so one character from "0" on.
    assert np.array_equal(decode_rle({"size": [4, 4], "counts": "52203"}), mask)
    # 100 needs two characters: 100 & 31 = 4 with the continuation bit (4 + 32 + 48 = "T"), then 3.
    assert decode_rle({"size": [10, 11], "counts": "T3:"}).sum() == 10


@pytest.mark.parametrize(
    "rle",
    [None, {}, {"size": [4, 4], "counts": [1]}, {"size": [4, 4], "counts": "~~~"}, {"size": [1 << 20, 1 << 20]}],
)
def test_broken_masks_are_refused(rle: object) -> None:
    with pytest.raises(ValueError, match="mask"):
        decode_rle(rle)
