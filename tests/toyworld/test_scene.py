"""Scenes: geometry in closed form, and what composing promises."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.toyworld import COLOURS, Body, Scene, WorldSpec, frame_times
from easyvideor1.toyworld.compose import Wish, compose
from easyvideor1.toyworld.questions import Decks, Draw, Needs

from .samples import scene_from_json


def made(seed: int, needs: Needs, media: str = "video", **spec: object) -> Scene:
    world = WorldSpec(seed=seed, **spec)
    draw = Draw(random.Random(seed), Decks(str(seed)), "test", world.colours)
    return compose(world, media, [Wish(needs, draw)], random.Random(seed))


def test_boxes_and_visibility_in_closed_form() -> None:
    body = Body("square", "red", 10, 20, 30, "left", 4, appears=0.5, disappears=1.5)
    assert body.box_at(0) == (15, 25, 25, 35)
    assert body.box_at(2) == (7, 25, 17, 35)
    assert [body.visible_at(t) for t in (0.25, 0.5, 1.25, 1.5)] == [False, True, True, False]
    scene = Scene(40, 50, 2, 4, frame_times(2, 4), (body,))
    assert scene.scaled_box(body, 0) == [375, 500, 625, 700]
    assert scene.scaled_point(-3, 999) == [0, 1000]


def test_frame_times() -> None:
    assert frame_times(1.0, 4.0) == (0.0, 0.25, 0.5, 0.75)
    varied = frame_times(1.0, 4.0, (0.4, 0.4, -0.4, 0.2))
    assert varied == (0.0, 0.35, 0.4, 0.8)
    crowded = frame_times(0.1, 100.0, (0.0, -0.49, 0.49) + (0.0,) * 7)
    assert (np.diff(crowded) > 0.009).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    window=st.booleans(),
    counted=st.booleans(),
    word=st.booleans(),
    wide=st.booleans(),
    media=st.sampled_from(["image", "video"]),
    size=st.sampled_from([(64, 64), (96, 48), (33, 71), (320, 180)]),
)
def test_bodies_stay_inside_and_apart(seed, window, counted, word, wide, media, size) -> None:
    scene = made(seed, Needs(window=window, counted=counted, word=word, wide=wide), media, size=size)
    subject, others = scene.subject, scene.bodies[1:]
    assert len({body.colour for body in scene.bodies}) == len(scene.bodies)
    assert all(other.shape != subject.shape for other in others)
    assert media == "image" or all(other.motion != subject.motion for other in others)
    for t in np.linspace(0, scene.seconds, 41):
        boxes = [body.box_at(t) for body in scene.bodies]
        if scene.label is not None:
            boxes.append(scene.label.box)
        for x1, y1, x2, y2 in boxes:
            assert x1 >= 0 and y1 >= 0 and x2 <= scene.width and y2 <= scene.height
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert scene_from_json(json.loads(json.dumps(scene.as_json()))) == scene


def test_clear_motion_for_the_subject() -> None:
    for seed in range(40):
        subject = made(seed, Needs()).subject
        assert 16 <= subject.size <= 24 or len(made(seed, Needs()).bodies) > 1
        assert 0.35 * 64 <= subject.speed * 2.0 <= 0.61 * 64


def test_windows_lie_on_frames_and_hold_a_whole_second() -> None:
    spans = set()
    for seed in range(80):
        scene = made(seed, Needs(window=True))
        start, end = scene.subject.appears, scene.subject.disappears
        spans.add((start, end))
        assert start in scene.times
        assert end in (*scene.times, scene.seconds)
        assert any(scene.subject.visible_at(second) for second in range(3))
        assert 0.5 <= end - start <= 1.5
    assert len(spans) > 8


def test_colours_are_told_apart_from_every_background() -> None:
    colours = np.array([*COLOURS.values(), (20, 20, 24), (52, 52, 56)], float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    distance[-2:, -2:] = np.inf
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 80


def test_decks_deal_evenly() -> None:
    decks = Decks("seed")
    dealt = [decks.deal("colour", ("a", "b", "c")) for _ in range(30)]
    assert all(sorted(dealt[i : i + 3]) == ["a", "b", "c"] for i in range(0, 30, 3))
    assert len({tuple(dealt[i : i + 3]) for i in range(0, 30, 3)}) > 2
    again = Decks("seed")
    assert dealt == [again.deal("colour", ("a", "b", "c")) for _ in range(30)]
    with pytest.raises(AssertionError):
        assert dealt == [Decks("other").deal("colour", ("a", "b", "c")) for _ in range(30)]
