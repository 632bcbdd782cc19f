"""Annotation rows of public benchmarks load as they are; the unsound ones among them are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from easyvideor1.config.schema import DataConfig, PromptConfig, SourceConfig
from easyvideor1.data import load_source, prompt_text, scan_source
from easyvideor1.rewards import score
from easyvideor1.types import DataError

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "benchmark_rows"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no benchmark rows at ../shared/reference/benchmark_rows")

# File -> (refused rows, column at fault): references in the wrong tag, an option without
# text, no question.
REFUSED = {
    "charades_sta": (6, "solution"),
    "longvideoreason": (1, "options"),
    "videommlu": (6, "problem"),
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_rows_of_a_benchmark(path: Path) -> None:
    count, field = REFUSED.get(path.stem, (0, ""))
    config = DataConfig(on_bad_row="skip")
    rows = len(json.loads(path.read_text(encoding="utf-8")))
    if count == rows:
        with pytest.raises(DataError, match=f"{rows} of {rows} rows cannot be used(.|\n)*field '{field}'"):
            load_source(SourceConfig(path=str(path)), config, check_media=False)
        return
    loaded = load_source(SourceConfig(path=str(path)), config, check_media=False)
    assert len(loaded.bad) == count, [str(bad) for bad in loaded.bad]
    assert {bad.field for bad in loaded.bad} <= {field}
    assert loaded.rows == rows
    for sample in loaded.samples:
        assert sample.media[0].kind == "video"
        assert sample.media[0].path.startswith(str(FOLDER))
        prompt = prompt_text(sample, PromptConfig())
        assert prompt.startswith(sample.question)
        assert all(option in prompt for option in sample.options)


def test_the_spans_of_charades_are_read_by_a_repair_that_has_a_name() -> None:
    path = FOLDER / "charades_sta.json"
    refused = scan_source(SourceConfig(path=str(path)), DataConfig(), check_media=False)
    assert {bad.remedy for bad in refused.bad} == {
        "add 'reference-in-thinking' to the 'repair' of this source, correct the reference answer or remove the row"
    }
    source = SourceConfig(path=str(path), repair=("reference-in-thinking",))
    loaded = load_source(source, DataConfig(), check_media=False)
    assert (loaded.bad, loaded.report.repaired) == ([], {"reference-in-thinking": 6})
    assert loaded.samples[0].id == "850"
    said = score(loaded.samples[0].task, "<answer>3.4 s to 11.8 s</answer>", loaded.samples[0].answer)
    assert said.accuracy > 0.99
