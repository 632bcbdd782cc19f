"""Strings of every kind through every reward; ``python -m benchmarks.fuzz_rewards`` has the full numbers."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from benchmarks.fuzz_rewards import Figures, fault_of, fuzz, growths, random_families
from benchmarks.strings import FAMILIES, REFERENCES, WAYS, fuzz_string

from easyvideor1.rewards import score
from easyvideor1.tasks import TASKS
from easyvideor1.types import Score


def test_the_corpus_knows_every_task_type() -> None:
    assert set(REFERENCES) == set(TASKS)
    for task, (answer, options, row) in REFERENCES.items():
        said = score(task, f"<answer>{answer}</answer>", answer, options=options, **row)
        assert said.accuracy == pytest.approx(1.0), task


def test_the_strings_are_of_every_kind() -> None:
    rng = random.Random(1)
    strings = [fuzz_string(rng, "12.5") for _ in range(3000)]
    assert strings == [fuzz_string(again, "12.5") for again in [random.Random(1)] for _ in range(3000)]
    assert sum(len(text) > 5000 for text in strings) >= 3
    assert sum("<answer>" in text for text in strings) > 1000
    assert sum(not text.isascii() for text in strings) > 500
    assert len(set(strings)) > 2400
    assert sum(share for _, share in WAYS) == pytest.approx(1.0)


def test_strings_give_scores_in_range_and_no_exception() -> None:
    figures = fuzz(20_000, seed=20)
    assert figures.faults == []
    assert figures.count == 20_000


def test_strings_reach_every_grade() -> None:
    """A fuzz that never gets an answer right, or never wrong, tries nothing."""
    rng = random.Random(3)
    seen: Counter[tuple[str, str]] = Counter()
    for task, (answer, options, row) in REFERENCES.items():
        if task in ("code", "math"):
            continue
        for _ in range(400):
            said = score(task, fuzz_string(rng, answer), answer, options=options, **row)
            seen[task, "right" if said.accuracy > 0.99 else "wrong" if said.accuracy == 0 else "part"] += 1
            seen[task, f"format {said.format}"] += 1
    for task in set(REFERENCES) - {"code", "math"}:
        assert seen[task, "wrong"] > 10, task
        assert seen[task, "right"] > 3, task
        assert min(seen[task, f"format {form}"] for form in (0.0, 0.5, 1.0)) > 0 or task in (
            "open_ended",
            "video_qa",
            "description",
            "ocr",
        ), task


def test_programs_and_expressions_have_a_share_of_their_own() -> None:
    assert fuzz(15, seed=4, tasks=["code"], outside=True).faults == []
    assert fuzz(40, seed=5, tasks=["math"], outside=True).faults == []


def test_faults_are_found() -> None:
    assert fault_of(Score(1.0, 1.0, 1.0)) == ""
    assert "1.5" in fault_of(Score(1.5, 1.0, 1.0))
    assert "nan" in fault_of(Score(float("nan"), 0.0, 0.0))
    assert "inf" in fault_of(Score(1.0, 0.0, 0.9, {"x": float("inf")}))
    assert "no reason" in fault_of(Score(0.0, 0.0, 0.0, applicable=False))
    figures = Figures()
    for took, fault in ((1.0, ""), (5.0, "broken"), (2.0, "")):
        figures.add("ocr", f"text {took}", took, fault)
    assert (figures.count, figures.worst, figures.percentile(0.5), figures.percentile(0.999)) == (3, 5.0, 2.0, 5.0)
    assert "text 5.0" in figures.slowest
    assert figures.faults == ["ocr: broken: 'text 5.0'"]


# Quadratic time has exponent 2; what a busy machine adds to one of many measurements stays well below that.
STEEPEST = 1.75


def test_time_grows_no_faster_than_the_text() -> None:
    families = [family for at, family in enumerate(FAMILIES) if at % 6 == 1]
    steep = [g for g in growths(families, sizes=(8_000, 64_000), repeats=1) if g.exponent > STEEPEST]
    assert steep == []


@pytest.mark.slow
def test_a_million_strings() -> None:
    figures = fuzz(1_000_000, seed=1)
    assert figures.faults == []
    assert figures.percentile(0.999) < 50
    assert fuzz(600, seed=2, tasks=["code"], outside=True).faults == []
    assert fuzz(3000, seed=3, tasks=["math"], outside=True).faults == []


@pytest.mark.slow
def test_time_grows_no_faster_than_the_text_for_every_family() -> None:
    families = [*FAMILIES, *random_families(60, seed=4)]
    assert [g for g in growths(families) if g.exponent > STEEPEST] == []
