"""Annotation rows that have the columns of Video-R1-260k train as they are: prompts, references, rewards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from easyvideor1.config import load_config
from easyvideor1.data import prompt_text, scan_source
from easyvideor1.data.duplicates import find_repeated
from easyvideor1.rewards import score

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "benchmark_rows"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no annotation rows at ../shared/reference/benchmark_rows")

#: Task types of Video-R1-260k.
TASKS = {"multiple_choice", "numerical", "regression", "open_ended", "ocr"}


def rows_of(path: Path) -> list[dict[str, object]]:
    columns = ("problem_id", "problem", "data_type", "problem_type", "options", "solution", "path", "data_source")
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [{name: row[name] for name in columns if name in row} for row in rows]


def test_rows_in_the_columns_of_video_r1_are_used_with_the_settings_of_the_recipe(tmp_path: Path) -> None:
    config = load_config("real/qwen3_vl_8b")
    source = config.data.train[0]
    rows = [
        row for path in sorted(FOLDER.glob("*.json")) for row in rows_of(path) if {"path", "solution"} <= row.keys()
    ]
    for number, row in enumerate(rows):
        row["problem_id"] = number
    file = tmp_path / "Video-R1-260k.json"
    file.write_text(json.dumps(rows))
    local = source.model_copy(update={"path": str(file), "media_root": str(tmp_path)})
    loaded = scan_source(local, config.data, check_media=False)
    reasons: dict[str, int] = {}
    for bad in loaded.bad:
        reasons[bad.field] = reasons.get(bad.field, 0) + 1
    assert reasons == {"solution": 6, "options": 1, "problem": 6}
    assert len(loaded.samples) == len(rows) - 13
    for sample in loaded.samples:
        prompt = prompt_text(sample, config.prompts)
        assert "<think>" in prompt and "<answer>" in prompt
        said = f"<think>Because.</think><answer>{sample.answer}</answer>"
        assert score(sample.task, said, sample.answer, options=sample.options).accuracy > 0.99, sample.where
    assert {sample.task for sample in loaded.samples} - TASKS <= {"boolean", "spatial_temporal_grounding"}
    repeated = find_repeated(loaded.samples)
    assert repeated.conflicts == []


def test_the_task_of_the_overlay_reads_rows_of_longvideo_reason(tmp_path: Path) -> None:
    """Their columns by the authors' own code: problem with the options in it, answer, videos."""
    config = load_config("real/qwen3_vl_8b+data_longvideo_reason")
    rows = []
    for row in rows_of(FOLDER / "longvideoreason.json"):
        options = row["options"]
        assert isinstance(options, list)
        text = "\n".join([str(row["problem"]), *options])
        rows.append({"problem": text, "answer": row["solution"], "videos": [row["path"]]})
    rows.append({"problem": "What happens?", "answer": "A", "videos": ["x.mp4"]})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = config.data.train[0].model_copy(update={"path": f"{tmp_path}@train", "media_root": str(tmp_path)})
    loaded = scan_source(source, config.data, check_media=False)
    assert [bad.field for bad in loaded.bad] == ["options"] and len(loaded.samples) == 6
    assert {sample.task for sample in loaded.samples} == {"multiple_choice"}
    for sample in loaded.samples:
        said = f"<think>Because.</think><answer>{sample.answer}</answer>"
        assert score(sample.task, said, sample.answer, options=sample.options).accuracy == 1
