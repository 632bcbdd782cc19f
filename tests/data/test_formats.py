"""Rows as other frameworks write them become the samples they stand for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import BadRow, Loaded, distinct_stems, load_source, scan_source, shared_ids
from easyvideor1.types import BudgetChange, ConfigError, MediaRef, Sample

from .conftest import Rows, row

SHARED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "rows"
TEXT = {"type": "text", "text": "How many?"}
TURNS = [{"role": "user", "content": "<image>How many?"}]


def load(path: Path, tmp_path: Path | None = None, **source: Any) -> Loaded:
    embedded = None if tmp_path is None else tmp_path / "embedded"
    return scan_source(SourceConfig(path=str(path), **source), DataConfig(), embedded=embedded)


def one(path: Path, tmp_path: Path | None = None, **source: Any) -> Sample:
    loaded = load(path, tmp_path, **source)
    assert not loaded.bad, loaded.bad
    (sample,) = loaded.samples
    return sample


def refusal(path: Path, **source: Any) -> BadRow:
    (bad,) = load(path, **source).bad
    return bad


#: Name -> a raw row about ``a.png`` or ``a.mp4``, and the settings of its source.
FORMATS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({"problem": "<image>How many?", "answer": "3", "problem_type": "numerical", "images": ["a.png"]}, {}),
    "easyr1": ({"images": ["a.png"], "problem": "<image>How many?", "answer": "3"}, {"task": "numerical"}),
    "ms-swift": ({"messages": TURNS, "images": ["a.png"], "solution": "3"}, {"task": "numerical"}),
    "trl": (
        {
            "prompt": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": [{"type": "image", "image": "a.png"}, TEXT]},
            ],
            "solution": "<answer>3</answer>",
        },
        {"task": "numerical"},
    ),
    "trl without paths": (
        {"prompt": [{"role": "user", "content": [{"type": "image"}, TEXT]}],
         "images": ["a.png"], "answer": 3},
        {"task": "counting"},
    ),
    "llava": (
        {
            "id": "x7",
            "image": "a.png",
            "conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "3"}],
        },
        {"task": "numerical"},
    ),
    "verl": (
        {
            "data_source": "geo",
            "prompt": TURNS,
            "images": [{"image": "a.png"}],
            "reward_model": {"style": "rule", "ground_truth": "3"},
            "extra_info": {"index": 5, "split": "train", "answer": "so it is 3", "level": 2},
        },
        {"task": "numerical"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_sample(rows: Rows, media: Path, name: str) -> None:
    raw, settings = FORMATS[name]
    sample = one(rows(raw), **settings)
    assert (sample.question, sample.task, sample.answer) == ("<image>How many?", "numerical", "3")
    assert sample.media == (MediaRef("image", str(media / "a.png")),)


def test_what_a_format_says_beside(rows: Rows) -> None:
    assert one(rows(FORMATS["llava"][0]), task="numerical").id == "x7"
    verl = one(rows(FORMATS["verl"][0]), task="numerical")
    assert (verl.id, verl.source, verl.extra["level"]) == ("geo-train-5", "geo", 2)
    assert one(rows(FORMATS["trl"][0]), task="numerical").extra["system"] == "Think."


def test_a_last_turn_beside_a_reference_is_an_offline_trajectory(rows: Rows) -> None:
    turns = [*TURNS, {"role": "assistant", "content": "<answer>3</answer>"}]
    sample = one(rows({"messages": turns, "images": ["a.png"], "solution": "3"}), task="numerical")
    assert [one.text for one in sample.offline] == ["<answer>3</answer>"]


def test_a_video_of_llava_is_marked_as_one(rows: Rows, media: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nDoes it move?"}, {"from": "gpt", "value": "Yes"}]
    sample = one(rows({"id": 1, "video": "a.mp4", "conversations": turns}), task="boolean")
    assert (sample.question, sample.media) == ("<video>\nDoes it move?", (MediaRef("video", str(media / "a.mp4")),))


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        ({"messages": [*TURNS, {"role": "assistant", "content": "3"}, *TURNS], "solution": "3"}, "messages", "2 quest"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "turn 1 is of 'tool'"),
        ({"messages": [{"content": "x"}]}, "messages", "has no role"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages", "'audio'"),
        ({"prompt": TURNS, "reward_model": {"style": "rule"}}, "reward_model", "no ground_truth"),
    ],
)  # fmt: skip
def test_what_is_no_question_with_an_answer_is_refused(rows: Rows, raw: dict[str, Any], field: str, words: str) -> None:
    bad = refusal(rows(raw), task="numerical")
    assert bad.field == field and words in bad.what


def test_a_function_of_the_user_makes_rows(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rows.py").write_text(
        "def convert(row):\n"
        "    return {'problem': row['q'], 'answer': 1 / row['n'], 'problem_type': 'numerical'}\n"
        "def nothing(row):\n    return None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load(rows({"q": "What?", "n": 4}, {"q": "What?", "n": 0}), format="own_rows:convert")
    assert [sample.answer for sample in loaded.samples] == ["0.25"]
    assert "the format 'own_rows:convert' raised ZeroDivisionError" in loaded.bad[0].what
    assert "returned NoneType, not a row" in refusal(rows({"q": "What?"}), format="own_rows:nothing").what
    with pytest.raises(ConfigError, match="known are auto, published, messages, conversations, verl"):
        load(rows({"q": "What?"}), format="sharegpt")


def test_options_in_every_shape(rows: Rows) -> None:
    for options in (["left", "right"], {"A": "left", "B": "right"}, '["left", "right"]', '{"A": "left", "B": "right"}'):
        assert one(rows(row(options=options))).options == ("A. left", "B. right")
    assert one(rows(row(options=float("nan"), problem_type="boolean", answer="yes"))).options == ()
    for options in (None, [], ""):
        bad = refusal(rows(row(options=options)))
        assert (bad.field, bad.what) == ("options", "are missing, and the question lists none")
    assert one(rows(row(options=None, problem="<video>Which? (A) left (B) right"))).options == ()
    picture = row(options=None, problem="<image>Which?", videos=None, images=["a.png"], data_type="image")
    assert refusal(rows(picture)).field == "options", "a picture is no list of options"
    assert one(rows(picture | {"options": ["A", "B"]})).options == ("A. A", "B. B")


@pytest.mark.parametrize(
    "options",
    [
        {"(A)": "left", "(B)": "right"},
        {"a": "left", "b": "right"},
        {"A": "A. left", "B": "B. right"},
        {"A": "left", "B": "right", "C": None},
    ],
)
def test_options_by_letter(rows: Rows, options: dict[str, Any]) -> None:
    assert one(rows(row(options=options))).options == ("A. left", "B. right")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": ["A", "B"], "text": ["left", "right"]}, "the key 'label', which is not a letter"),
        ({"1": "left", "2": "right"}, "the key '1', which is not a letter"),
        ({"A": ["left"], "B": "right"}, "option 'A' is ['left'], not text"),
        ({"A": "left", "C": "right"}, "have the letters A, C"),
        ('{"A": ', "is not valid JSON"),
    ],
)
def test_mappings_that_are_no_options_by_letter(rows: Rows, options: Any, words: str) -> None:
    bad = refusal(rows(row(options=options)))
    assert bad.field == "options" and words in bad.what


def test_gaps_of_data_frames_are_nulls(rows: Rows) -> None:
    nan = float("nan")
    gaps = row(data_type=nan, problem_type=nan, images=nan, offline_output=nan, start=nan, fps=nan, level=nan)
    sample = one(rows(gaps), task="multiple choice")
    assert (sample.task, sample.offline, sample.extra) == ("multiple_choice", (), {"level": None})
    assert sample.media[0].start is None and sample.media[0].budget is None
    assert "is nan" in refusal(rows(row(answer=nan))).what


def test_references_in_the_forms_of_answers(rows: Rows) -> None:
    for answer in ("from 3.2 to 7.5 seconds", "3.2-7.5", "0:03 to 0:07", [3, 7], '{"start": 3, "end": 7}'):
        assert one(rows(row(options=None, problem_type="temporal_grounding", answer=answer))).answer
    for answer in ({"bbox_2d": [1, 2, 3, 4]}, "[1, 2, 3, 4]"):
        assert one(rows(row(options=None, problem_type="spatial_grounding", answer=answer))).answer


def test_ids_are_unique_and_say_where_a_row_is(media: Path) -> None:
    path = media / "list.json"
    path.write_text(
        json.dumps([{"problem": f"What is {n}?", "answer": n, "problem_type": "numerical"} for n in range(3)])
    )
    loaded = load(path)
    assert [sample.id for sample in loaded.samples] == ["list:1", "list:1#2", "list:1#3"]
    assert [sample.where for sample in loaded.samples] == [f"{path}:1", f"{path}:1#2", f"{path}:1#3"]
    assert distinct_stems(["a/train.jsonl", "b/train.jsonl", "b/test.jsonl"]) == ["a/train", "b/train", "test"]


def test_ids_that_sources_share_are_found(rows: Rows) -> None:
    sources = [load(rows(row(problem_id="x"), row(problem_id=name))) for name in ("y", "z")]
    assert [(one.where, other.where) for one, other in shared_ids(sources)] == [
        (sources[0].samples[0].where, sources[1].samples[0].where)
    ]


def test_whole_floats_are_identifiers(rows: Rows) -> None:
    assert one(rows(row(problem_id=3.0))).id == "3"
    path = rows(row(problem_id=float("nan")))
    assert one(path).id == f"{path.stem}:1"


def test_local_urls_are_paths_and_others_are_refused(rows: Rows, media: Path) -> None:
    assert one(rows(row(videos=[f"file://{media}/a.mp4"]))).media[0].path == str(media / "a.mp4")
    bad = refusal(rows(row(videos=["https://example.org/a.mp4"])))
    assert bad.field == "videos" and "is the URL" in bad.what and "download" in bad.remedy


def test_a_video_with_limits_and_a_clip_of_its_own(rows: Rows, media: Path) -> None:
    entry = {"video": "a.mp4", "fps": 1.5, "max_pixels": 4096, "video_start": 0.25, "video_end": 0.75}
    (ref,) = one(rows(row(videos=[entry]))).media
    change = BudgetChange(fps=1.5, max_pixels=4096)
    assert ref == MediaRef("video", str(media / "a.mp4"), 0.25, 0.75, change)
    assert "unknown key 'fsp'" in refusal(rows(row(videos=[{"video": "a.mp4", "fsp": 1}]))).what
    assert "not after video_start" in refusal(rows(row(videos=[{**entry, "video_end": 0.25}]))).what


def test_pictures_in_rows_are_written_once(media: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 7, np.uint8)).save(buffer, "PNG")
    bare = {"problem": "<image>How many?", "answer": "3", "problem_type": "numerical"}
    table = pa.Table.from_pylist(
        [{**bare, "images": [{"bytes": buffer.getvalue(), "path": name}]} for name in ("x", None)]
    )
    path = media / "embedded.parquet"
    parquet.write_table(table, path)
    loaded = load(path, tmp_path)
    assert not loaded.bad
    assert {sample.media for sample in loaded.samples} == {loaded.samples[0].media}
    (file,) = [entry for entry in (tmp_path / "embedded").rglob("*") if entry.is_file()]
    assert loaded.samples[0].media[0].path == str(file) and file.read_bytes() == buffer.getvalue()


def test_data_urls_are_pictures(rows: Rows, media: Path, tmp_path: Path) -> None:
    content = (media / "a.png").read_bytes()
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, TEXT]
    path = rows({"messages": [{"role": "user", "content": parts}], "solution": "3"})
    assert Path(one(path, tmp_path, task="numerical").media[0].path).read_bytes() == content
    bad = refusal(rows({"problem": "How many?", "answer": "3", "images": [f"{url}!"]}), task="numerical")
    assert bad.field == "images" and "not base64" in bad.what


def test_offline_logprobs_in_a_column_of_their_own(rows: Rows) -> None:
    (trajectory,) = one(
        rows(row(offline_output="<answer>B</answer>", offline_logprobs=[-1.0, -2], has_offline_trajectory=True))
    ).offline
    assert trajectory.logprobs == (-1.0, -2.0)
    assert refusal(rows(row(offline_output=["a", "b"], offline_logprobs=[-1.0]))).field == "offline_logprobs"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no case files at ../shared/cases/rows")
@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("easyr1_columns.jsonl", {"task": "math"}, 1),
        ("embedded.parquet", {}, 1),
        ("tracking_struct.parquet", {}, 2),
        ("list_answers.jsonl", {}, 5),
        ("control_tokens.jsonl", {}, 1),
    ],
)
def test_rows_that_failed_elsewhere(tmp_path: Path, name: str, settings: dict[str, Any], count: int) -> None:
    source = SourceConfig(path=str(SHARED / name), **settings)
    assert len(load_source(source, DataConfig(), embedded=tmp_path).samples) == count
