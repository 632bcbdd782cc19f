"""Every case of every certificate, and that the certificates cover what they are there for."""

from __future__ import annotations

from collections import Counter

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.certificates import RELATIONS, Case, cases, load_certificate, problem
from easyvideor1.tasks import TASKS
from easyvideor1.types import Score


@pytest.mark.parametrize("task", TASKS)
def test_every_case_of_a_certificate_holds(task: str) -> None:
    failed = {str(case): wrong for case in cases([task]) if (wrong := problem(case, score))}
    assert failed == {}


@pytest.mark.parametrize("task", TASKS)
def test_a_certificate_has_all_kinds_of_cases(task: str) -> None:
    kinds = Counter(case.kind for case in cases([task]))
    assert kinds["golden"] >= 2
    assert kinds["adversarial"] >= 6
    assert kinds["metamorphic"] >= 10
    adversarial = [case for case in load_certificate(task).cases if case.kind == "adversarial"]
    names = {case.name for case in adversarial}
    assert {"nothing", "an empty tag"} <= names
    assert any(len(case.response) >= 39_000 for case in adversarial), "nothing long is tried"
    if task not in ("svg_code", "html_code"):
        assert any(name.startswith("two tags") for name in names)


@pytest.mark.parametrize("task", TASKS)
def test_every_relation_of_a_certificate_leads_somewhere(task: str) -> None:
    followed = {case.name.rpartition("; ")[2] for case in cases([task]) if case.kind == "metamorphic"}
    assert followed == set(load_certificate(task).relations)


def test_every_relation_is_used() -> None:
    assert {name for task in TASKS for name in load_certificate(task).relations} == set(RELATIONS)


def test_a_wrong_score_is_told_from_a_right_one() -> None:
    case = Case("boolean", "x", "golden", "<answer>Yes</answer>", "yes", accuracy=1.0, format=1.0)
    assert problem(case, score) == ""

    def generous(*_: object, **__: object) -> Score:
        return Score(0.5, 0.0, 1.5, applicable=False, reason="tired")

    told = problem(case, generous)
    for piece in ("applicable is False (tired)", "accuracy is 0.5", "format is 0.0", "1.5 is not in [0, 1]"):
        assert piece in told
    at_most = Case("boolean", "x", "adversarial", "<answer>Yes</answer>", "yes", at_most=0.2, reason="because")
    assert problem(at_most, score) == "accuracy is 1.000000, above 0.2; the reason is '', without 'because'"
