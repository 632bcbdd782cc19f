"""When, then where: which frames the second turn shows, and what follows a bad span."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easyvideor1.config import PromptConfig, RewardConfig
from easyvideor1.data import prompt_text
from easyvideor1.rollout.turn_texts import seconds_text
from easyvideor1.types import DataError, TurnError
from tiny import make_plan

from .turns import asked, opened, prompt_builder, run

pytestmark = pytest.mark.model

BOX = '<answer>{"boxes":[1,2,3,4]}</answer>'


def turns(family, spans: str, responses: int = 2, **options):
    """Both turns of a trajectory whose first response is ``spans``; frames come twice a second."""
    plan = make_plan("video", frames=8)
    sample, plans = asked("<video>Where is the red circle?", plan, name="red circle")
    strategy = opened(prompt_builder(family, plans), "span_then_frames", **options)
    found = run(strategy, sample, [spans, BOX][:responses])
    return found, strategy.counts(sample, found)


@pytest.mark.parametrize(
    ("said", "frames", "shown"),
    [
        ('<answer>{"time":[1,3]}</answer>', 1, [4]),
        ("<answer>1s to 3s</answer>", 2, [3, 5]),
        ("from 1 to 3 seconds", 9, [2, 3, 4, 5, 6]),
        ("<answer>[1.1, 1.2]</answer>", 1, [2]),  # between two frames: the nearest
        ("<answer>[3, 99]</answer>", 1, [7]),  # cut to the video
    ],
)
def test_frames_lie_in_the_span(tiny_family, said, frames, shown) -> None:
    found, counts = turns(tiny_family, said, frames=frames)
    first, second = found.turns
    assert [plan.frame_indices[0] for plan in second.prompt.plans[1:]] == shown
    assert {plan.kind for plan in second.prompt.plans[1:]} == {"image"} and counts == {"bad_span": 0.0}
    assert f"at {seconds_text(n / 2 for n in shown)} seconds" in second.prompt.text
    begun = [*first.prompt.token_ids, *first.response_ids]
    assert second.prompt.token_ids[: len(begun)].tolist() == begun, "the second turn continues the first"
    assert second.prompt.plans[0] is first.prompt.plans[0]


def test_frames_that_a_plan_repeats_count_once(tiny_family) -> None:
    """The processor of Qwen3-VL makes eight frames of five, and repeats some between."""
    plan = make_plan("video", frames=8)
    indices = (0, 1, 1, 2, 2, 3, 3, 4)
    plan = replace(plan, frame_indices=indices, timestamps=tuple(map(float, indices)))
    sample, plans = asked("<video>Where?", plan)
    strategy = opened(prompt_builder(tiny_family, plans), "span_then_frames", frames=9)
    found = run(strategy, sample, ["<answer>[3, 4]</answer>", BOX])
    assert [shown.frame_indices[0] for shown in found.last.prompt.plans[1:]] == [3, 4]
    assert [shown.timestamps[0] for shown in found.last.prompt.plans[1:]] == [3.0, 4.0]


@pytest.mark.parametrize("said", ["I do not know", "<answer>[9, 12]</answer>", "<answer>[3, 1]</answer>"])
def test_a_bad_span_takes_the_middle_or_ends(tiny_family, said) -> None:
    found, counts = turns(tiny_family, said)
    assert [plan.frame_indices for plan in found.last.prompt.plans[1:]] == [(4,)] and counts == {"bad_span": 1.0}
    found, counts = turns(tiny_family, said, responses=1, on_bad_span="end")
    assert len(found.turns) == 1 and counts == {"bad_span": 1.0}


def test_the_second_turn_may_be_fresh_and_show_a_video(tiny_family) -> None:
    found, _ = turns(tiny_family, "<answer>[1, 3]</answer>", conversation=False, show="video")
    assert [(plan.kind, plan.frame_indices) for plan in found.last.prompt.plans] == [("video", (4, 4))]
    begun = len(found.prompt)
    assert found.last.prompt.token_ids[:begun].tolist() != found.prompt.token_ids.tolist()


def test_messages_are_templates_of_the_row_and_each_turn_asks_for_its_own_form(tiny_family) -> None:
    plan = make_plan("video", frames=8)
    sample, plans = asked("<video>Find it.", plan, name="red circle", task="spatial_temporal_grounding")

    def text(asked_sample) -> str:
        return prompt_text(asked_sample, PromptConfig(), RewardConfig())

    options = {"span_question": "When is the {name} seen?", "frame_question": "{question} Box of the {name}."}
    strategy = opened(prompt_builder(tiny_family, plans, text), "span_then_frames", conversation=False, **options)
    first, second = run(strategy, sample, ["<answer>[0, 1]</answer>", BOX]).turns
    assert "When is the red circle seen?" in first.prompt.text and '"time"' in first.prompt.text
    assert "Find it. Box of the red circle." in second.prompt.text and '"boxes"' in second.prompt.text
    broken = opened(prompt_builder(tiny_family, plans), "span_then_frames", frame_question="At {second}")
    with pytest.raises(TurnError, match=r"turn 2: the message 'At \{second\}' .* it may use question, seconds, name"):
        run(broken, sample, ["<answer>[0, 1]</answer>", BOX])
    with pytest.raises(DataError, match="asks about a video, and there is none"):
        opened(prompt_builder(tiny_family, {}), "span_then_frames").start(asked("What?")[0])
