"""The benchmark of learning: its comparisons, and in the slow tier its five-minute subset."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.learning import QUICK, _compare, measure


def test_a_gain_is_paired_by_question() -> None:
    old = [(str(i), f"clip{i}", float(i % 2)) for i in range(40)]
    new = [(question, clip, 1.0) for question, clip, _ in old]
    row = _compare("x", old, new, 1.0)
    assert row.before == 0.5 and row.after == 1.0 and row.gain == 0.5 and 0.3 < row.low < 0.5 < row.high
    with pytest.raises(RuntimeError, match="different questions"):
        _compare("x", old, new[1:], 1.0)


@pytest.mark.slow
@pytest.mark.model
def test_the_quick_subset_has_every_kind_of_comparison(tmp_path: Path) -> None:
    found = measure(tmp_path, quick=True)
    rows = {row["name"]: row for row in found["rows"]}
    assert len(rows) == len(QUICK) + 3 and {*found["improved"], *found["not_improved"]} == set(rows)
    assert set(QUICK) <= set(found["improved"]), "each of them learns"
    for row in rows.values():
        assert -1 <= row["low"] <= row["gain"] <= row["high"] <= 1
        assert row["after"] - row["before"] == pytest.approx(row["gain"])
    assert measure(tmp_path, quick=True, only=QUICK[:1])["rows"][0]["after"] == rows[QUICK[0]]["after"], "resumed"
