"""PRIMO R1's recipe: its rewards against numbers worked out by hand, its toy task, and its anchors."""

from __future__ import annotations

import numpy as np
import pytest

from easyvideor1.components import Components
from easyvideor1.config import load_config
from easyvideor1.data import resolve_transforms
from easyvideor1.data.transforms import TransformContext
from easyvideor1.recipes import primo_r1
from easyvideor1.rewards import Scorer
from easyvideor1.toyworld.encode import write_video
from easyvideor1.types import Geometry, MediaRef, Sample, Score

SAMPLE = Sample("s", "<video>\n?", "regression", "40", (MediaRef("video", "/a.mp4"),))


def response(answer: str) -> str:
    tags = "<planning>a</planning><observation>b</observation><reasoning>c</reasoning>"
    return f"<think>{tags}</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("answer", "accuracy", "error"),
    [("40", 1.0, 0), ("50", 0.9, 10), ("15", 0.75, 25), ("50%", 0.9, 10), ("0.5", 0.605, 39.5), ("240", 0.0, 100)],
)
def test_the_reward_falls_linearly(answer, accuracy, error) -> None:
    found = primo_r1.reward(SAMPLE, response(answer))
    assert found.accuracy == pytest.approx(accuracy) and found.parts["error"] == pytest.approx(error)
    assert found.format == 1.0 and found.total == pytest.approx((accuracy + 1) / 2)


@pytest.mark.parametrize("answer", ["", "about half", "<answer>"])
def test_a_response_without_a_number_has_the_largest_error(answer) -> None:
    found = primo_r1.reward(SAMPLE, response(answer))
    assert (found.total, found.parts) == (0.0, {"error": 100.0}) and found.reason


def test_tags_out_of_order_are_no_format() -> None:
    swapped = response("40").replace("planning", "x").replace("reasoning", "planning").replace("x", "reasoning")
    found = primo_r1.reward(SAMPLE, swapped)
    assert (found.accuracy, found.format, found.total) == (1.0, 0.0, 0.5)


def test_the_length_bonus_looks_at_the_group() -> None:
    def bonus(*pairs):
        texts = ["x" * length for length, _ in pairs]
        scores = [Score(accuracy, 1.0, accuracy) for _, accuracy in pairs]
        return primo_r1.group_length_bonus(SAMPLE, texts, scores, shortest=10, longest=20, least=0.1)

    assert bonus((15, 0.9), (10, 0.2), (20, 0.1), (9, 1.0), (21, 1.0)) == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert bonus((15, 0.9), (30, 0.9)) == [0.0, 0.0]  # one alone gets nothing
    masked = [Score(0.9, 1.0, 0.9), Score(0.0, 0.0, 0.0, applicable=False, reason="r"), Score(0.9, 1.0, 0.9)]
    found = primo_r1.group_length_bonus(SAMPLE, ["x" * 15] * 3, masked, shortest=10, longest=20, least=0.1)
    assert found == [1.0, None, 1.0]


def test_the_recipe_weighs_the_bonus_as_the_released_code() -> None:
    scorer = Scorer(load_config("primo_r1").rewards)
    long = response("40").replace(">a<", f">{'a' * 60}<")
    short, both = scorer.score_group(SAMPLE, [response("40"), response("50")]), scorer.score_group(SAMPLE, [long, long])
    assert 120 <= len(long) <= 320 and len(response("40")) < 120
    gap = short[0].total - short[1].total  # 0.1 of accuracy + format, which are 2 together
    assert (both[0].total - short[0].total) / gap == pytest.approx(0.2 / 0.1)


def test_failures_turn_back_and_others_do_not() -> None:
    for number in range(30):
        shares = primo_r1.ways(number, np.random.default_rng(number))
        assert len(shares) == 8 and shares[0] == 0.0 and shares.min() >= 0 and shares.max() <= 1
        if number % 3:
            assert (np.diff(shares) > 0).all()
        else:
            assert shares.max() >= 0.5 > 0.3 >= shares[-1]
            assert np.abs(np.diff(shares)).sum() > shares[-1] + 0.4  # much motion, little progress


def test_rows_hold_what_the_clip_shows_and_traces_score_fully() -> None:
    shares = primo_r1.ways(0, np.random.default_rng(0))
    row = primo_r1._row("train", 0, "a.mp4", shares, "red", "blue")
    assert row["failed"] and row["answer"] == str(round(100 * shares[-1])) and "turned back" in row["offline_output"]
    sample = Sample("s", row["problem"], "regression", row["answer"])
    assert primo_r1.reward(sample, row["offline_output"]).total == 1.0
    assert 120 <= len(row["offline_output"]) <= 320


def test_anchors_are_frames_of_the_one_entry_of_their_clip(tmp_path) -> None:
    frames = list(primo_r1._frames(np.linspace(0, 1, 8), "red", "blue", 30.0, leftwards=False))
    write_video(tmp_path / "a.mp4", frames, fps=4.0)
    config = load_config("primo_r1", [f"cache.dir={tmp_path}/frames", "cache.workers=1"])
    sample = Sample("s", "<video>\n?", "regression", "40", (MediaRef("video", str(tmp_path / "a.mp4")),))
    (anchors,) = resolve_transforms(config.data.prepare)
    (made,) = anchors(sample, 0, np.random.default_rng(0), TransformContext(None))
    assert made.question == "<image><video><image>\n?"
    with Components.open(config, geometry=Geometry()) as components:
        plans = [components.plan(ref) for ref in made.media]
        first, clip, current = (components.load(ref, plan).pixels for ref, plan in zip(made.media, plans, strict=True))
        assert list(components.store.entries()) == [plans[1].digest]
    np.testing.assert_array_equal(first[0], clip[0])
    np.testing.assert_array_equal(current[0], clip[-1])
    assert [(plan.kind, plan.tokens) for plan in plans] == [("image", 4), ("video", 16), ("image", 4)]
