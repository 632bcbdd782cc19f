"""The experiment of joint training runs, and its tables follow from the evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import joint

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_two_arms_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--work", str(tmp_path), "--quick", "--seeds", "0", "--arms", "video", "joint"]
    result = joint.main(arguments)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    for name, asked in (("video", {"image": 0, "text": 0}), ("joint", {})):
        questions = result["arms"][name]["questions"]
        assert sum(questions.values()) == joint.QUICK.steps * joint.QUICK.prompts
        assert {kind: questions[kind] for kind in asked} == asked
    # Both start from one checkpoint and are asked the same questions.
    assert result["arms"]["video"]["before"] == result["arms"]["joint"]["before"]
    for modality in joint.MODALITIES:
        found = result["differences"]["joint - video"][modality]
        after = [result["arms"][name]["after"][modality]["mean"] for name in ("joint", "video")]
        assert found["mean"] == pytest.approx(after[0] - after[1], abs=2e-4)
        assert found["low"] <= found["mean"] <= found["high"]
    again = joint.main(arguments)  # finished runs are read
    assert {key: again[key] for key in ("arms", "differences")} == {key: result[key] for key in ("arms", "differences")}
