"""Scene-R1's recipe: rewards of both turns, and a box that is lifted to space, against numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.recipes.scene_r1 import Camera, depth_map, foreground, iou_3d, lift, reward, two_turns
from easyvideor1.rewards import Scorer
from easyvideor1.rollout.strategies import PromptBuilder, open_strategy
from easyvideor1.toyworld.scene import Body, Scene, frame_times
from easyvideor1.types import MediaRef, Prompt, Sample, Trajectory, Turn
from tiny import make_plan

SCENE = Scene(
    64, 64, 2.0, 4.0, frame_times(2.0, 4.0), (Body("square", "red", 16.0, 24.0, 32.0, "right", 8.0, 0.5, 1.5),)
)


def row(trace: str = "") -> dict:
    return two_turns(
        {"problem_id": "a", "videos": ["a.mp4"], "offline_output": trace}, json.loads(json.dumps(SCENE.as_json()))
    )


def sample() -> Sample:
    made = row()
    extra = {name: made[name] for name in ("name", "coordinates", "box_scale", "depth")}
    return Sample("a", made["problem"], "spatial_temporal_grounding", made["answer"], extra=extra)


def said(*turns: tuple[str, str]) -> Trajectory:
    """Turns of a prompt and a response."""
    ids = np.arange(2)
    made = [Turn(Prompt(ids, text=asked), ids, ids > -1, None, "stop", text) for asked, text in turns]
    return Trajectory(tuple(made))


def test_a_row_has_the_track_of_the_frames_that_show_it() -> None:
    """At 0.5 s the square of 16 pixels is centred on (28, 32): 20..36 and 24..40 of 64."""
    answer = json.loads(row()["answer"])
    assert answer["time"] == [0.5, 1.5] and sorted(answer["boxes"]) == ["0.5", "0.75", "1", "1.25"]
    assert answer["boxes"]["0.5"] == [round(v / 64 * 1000) for v in (20, 24, 36, 40)]
    assert row()["depth"] == 4.0, "64 pixels of focal length, one metre, 16 pixels"


def test_a_trace_has_the_box_of_the_frame_that_its_span_leads_to(tiny_family) -> None:
    """Frames come four times a second: the strategy's choice is made by itself, on the row's own trace."""
    span = '<answer>{"time":[0.5,1.5]}</answer>'
    made = row(span)
    plan = replace(make_plan("video", frames=8, fps=4.0), timestamps=SCENE.times)
    named = replace(sample(), media=(MediaRef("video", "a.mp4"),))
    prompts = PromptBuilder(lambda s: None, tiny_family, lambda ref: plan)  # type: ignore[arg-type]
    strategy = open_strategy(load_config("scene_r1").rollout.strategy, prompts, 4096)
    asked = strategy.next(named, said(("When?", span)))
    assert asked is not None and asked.plans[0].timestamps == (1.0,)
    assert made["offline_output"]["before"] == [span]
    box = json.loads(made["answer"])["boxes"]["1"]
    assert made["offline_output"]["text"].endswith(
        f'<answer>{{"boxes":{json.dumps(box, separators=(",", ":"))}}}</answer>'
    )
    assert not row()["has_offline_trajectory"]


def test_each_turn_earns_its_own_reward() -> None:
    """Half of the span, and a box of half the width: IoU 0.5 each, 0.9 of it for accuracy and 0.1 for the format."""
    x1, y1, x2, y2 = json.loads(row()["answer"])["boxes"]["0.75"]
    half = f'<answer>{{"boxes":[{x1},{y1},{(x1 + x2) // 2},{y2}]}}</answer>'
    span = '<answer>{"time":[0.5,1.0]}</answer>'
    asked = "This frame was taken at 0.8 seconds. Give the box."
    score = reward(sample(), half, said(("When?", span), (asked, half)))
    assert score.turns == pytest.approx((0.55, 0.55), abs=2e-3)
    assert score.parts["tiou"] == pytest.approx(0.5) and score.parts["box_iou"] == pytest.approx(0.5, abs=4e-3)
    # The half box holds eight of sixteen columns of pixels, all of them of the shape: half of its volume.
    assert score.parts["iou_3d"] == pytest.approx(0.5, abs=0.04)
    absent = reward(sample(), half, said(("When?", "no"), (asked.replace("0.8", "0.0"), half)))
    assert absent.turns == pytest.approx((0.0, 0.1)) and absent.parts["iou_3d"] == 0
    alone = reward(sample(), span, said(("When?", span)))
    assert alone.turns == pytest.approx((0.55,)) and alone.total == pytest.approx(0.275)
    scorer = Scorer(load_config("scene_r1").rewards)
    assert scorer.score_group(sample(), [said(("When?", span), (asked, half)).completion])[0] == score
    scorer.try_out([sample()])


def test_a_pinhole_lifts_pixels_to_where_they_are() -> None:
    """A square of 16 pixels at 4 metres is one metre wide; projecting its points gives the pixels again."""
    box = [250, 375, 500, 625]  # columns 16..31 and rows 24..39
    camera, depth = Camera(64.0, 32.0, 32.0), depth_map(box, 4.0)
    mask = foreground([200, 300, 550, 700], depth)  # a larger box: the wall in it is no part of the mask
    assert mask.sum() == 16 * 16
    points = lift(mask, depth, camera)
    assert np.ptp(points, axis=0) == pytest.approx([15 / 16, 15 / 16, 0.0])
    u, v = points[:, 0] * 64 / points[:, 2] + 32, points[:, 1] * 64 / points[:, 2] + 32
    rows, columns = np.nonzero(mask)
    assert u == pytest.approx(columns + 0.5) and v == pytest.approx(rows + 0.5)
    assert iou_3d(points, points) == pytest.approx(1.0)
    assert iou_3d(points, points + np.array([0.5, 0, 0])) == pytest.approx((15 / 16 - 0.5) / (15 / 16 + 0.5), abs=2e-3)
    assert iou_3d(points, points + np.array([0, 0, 1])) == 0 and iou_3d(points, np.zeros((0, 3))) == 0
    assert foreground([0, 0, 100, 100], depth).sum() == 36, "a box on the wall alone"


def test_the_second_prompt_says_what_the_reward_looks_for() -> None:
    strategy = load_config("scene_r1").rollout.strategy
    assert "taken at {seconds} seconds" in strategy.frame_question and not strategy.conversation
    _, stage = load_config("scene_r1").stages
    assert (stage.advantage.gamma, stage.advantage.baseline, stage.advantage.scale) == (0.0, "same", "std")
