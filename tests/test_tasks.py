"""One table of task types for rows, prompts, rewards and evaluation."""

from __future__ import annotations

import itertools

import pytest

from easyvideor1.tasks import TASKS, canonical_task
from easyvideor1.types import DataError

#: Every name that the published data, rewards and benchmarks use.
PUBLISHED = {
    "multiple choice": "multiple_choice",
    "multiple_choice": "multiple_choice",
    "numerical": "numerical",
    "number": "numerical",
    "counting": "numerical",
    "REC": "numerical",
    "regression": "regression",
    "math": "math",
    "mathematics": "math",
    "boolean": "boolean",
    "binary classification": "boolean",
    "SSR": "boolean",
    "CRR": "boolean",
    "open-ended": "open_ended",
    "open_ended": "open_ended",
    "free-form": "open_ended",
    "video qa": "video_qa",
    "video description": "description",
    "caption": "description",
    "ocr": "ocr",
    "OCR": "ocr",
    "code": "code",
    "coding": "code",
    "svg-code": "svg_code",
    "html-code": "html_code",
    "llava": "preference",
    "critic": "preference",
    "temporal grounding": "temporal_grounding",
    "spatial grounding": "spatial_grounding",
    "spatial-temporal grounding": "spatial_temporal_grounding",
    "tracking": "tracking",
    "segmentation": "segmentation",
    "segmentation_image": "segmentation",
    "segmentation_video": "segmentation",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_in_any_case_and_with_any_separator(name: str) -> None:
    words = name.replace("-", " ").replace("_", " ").split()
    for separator, change in itertools.product(("", " ", "-", "_", "  ", " / ", "\u2013"), (str.lower, str.upper)):
        assert canonical_task(f" {change(separator.join(words))} ") == PUBLISHED[name]


def test_no_name_stands_for_two_types() -> None:
    for task, aliases in TASKS.items():
        for name in (task, *aliases):
            assert canonical_task(name) == task


@pytest.mark.parametrize(
    ("name", "near"),
    [("numerica", "'numerical'"), ("temporal groundin", "'temporal_grounding'"), ("free from", "'free form'")],
)
def test_the_nearest_names_are_offered_as_they_are_written(name: str, near: str) -> None:
    with pytest.raises(DataError, match=f"unknown task type '{name}'.*{near}"):
        canonical_task(name)


@pytest.mark.parametrize("name", ["", "   ", "zzzz", "\x00"])
def test_a_name_like_no_other_is_answered_with_all(name: str) -> None:
    with pytest.raises(DataError, match="known: multiple_choice, numerical"):
        canonical_task(name)
