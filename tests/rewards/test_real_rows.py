"""References of public benchmarks: every one that is sound scores 1.0 against itself, the others are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from easyvideor1.config.schema import DataConfig, RewardConfig, SourceConfig
from easyvideor1.data import scan_source
from easyvideor1.rewards import score
from easyvideor1.rewards.audit import audit, reference_scorer

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "benchmark_rows"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no benchmark rows at ../shared/reference/benchmark_rows")

FILES = sorted(FOLDER.glob("*.json"))
#: Rows without a usable reference or question.
BAD = {"charades_sta": 6, "longvideoreason": 1, "videommlu": 6}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_references_score_full_marks_against_themselves(path: Path) -> None:
    scan = scan_source(SourceConfig(path=str(path)), DataConfig(), check_media=False)
    assert len(scan.bad) == BAD.get(path.stem, 0), [str(bad) for bad in scan.bad]
    assert scan.rows == len(scan.samples) + len(scan.bad)
    for sample in scan.samples:
        said = score(sample.task, f"<answer>{sample.answer}</answer>", sample.answer, options=sample.options)
        assert (said.applicable, said.accuracy, said.format) == (True, 1.0, 1.0), f"{sample.where}: {said}"


def test_the_published_spelling_of_a_reference_is_scored_as_it_stands() -> None:
    """As the published code is given it: the raw ``solution`` beside the raw ``problem_type``."""
    judged = 0
    for path in FILES:
        for row in json.loads(path.read_text(encoding="utf-8")):
            if path.stem in ("charades_sta", "videommlu"):
                continue
            said = score(row["problem_type"], row["solution"], row["solution"], options=row["options"])
            assert (said.accuracy, said.format, said.total) == (1.0, 1.0, 1.0), f"{path.stem}: {row['problem_id']}"
            judged += 1
    assert judged > 150


def test_the_malformed_references_are_named_with_their_fault() -> None:
    scan = scan_source(SourceConfig(path=str(FOLDER / "charades_sta.json")), DataConfig(), check_media=False)
    assert scan.samples == []
    for bad in scan.bad:
        assert bad.field == "solution"
        assert "charades_sta.json:" in bad.where
        assert "it holds <think> but no <answer>...</answer>" in bad.what


def test_an_audit_of_all_of_them_finds_nothing_else() -> None:
    samples = [
        sample
        for path in FILES
        for sample in scan_source(SourceConfig(path=str(path)), DataConfig(), check_media=False).samples
    ]
    audits = {task.task: task for task in audit(samples, reference_scorer(RewardConfig()))}
    assert set(audits) == {
        "boolean",
        "multiple_choice",
        "numerical",
        "open_ended",
        "regression",
        "spatial_temporal_grounding",
    }
    assert all(task.imperfect == () and not task.unchecked for task in audits.values())
    assert audits["multiple_choice"].rows > 100
    constant = audits["multiple_choice"].constant
    assert constant is not None and 0.15 < constant.accuracy < 0.5
    assert audits["spatial_temporal_grounding"].scales is not None
