"""Whatever a file holds, its rows are used or refused: no row brings the reader down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyvideor1.config.schema import DataConfig, PromptConfig, SourceConfig
from easyvideor1.data import load_source, prompt_text
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.tasks import TASKS

from .conftest import row

COLUMNS = (*row(), "start", "end", "path", "image_path", "solution", "other")
text = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="AB.<>/()videoimganswer \n", max_size=24),
    st.sampled_from(
        [
            "a.mp4",
            "a.png",
            "<video>",
            "<image>",
            "<answer>B</answer>",
            "A. x",
            "video",
            "image",
            "text",
            "\ud800",
            *TASKS,
        ]
    ),
)
scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=2), max_leaves=5
)


@given(changes=st.lists(st.dictionaries(st.sampled_from(COLUMNS), value, max_size=4), min_size=1, max_size=8))
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_row_is_used_or_refused(media: Path, changes: list[dict[str, Any]]) -> None:
    path = media / "fuzz.jsonl"
    lines = [json.dumps(row(problem_id="sound"))] + [
        json.dumps(row(problem_id=f"r{i}") | c) for i, c in enumerate(changes)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    loaded = load_source(SourceConfig(path=str(path)), DataConfig(on_bad_row="skip"))
    assert len(loaded.samples) + len(loaded.bad) == len(changes) + 1
    assert loaded.samples[0].id == "sound"
    for sample in loaded.samples:
        marks = [mark.strip("<>") for mark in PLACEHOLDER.findall(sample.question)]
        assert marks == [ref.kind for ref in sample.media]
        assert sample.question.strip() and sample.answer.strip() and sample.id
        assert sample.question in prompt_text(sample, PromptConfig())
    for bad in loaded.bad:
        assert bad.what and bad.remedy


@given(content=st.binary(max_size=60) | st.text(alphabet='[]{},:"ab1 \n', max_size=60).map(str.encode))
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_are_rows_or_a_clear_refusal(media: Path, content: bytes) -> None:
    path = media / "bytes.jsonl"
    sound = json.dumps(row()).encode()
    path.write_bytes(sound + b"\n" + content)
    loaded = load_source(SourceConfig(path=str(path)), DataConfig(on_bad_row="skip"))
    assert loaded.samples[0].id == "r1"
    assert len(loaded.bad) == loaded.rows - 1
