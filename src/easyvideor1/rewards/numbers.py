"""Numerical and regression answers: equality within a tolerance, and relative accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from easyvideor1.rewards.answer import ColumnError, Rule, Verdict, cannot_judge
from easyvideor1.rewards.numberreading import Number, read_number, read_number_reply


def _reference(text: str, options: tuple[str, ...]) -> Number:
    reading = read_number(text, options)
    if reading.value is None:
        raise ValueError("it is not one number")
    number: Number = reading.value
    return number


def _rounding(reference: float) -> float:
    """Whole references must be met; others forgive rounding to two decimals, never more than 5% of the reference."""
    if reference == round(reference):
        return 1e-9 * abs(reference)
    return min(0.005, 0.05 * abs(reference)) * (1 + 1e-9)


def _given_tolerance(row: Mapping[str, Any]) -> float | None:
    """The column ``tolerance``: how far an answer may be from the reference, in its unit.

    Raises:
        ColumnError: it is no number from 0 on.
    """
    value = row.get("tolerance")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ColumnError("tolerance", f"it is {value!r}; write the allowed distance from the reference, 0 or more")
    return float(value)


def _check_columns(row: Mapping[str, Any]) -> None:
    _given_tolerance(row)


def _pairs(predicted: Number, reference: Number) -> list[tuple[float, float]]:
    return [(p, r) for p in predicted.meanings(reference) for r in reference.meanings(predicted)]


def compare_numerical(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """Equality within a tolerance, for any of the meanings that a lone percent sign allows.

    The tolerance is the row's column ``tolerance`` if it has one. Else whole references must be met exactly, and others
    within 0.005 (rounding to two decimals) and within 5% of the reference.
    """
    try:
        given = _given_tolerance(row)
    except ColumnError as error:
        return cannot_judge(error.cause)
    close = any(
        abs(p - r) <= (_rounding(r) if given is None else given * (1 + 1e-9) + 1e-12 * abs(r))
        for p, r in _pairs(predicted, reference)
    )
    return Verdict(float(close))


def _relative(p: float, r: float) -> float:
    if r == 0 or p == r:
        return float(p == r)
    return max(0.0, 1.0 - abs(p - r) / abs(r))


def _mean_relative(p: float, r: float) -> float:
    if r == 0 or p == r:
        return float(p == r)
    error = round(abs(p - r) / abs(r) * 100, 9)
    return sum(error < step for step in range(5, 55, 5)) / 10


def compare_regression(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """Mean relative accuracy: the share of thresholds t = 0.50, 0.55, ..., 0.95 with |p - r| / |r| < 1 - t.

    The thresholds are those of VSI-Bench (Yang et al. 2024), evaluated in hundredths, so an error of exactly 10% fails
    t = 0.90 whatever floats say. A reference of 0 asks for 0. ``relative_accuracy`` is ``max(0, 1 - |p - r| / |r|)``.
    """
    accuracy, relative = max((_mean_relative(p, r), _relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(accuracy, {"relative_accuracy": relative})


def compare_relative(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """The simpler form: ``max(0, 1 - |p - r| / |r|)``; ``mean_relative_accuracy`` is the one over thresholds."""
    relative, mean = max((_relative(p, r), _mean_relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(relative, {"mean_relative_accuracy": mean})


NUMERICAL = Rule(
    read_number,
    _reference,
    compare_numerical,
    "one number ('12', '3/4', '50%', '1.2e5', 'two hundred')",
    columns=_check_columns,
    form="equal",
    read_reply=read_number_reply,
    lists=True,
)
REGRESSION = Rule(
    read_number,
    _reference,
    compare_regression,
    "one number ('0.4')",
    form="mra",
    forms={"relative": compare_relative},
    read_reply=read_number_reply,
    lists=True,
)
