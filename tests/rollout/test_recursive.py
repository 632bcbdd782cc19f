"""One question at successive moments: which frames are shown, and what is told of the turn before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easyvideor1.config import load_config
from easyvideor1.config.strategies import RecursiveOptions
from easyvideor1.types import DataError
from tiny import make_plan

from .turns import asked, opened, prompt_builder, run

pytestmark = pytest.mark.model


def test_values_are_told_to_the_next_turn_and_carried_on(tiny_family) -> None:
    sample, plans = asked("<video>How far is the square?", make_plan("video", frames=10))
    strategy = opened(prompt_builder(tiny_family, plans), "recursive", steps=4)
    said = ["<answer>20</answer>", "no idea", "<answer>250</answer>", "<answer>80.5</answer>"]
    found = run(strategy, sample, said)
    views = [[plan.frame_indices for plan in turn.prompt.plans] for turn in found.turns]
    assert views == [[(0,), (0,), (2,)], [(0,), (2,), (4,)], [(0,), (4,), (7,)], [(0,), (7,), (9,)]]
    told = [turn.prompt.text.partition("view was ")[2].partition(".\n")[0] for turn in found.turns]
    assert told == ["0", "20", "20", "20"]
    assert strategy.strategy.values(found) == [20.0, 20.0, 20.0, 80.5]
    assert strategy.counts(sample, found) == {"carried": 2.0}
    assert all("How far is the square?" in turn.prompt.text for turn in found.turns)
    assert "Current view, at 1.0 seconds: <image>" in found.turns[0].prompt.text
    assert found.last.prompt.token_ids[:20].tolist() == found.prompt.token_ids[:20].tolist(), "one system message"


@pytest.mark.parametrize(("frames", "turns"), [(2, 1), (4, 3), (40, 4)])
def test_a_short_video_has_fewer_turns(tiny_family, frames, turns) -> None:
    sample, plans = asked("<video>How far?", make_plan("video", frames=frames))
    strategy = opened(prompt_builder(tiny_family, plans), "recursive", steps=4, views=("previous", "current"))
    found = run(strategy, sample, ["<answer>1</answer>"] * turns)
    assert {len(turn.prompt.plans) for turn in found.turns} == {2}
    assert found.last.prompt.plans[1].frame_indices == (frames - 1,), "the last frame is seen"


def test_a_plan_that_repeats_frames_is_seen_to_its_end(tiny_family) -> None:
    indices = (0, 1, 1, 2, 2, 3, 3, 4)
    plan = replace(make_plan("video", frames=8), frame_indices=indices, timestamps=tuple(map(float, indices)))
    sample, plans = asked("<video>How far?", plan)
    strategy = opened(prompt_builder(tiny_family, plans), "recursive", steps=4, views=("current",))
    found = run(strategy, sample, ["<answer>1</answer>"] * 4)
    assert [turn.prompt.plans[0].frame_indices for turn in found.turns] == [(1,), (2,), (3,), (4,)]


def test_what_contradicts_itself_is_refused(tiny_family) -> None:
    for options, words in (
        ({"start": 120.0}, "start"),
        ({"low": 5.0, "high": 1.0}, "low"),
        ({"views": ("first",)}, "views needs current"),
    ):
        with pytest.raises(ValueError, match=words):
            RecursiveOptions(name="recursive", **options)
    with pytest.raises(DataError, match="asks about a video"):
        opened(prompt_builder(tiny_family, {}), "recursive").start(asked("How far?")[0])


def test_views_are_read_from_a_configuration() -> None:
    chosen = load_config("quickstart", ["rollout.strategy={name: recursive, views: [first, current]}"])
    assert chosen.rollout.strategy.views == ("first", "current")
