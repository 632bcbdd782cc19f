"""Effects are functions of frames, options and files alone; plans know their sizes, tokens and digests beforehand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from easyvideor1.toyworld.scene import Body, Scene, frame_times, paint_all
from easyvideor1.types import ConfigError, Frames, Geometry, MediaError, MediaInfo, MediaPlan, MediaRef
from easyvideor1.video.derived import derived_frames, effects_of, stored_plan
from easyvideor1.video.effects import EFFECTS, FrameEffect, hidden_frames, make_effect, plan_effects
from easyvideor1.video.effects.degrade import MaskFramesOptions
from easyvideor1.video.effects.overlay import glyphs
from easyvideor1.video.part import part, window
from easyvideor1.video.plan import digest, plan_from_json, plan_to_json
from easyvideor1.video.tracks import tracks_file

GEOMETRY = Geometry()
INDICES = (0, 2, 4, 6, 8, 8)
INFO = MediaInfo(
    "a.mp4", "video", "f", "h264", 96, 64, timestamps=tuple(i / 2 for i in range(10)), duration=5.0, fps=2.0
)
PLAN = MediaPlan(
    kind="video",
    fingerprint="f",
    frame_indices=INDICES,
    timestamps=tuple(i / 2 for i in INDICES),
    height=64,
    width=96,
    grid=(3, 4, 6),
    tokens=18,
    source_fps=2.0,
    sample_fps=1.0,
    digest=digest("video", "f", INDICES, 64, 96),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 64, 96, 3), dtype=np.uint8)
PIXELS[5] = PIXELS[4]
PIXELS.flags.writeable = False


def load(planned: MediaPlan, pixels=PIXELS) -> Frames:
    """The frames of a plan where the store has those of ``PLAN`` alone."""

    def whole(ref: MediaRef, wanted: MediaPlan) -> Frames:
        if (made := derived_frames(whole, ref, wanted)) is not None:
            return made
        assert wanted == PLAN
        return Frames(pixels, PLAN)

    return whole(MediaRef("video", "a.mp4"), planned)


def made(*effects, pixels=PIXELS, info=INFO) -> Frames:
    planned = plan_effects(PLAN, effects, GEOMETRY, info)
    found = load(planned, pixels)
    assert found.pixels.shape == (len(planned.frame_indices), planned.height, planned.width, 3)
    assert not found.pixels.flags.writeable
    assert planned.tokens == planned.grid[0] * (planned.height // 32) * (planned.width // 32)
    return found


def test_a_plan_without_effects_is_the_plan_itself() -> None:
    assert plan_effects(PLAN, (), GEOMETRY, INFO) is PLAN
    assert stored_plan(PLAN) is PLAN
    text = plan_to_json(PLAN)
    assert plan_from_json(text) == PLAN
    assert set(json.loads(text)).isdisjoint({"effects", "source"})  # entries of the store stay as they were


def test_digests_tell_effects_options_order_and_seeds_apart() -> None:
    black, mean = make_effect("mask_frames", frames=(0,)), make_effect("mask_frames", frames=(0,), fill="mean")
    noise, other = make_effect("noise", seed=1), make_effect("noise", seed=2)
    chains = [(), (black,), (mean,), (noise,), (other,), (black, noise), (noise, black)]
    digests = [plan_effects(PLAN, chain, GEOMETRY, INFO).digest for chain in chains]
    assert len(set(digests)) == len(chains)
    written = make_effect("noise", strength=0.1, seed=1)  # the default, said aloud
    assert plan_effects(PLAN, (written,), GEOMETRY, INFO).digest == digests[3]


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({"frames": (1, -1, 99)}, [1, 5]),
        ({"inside": ((1.0, 2.5),)}, [1, 2]),
        ({"outside": ((1.0, 2.5),)}, [0, 3, 4, 5]),
        ({"outside": ((1.2, 1.3),)}, [0, 2, 3, 4, 5]),  # between two frames: the one on screen stays
        ({"outside": ((0.0, 0.5), (4.0, 4.0))}, [1, 2, 3]),
        ({"outside": ((0.0, 9.0),)}, []),
        ({"outside": ((1.0, 2.5),), "share": 0.0}, []),
    ],
)
def test_hidden_frames_are_those_that_were_asked_for(options, hidden) -> None:
    found = made(make_effect("mask_frames", **options)).pixels
    assert hidden_frames(MaskFramesOptions(**options), PLAN.timestamps, INDICES) == hidden
    for place in range(6):
        np.testing.assert_array_equal(found[place], 0 if place in hidden else PIXELS[place])


def test_a_span_before_the_first_frame_keeps_that_one() -> None:
    late = (0.5, 1.0, 1.5)
    assert hidden_frames(MaskFramesOptions(outside=((0.1, 0.2),)), late, (1, 2, 3)) == [1, 2]
    assert hidden_frames(MaskFramesOptions(inside=((0.1, 0.2),)), late, (1, 2, 3)) == []


def test_the_mean_is_that_of_all_frames() -> None:
    found = made(make_effect("mask_frames", frames=(2,), fill="mean")).pixels
    wanted = np.rint(PIXELS.astype(np.float64).sum(axis=(0, 1, 2)) / (6 * 64 * 96))
    np.testing.assert_array_equal(found[2], np.broadcast_to(wanted, (64, 96, 3)))


@given(
    start=st.floats(0, 5),
    length=st.floats(0, 3),
    seed=st.integers(0, 99),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_masks_never_hide_the_span_and_smaller_shares_hide_less(start, length, seed, shares) -> None:
    span = (start, min(start + length, 6.0))
    found = [
        set(hidden_frames(MaskFramesOptions(outside=(span,), share=share, seed=seed), PLAN.timestamps, INDICES))
        for share in sorted(shares)
    ]
    assert found[0] <= found[1]
    assert all(not span[0] <= PLAN.timestamps[place] <= span[1] for place in found[1])
    assert len(found[1]) < 6  # something of the clip is always to be seen
    assert (4 in found[1]) == (5 in found[1])  # one frame at two places


def test_noise_has_the_strength_and_the_seed_that_were_asked_for() -> None:
    grey = np.full((6, 64, 96, 3), 128, np.uint8)
    one, again, other = (
        made(make_effect("noise", strength=0.05, seed=seed), pixels=grey).pixels.astype(float) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert abs(one.std() - 0.05 * 255) < 0.1 and abs(one.mean() - 128) < 0.1
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01
    assert not np.array_equal(one[0], one[1])
    np.testing.assert_array_equal(made(make_effect("noise", strength=0.0)).pixels, PIXELS)


def test_composites_put_frames_side_by_side() -> None:
    found = made(make_effect("composite", gap=5, colour=(9, 8, 7)))
    assert found.plan.height == 64 and found.plan.width == 320  # 3 * 96 + 2 * 5 = 298, rounded up to 32
    assert found.plan.grid == (3, 4, 20) and found.plan.tokens == 60
    before = [0, 0, 1, 2, 3, 3]  # the last frame is there twice, and is not its own past
    for place in range(6):
        frame = found.pixels[place]
        for left, source in ((0, 0), (101, before[place]), (202, place)):
            np.testing.assert_array_equal(frame[:, left : left + 96], PIXELS[source])
        np.testing.assert_array_equal(frame[:, [96, 100, 197, 201]], np.broadcast_to((9, 8, 7), (64, 4, 3)))
        assert not frame[:, 298:].any()


def test_effects_follow_each_other() -> None:
    masked = made(
        make_effect("mask_frames", frames=(0,)), make_effect("composite", columns=("first", "current"), gap=0)
    )
    assert not masked.pixels[:, :, :96].any()
    np.testing.assert_array_equal(masked.pixels[1, :, 96:192], PIXELS[1])


SCENE = Scene(
    96,
    64,
    5.0,
    2.0,
    frame_times(5.0, 2.0),
    (Body("square", "blue", 16, 20, 40, "right", 10), Body("circle", "green", 20, 70, 20)),
)


def write_tracks(path, **changes):
    objects = [
        {"id": number, "boxes": {str(i): list(body.box_at(t)) for i, t in enumerate(SCENE.times)}}
        for number, body in ((3, SCENE.bodies[0]), (12, SCENE.bodies[1]))
    ]
    path.write_text(json.dumps({"width": 96, "height": 64, "frames": 10, "objects": objects, **changes}))
    return tracks_file(str(path))


def test_numbers_lie_on_the_centres_of_true_tracks(tmp_path) -> None:
    pixels = np.stack(list(paint_all(SCENE)))[list(INDICES)]
    file = write_tracks(tmp_path / "a.tracks.json")
    found = made(make_effect("overlay_ids", [file], size=10, colour=(255, 0, 0)), pixels=pixels).pixels
    for place, time in enumerate(PLAN.timestamps):
        changed = (found[place] != pixels[place]).any(axis=2)
        assert (found[place][changed] == (255, 0, 0)).all()
        for number, body in ((3, SCENE.bodies[0]), (12, SCENE.bodies[1])):
            x, y = body.centre_at(time)
            mask = glyphs(number, 2)
            top, left = round(y - mask.shape[0] / 2), round(x - mask.shape[1] / 2)
            np.testing.assert_array_equal(changed[top : top + mask.shape[0], left : left + mask.shape[1]], mask)
            changed[top : top + mask.shape[0], left : left + mask.shape[1]] = False
        assert not changed.any()  # and nothing else is painted


def test_numbers_follow_the_size_of_the_planned_frames(tmp_path) -> None:
    file = write_tracks(tmp_path / "a.tracks.json", width=192, height=128)
    info = replace(INFO, width=192, height=128)
    found = made(make_effect("overlay_ids", [file], size=5, boxes=True, numbers=False), info=info).pixels
    x1, y1, x2, y2 = (v / 2 for v in SCENE.bodies[1].box_at(0.0))  # centre (35, 10), side 10
    assert (found[0][round(y1), round(x1) : round(x2)] == (255, 0, 0)).all()
    assert (found[0][round(y1) : round(y2), round(x2) - 1] == (255, 0, 0)).all()
    np.testing.assert_array_equal(found[0][round(y1) + 1, round(x1) + 1], PIXELS[0][round(y1) + 1, round(x1) + 1])


def test_a_number_at_the_edge_stays_whole(tmp_path) -> None:
    boxes = {"0": [-30, -30, 2, 2], "2": [90, 60, 300, 300]}
    file = write_tracks(tmp_path / "a.tracks.json", objects=[{"id": 88, "boxes": boxes}])
    found = made(make_effect("overlay_ids", [file], size=10), pixels=np.zeros_like(PIXELS)).pixels
    mask = glyphs(88, 2)
    np.testing.assert_array_equal(found[0, :10, :14, 0] == 255, mask)
    np.testing.assert_array_equal(found[1, -10:, -14:, 0] == 255, mask)
    assert not found[2:].any()  # no box, no number


def test_digits_differ_and_have_their_shape() -> None:
    shapes = {glyphs(number, 1).tobytes() for number in range(10)}
    assert len(shapes) == 10
    assert glyphs(7, 1).astype(int).tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert glyphs(40, 3).shape == (15, 21)


def test_files_count_by_content_and_not_by_place(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    here, there = write_tracks(tmp_path / "a.tracks.json"), write_tracks(tmp_path / "there" / "a.tracks.json")
    other = write_tracks(tmp_path / "b.tracks.json", objects=[])
    plans = [plan_effects(PLAN, (make_effect("overlay_ids", [f]),), GEOMETRY, INFO) for f in (here, there, other)]
    assert plans[0].digest == plans[1].digest != plans[2].digest


def test_what_cannot_be_used_on_a_video_is_named(tmp_path) -> None:
    file = write_tracks(tmp_path / "a.tracks.json", frames=11)
    with pytest.raises(MediaError, match=r"a\.mp4: overlay_ids .*a\.tracks\.json.*11 frames, the video has") as raised:
        plan_effects(PLAN, (make_effect("overlay_ids", [file]),), GEOMETRY, INFO)
    assert raised.value.reason == "effect"
    with pytest.raises(MediaError, match=r"span \[7, 9\] s lies outside of the clip, which is \[0, 5\] s"):
        plan_effects(PLAN, (make_effect("mask_frames", outside=((7.0, 9.0),)),), GEOMETRY, INFO)
    with pytest.raises(MediaError, match="needs one file of tracks"):
        plan_effects(PLAN, (make_effect("overlay_ids"),), GEOMETRY, INFO)


@pytest.mark.parametrize(
    ("span", "clip", "fine"),
    [
        ((0.0, 3.0), None, True),  # before the first frame that is planned
        ((55.0, 60.0), None, True),  # behind the last one
        ((60.5, 62.0), None, False),
        ((0.0, 3.0), (3.5, 20.0), False),
        ((25.0, 30.0), (3.5, 20.0), False),  # in the video, behind the end of the clip
        ((19.0, 30.0), (3.5, 20.0), True),
    ],
)
def test_spans_are_compared_with_the_clip_and_not_with_its_frames(span, clip, fine) -> None:
    info = replace(INFO, duration=60.0, timestamps=tuple(float(second) for second in range(60)))
    times = tuple(3.75 + 7.5 * place for place in range(6))  # the middles of eight equal parts, but for the last two
    middles = replace(PLAN, timestamps=times, frame_indices=tuple(map(int, times)))
    effects = (make_effect("mask_frames", outside=(span,)),)
    if fine:
        assert plan_effects(middles, effects, GEOMETRY, info, clip).effects == effects
    else:
        with pytest.raises(MediaError, match=r"lies outside of the clip, which is \[(0, 60|3\.5, 20)\] s"):
            plan_effects(middles, effects, GEOMETRY, info, clip)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("noize", {}, "did you mean noise"),
        ("noise", {"strenght": 0.5}, "effect noise: strenght"),
        ("noise", {"strength": 2}, "effect noise: strength"),
        ("mask_frames", {}, "exactly one of frames, inside and outside"),
        ("mask_frames", {"inside": ((2.0, 1.0),)}, "must begin at 0 or later"),
        ("video.test_effects:WRONG", {}, "not an instance of FrameEffect"),
    ],
)
def test_names_and_options_are_checked_when_an_effect_is_made(name, options, said) -> None:
    with pytest.raises(ConfigError, match=said):
        make_effect(name, **options)


class Shift(BaseModel):
    by: int = 1


WRONG = "no effect"
ROLL = FrameEffect(lambda frames, options: np.roll(frames.pixels, options.by, axis=2), Shift)
BROKEN = FrameEffect(lambda frames, options: frames.pixels[1:], Shift)


def test_an_effect_of_your_own() -> None:
    found = made(make_effect("video.test_effects:ROLL", by=3))
    np.testing.assert_array_equal(found.pixels[:, :, 3:], PIXELS[:, :, :-3])
    with pytest.raises(ConfigError, match=r"BROKEN made uint8 pixels of shape \(5, 64, 96, 3\)"):
        made(make_effect("video.test_effects:BROKEN"))


def test_raising_the_version_changes_the_digest(monkeypatch) -> None:
    from easyvideor1.video.effects import contract

    before = plan_effects(PLAN, (make_effect("noise"),), GEOMETRY, INFO).digest
    monkeypatch.setitem(EFFECTS._items, "noise", replace(EFFECTS.resolve("noise"), version=2))
    contract._opened.cache_clear()
    after = plan_effects(PLAN, (make_effect("noise"),), GEOMETRY, INFO).digest
    monkeypatch.undo()
    contract._opened.cache_clear()
    assert before != after


def test_parts_show_what_effects_make_of_the_whole() -> None:
    first = part(PLAN, [0], GEOMETRY, "image")
    np.testing.assert_array_equal(load(first).pixels, PIXELS[:1])
    noisy = plan_effects(PLAN, (make_effect("noise", seed=4), make_effect("composite", gap=0)), GEOMETRY, INFO)
    still, middle = part(noisy, [4], GEOMETRY, "image"), window(noisy, 1, 2, GEOMETRY)
    assert (still.kind, still.grid, still.tokens) == ("image", (1, 4, 18), 18)
    assert len({first.digest, still.digest, middle.digest, part(noisy, [3], GEOMETRY, "image").digest}) == 4
    whole = load(noisy).pixels
    np.testing.assert_array_equal(load(still).pixels, whole[4:5])
    np.testing.assert_array_equal(load(middle).pixels, whole[2:4])
    assert stored_plan(still) == stored_plan(noisy) == stored_plan(first) == PLAN
    assert effects_of(still) == noisy.effects and effects_of(first) == ()
    for plan in (first, noisy, still):
        assert plan_from_json(plan_to_json(plan)) == plan
    with pytest.raises(ValueError, match="effects change a whole clip"):
        plan_effects(still, (make_effect("noise"),), GEOMETRY, INFO)
