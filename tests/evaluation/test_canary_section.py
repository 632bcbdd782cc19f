"""What the canary said stands on the report page, each step once with its examples."""

from __future__ import annotations

import json
from pathlib import Path

from easyvideor1.evaluation import write_report

EXAMPLE = {
    "sample": "a",
    "task": "multiple_choice",
    "reference": "B",
    "response": "<think>It goes down,C</answer>C",
    "tokens": 64,
    "finish": "length",
    "accuracy": 1.0,
    "format": 0.0,
    "found": "nothing",
}


def test_warnings_and_their_examples_are_shown(tmp_path: Path) -> None:
    stage = tmp_path / "stages" / "01-grpo"
    stage.mkdir(parents=True)
    rows = [
        {"step": 20, "alarm": alarm, "now": 0.4, "before": 0.0, "message": f"what {alarm} says", "examples": [EXAMPLE]}
        for alarm in ("paid_without_form", "cut_off")
    ]
    (stage / "canary.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("<h2>Canary</h2>") == 1
    assert page.count("01-grpo, step 20") == 1
    assert "what paid_without_form says" in page
    assert "what cut_off says" in page
    assert page.count("&lt;think&gt;It goes down,C&lt;/answer&gt;C") == 1
    assert "64 tokens, cut off" in page


def test_a_run_without_warnings_has_no_such_section(tmp_path: Path) -> None:
    assert "<h2>Canary</h2>" not in write_report(tmp_path).read_text(encoding="utf-8")
