"""Visual tokens and features are counted on both sides, and a difference is told with all that it takes to find it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from easyvideor1.data.visual_tokens import feature_count, features_fault, tokens_fault
from easyvideor1.types import Frames, Geometry, MediaPlan, MediaRef, Prompt, VisualSpan

GEOMETRY = Geometry()
PLAN = MediaPlan("video", "f", (0, 2, 4, 6), (0.0, 0.5, 1.0, 1.5), 64, 96, (2, 4, 6), 12, 4.0, 2.0, "a" * 64)
REF = MediaRef("video", "/clips/a.mp4")


def frames(shape: tuple[int, ...] = (4, 64, 96, 3), plan: MediaPlan = PLAN) -> Frames:
    return Frames(np.zeros(shape, np.uint8), plan)


@pytest.mark.parametrize(
    ("shape", "geometry", "count"),
    [
        ((4, 64, 96, 3), GEOMETRY, 12),
        ((5, 64, 96, 3), GEOMETRY, 18),  # a temporal step that lacks a frame is filled
        ((1, 64, 64, 3), GEOMETRY, 4),
        ((2, 56, 84, 3), Geometry(patch_size=14), 6),
        ((4, 64, 64, 3), Geometry(temporal_patch_size=1), 16),
    ],
)
def test_features_are_patches_by_merged_blocks(shape: tuple[int, ...], geometry: Geometry, count: int) -> None:
    assert feature_count(frames(shape), geometry) == count


def test_frames_as_planned_are_no_fault() -> None:
    assert features_fault(REF, PLAN, frames(), GEOMETRY) is None
    image = replace(PLAN, kind="image", frame_indices=(0,), timestamps=(0.0,), grid=(1, 4, 6), tokens=6)
    assert features_fault(REF, image, frames((1, 64, 96, 3), image), GEOMETRY) is None


@pytest.mark.parametrize(
    ("given", "geometry", "words"),
    [
        (frames((2, 64, 96, 3)), GEOMETRY, "give 6 features; they were cut or resized after planning"),
        (frames((4, 64, 64, 3)), GEOMETRY, "give 8 features; they were cut or resized"),
        (
            frames(plan=replace(PLAN, digest="b" * 64)),
            GEOMETRY,
            "give 12 features; they belong to the plan bbbbbbbbbbbb",
        ),
        (frames(), Geometry(patch_size=8), "give 48 features; the plan was made for another model"),
    ],
)
def test_a_fault_names_file_plan_counts_and_cause(given: Frames, geometry: Geometry, words: str) -> None:
    message = features_fault(REF, PLAN, given, geometry)
    assert message is not None
    assert message.startswith(
        "/clips/a.mp4: the prompt has 12 visual tokens by the plan aaaaaaaaaaaa (4 frames of 64x96"
    )
    assert words in message


def prompt(*spans: VisualSpan) -> Prompt:
    ids = np.array([1, 2, *[9] * 6, 3, *[9] * 6, 4])
    return Prompt(ids, (REF,), (PLAN,), spans, "What?")


def test_tokens_of_a_prompt_are_those_of_its_plans() -> None:
    assert tokens_fault(prompt(VisualSpan(0, 2, 6), VisualSpan(0, 9, 6))) is None
    assert tokens_fault(Prompt(np.arange(3))) is None


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ((VisualSpan(0, 2, 6),), "medium 1 (/clips/a.mp4) has 6 visual tokens, its plan aaaaaaaaaaaa 12"),
        ((), "has 0 visual tokens"),
        ((VisualSpan(0, 2, 6), VisualSpan(0, 8, 6)), "tokens 8 to 14 of 16 are not the span"),
        ((VisualSpan(0, 2, 6), VisualSpan(0, 2, 6)), "tokens 2 to 8 of 16"),
        ((VisualSpan(0, 9, 6), VisualSpan(0, 2, 6)), "tokens 2 to 8 of 16"),
        ((VisualSpan(0, 2, 6), VisualSpan(0, 9, 60)), "tokens 9 to 69 of 16"),
    ],
)
def test_spans_that_do_not_hold_the_tokens(spans: tuple[VisualSpan, ...], words: str) -> None:
    message = tokens_fault(prompt(*spans))
    assert message is not None and words in message
