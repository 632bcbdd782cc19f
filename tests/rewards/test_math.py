"""Equality of expressions, under a limit that works in any thread."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from easyvideor1.rewards import math, score
from easyvideor1.rewards.math import MathHelper


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("$\\frac{1}{2}$", "\\dfrac{1}{2}", 1.0),
        ("0.5", "\\frac{1}{2}", 1.0),
        ("x^2 + 2x + 1", "(x+1)^2", 1.0),
        ("2\\sqrt{2}", "\\sqrt{8}", 1.0),
        ("\\{2, 1\\}", "\\{1, 2\\}", 1.0),
        ("\\boxed{7}", "7", 1.0),
        ("1,000", "1000.0", 1.0),
        ("B", "B", 1.0),
        ("C", "B", 0.0),
        ("7", "8", 0.0),
        ("x^2 + 1", "(x+1)^2", 0.0),
        ("\\frac{1}{", "1", 0.0),
        ("nonsense )( \\\\ {", "3", 0.0),
    ],
)
def test_equality(predicted: str, reference: str, expected: float) -> None:
    result = score("math", f"<answer>{predicted}</answer>", reference)
    assert result.applicable, result.reason
    assert result.accuracy == expected


def test_plain_cases_need_no_helper() -> None:
    math._HELPER.close()
    for n in range(100):
        assert score("math", f"<answer>{n}</answer>", str(n)).accuracy == 1.0
    assert math._HELPER._process is None


def test_a_comparison_that_takes_too_long_is_given_up_in_any_thread() -> None:
    helper = MathHelper(time_limit=0.7)
    results: list[bool | None] = []

    def compare() -> None:
        results.append(helper.equal("9^{9^{9^{9^{9}}}}", "3"))
        results.append(helper.equal("\\frac{2}{4}", "\\frac{1}{2}"))

    thread = threading.Thread(target=compare)
    start = time.monotonic()
    thread.start()
    thread.join(30)
    helper.close()
    assert results == [None, True]
    assert time.monotonic() - start < 30


def test_an_answer_without_end_is_wrong_and_a_reference_without_end_judges_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = MathHelper(time_limit=1.5)
    monkeypatch.setattr(math, "_HELPER", helper)
    endless = "9^{9^{9^{9^{9}}}}"
    wrong = score("math", f"<answer>{endless}</answer>", "3x + 1")
    assert wrong.applicable
    assert (wrong.accuracy, wrong.parts) == (0.0, {"beyond_limits": 1.0})
    assert "limits" in wrong.reason
    unusable = score("math", "<answer>3x + 1</answer>", endless)
    assert not unusable.applicable
    assert "reference" in unusable.reason
    helper.close()


def test_a_helper_that_somebody_ended_is_replaced() -> None:
    helper = MathHelper()
    assert helper.equal("\\frac{2}{4}", "\\frac{1}{2}") is True
    process = helper._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert helper.equal("\\frac{2}{4}", "\\frac{1}{3}") is False
    helper.close()


def test_a_forked_child_uses_a_helper_of_its_own() -> None:
    assert score("math", "<answer>\\frac{3}{6}</answer>", "0.5").accuracy == 1.0
    child = os.fork()
    if child == 0:
        right = score("math", "<answer>\\frac{4}{8}</answer>", "0.5").accuracy == 1.0
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert score("math", "<answer>\\frac{5}{10}</answer>", "0.5").accuracy == 1.0
