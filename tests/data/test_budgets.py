"""Sources and rows change the budgets of their own media; nothing else changes, and nonsense is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from easyvideor1.config import DataConfig, ImageBudget, SourceConfig, VideoBudget
from easyvideor1.config.media import changed, combine
from easyvideor1.data import BadRow, load_source, write_rows
from easyvideor1.types import BudgetChange, DataError, MediaRef, Sample

from .conftest import Rows, row


def load(path: Path, source: dict[str, Any] | None = None, **config: Any) -> list[Sample]:
    return load_source(SourceConfig(path=str(path), **(source or {})), DataConfig(**config)).samples


def refusal(path: Path, source: dict[str, Any] | None = None, **config: Any) -> BadRow:
    data = DataConfig(on_bad_row="skip", **config)
    (bad,) = load_source(SourceConfig(path=str(path), **(source or {})), data).bad
    return bad


BOTH = {"problem": "<image><video>Same?", "images": ["a.png"]}


def test_media_without_changes_carry_none(rows: Rows) -> None:
    (sample,) = load(rows(row(**BOTH, image_max_pixels=None, fps=None)))
    assert [ref.budget for ref in sample.media] == [None, None]
    assert not {"image_max_pixels", "fps"} & sample.extra.keys()


def test_a_row_changes_each_kind_of_its_media_alone(rows: Rows) -> None:
    columns = {"image_max_pixels": 4096, "video_max_frames": 8.0, "fps": 0.5, "video_total_pixels": 99_999}
    (sample,) = load(rows(row(**BOTH, **columns, level=2)))
    image, video = sample.media
    assert image.budget == BudgetChange(max_pixels=4096)
    assert video.budget == BudgetChange(max_frames=8, fps=0.5, total_pixels=99_999)
    assert isinstance(video.budget.max_frames, int)
    assert sample.extra == {"level": 2}


@pytest.mark.parametrize(
    ("column", "value", "kind", "change"),
    [
        ("image_min_pixels", 5000, "image", BudgetChange(min_pixels=5000)),
        ("image_rule", "hf", "image", BudgetChange(rule="hf")),
        ("video_rule", "uniform", "video", BudgetChange(rule="uniform")),
        ("video_min_pixels", 5000, "video", BudgetChange(min_pixels=5000)),
        ("video_max_pixels", 5000, "video", BudgetChange(max_pixels=5000)),
        ("video_min_frames", 6, "video", BudgetChange(min_frames=6)),
        ("video_fps", 4, "video", BudgetChange(fps=4)),
        ("nframes", 6, "video", BudgetChange(frames=6)),
        ("video_frames", 6, "video", BudgetChange(frames=6)),
    ],
)
def test_every_column_has_its_place(rows: Rows, column: str, value: Any, kind: str, change: BudgetChange) -> None:
    (sample,) = load(rows(row(**BOTH, **{column: value})))
    assert {ref.kind: ref.budget for ref in sample.media} == {"image": None, "video": None, kind: change}


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ({"image_max_pixels": "4096"}, "image_max_pixels", "is '4096', not a whole number above 0"),
        ({"video_max_frames": 2.5}, "video_max_frames", "is 2.5, not a whole number"),
        ({"video_max_frames": True}, "video_max_frames", "is True, not a whole number"),
        ({"video_min_pixels": 0}, "video_min_pixels", "is 0, not"),
        ({"fps": -1}, "fps", "is -1, not a number above 0"),
        ({"fps": [2]}, "fps", r"is \[2\], not a number"),
        ({"fps": 2, "video_fps": 3}, "video_fps", "is 3, another column says 2"),
        ({"nframes": 4, "fps": 2}, "nframes", "so fps has no effect"),
        ({"image_max_pixels": 100}, "image_max_pixels", r"min_pixels \(3136\) is larger than max_pixels \(100\)"),
        ({"video_max_frames": 2}, "video_max_frames", r"min_frames \(4\) is larger than max_frames \(2\)"),
        ({"video_rule": "fancy"}, "video_rule", "Input should be"),
        (
            {"image_max_pixels": 5000, "video_max_pixels": 5000, "fps": 2, "nframes": 4},
            "nframes",
            "so fps has no effect",
        ),
        ({"video_max_pixels": 5000, "video_max_frames": 2}, "video_max_frames", "min_frames"),
        ({"video_max_pixels": 10**400}, "video_max_pixels", r"is 10{23}, not a whole number above 0 and below 1e\+12"),
        ({"nframes": 10**30}, "nframes", "not a whole number"),
        ({"fps": 1e308}, "fps", "not a number above 0 and below"),
        ({"image_rule": ["qwen"]}, "image_rule", "not text"),
    ],
)
def test_what_is_no_budget_is_refused(rows: Rows, columns: dict[str, Any], field: str, words: str) -> None:
    bad = refusal(rows(row(problem_id="sound"), row(**BOTH, **columns)))
    assert bad.field == field and bad.where.endswith(":2") and bad.remedy
    assert re.search(words, bad.what), bad.what


def test_a_wrong_value_is_refused_even_where_no_medium_needs_it(rows: Rows) -> None:
    assert refusal(rows(row(problem_id="sound"), row(image_max_pixels="many"))).field == "image_max_pixels"
    (sample,) = load(rows(row(image_max_pixels=5000)))
    assert sample.media[0].budget is None


def test_budgets_of_rows_can_be_switched_off(rows: Rows) -> None:
    (sample,) = load(rows(row(fps="29.97 (NTSC)", nframes=300)), row_budgets=False)
    assert sample.media[0].budget is None and sample.extra == {"fps": "29.97 (NTSC)", "nframes": 300}


def test_a_source_changes_its_own_media_and_a_row_goes_before_it(rows: Rows) -> None:
    path = rows(row(**BOTH, problem_id="plain"), row(**BOTH, problem_id="own", video_max_pixels=9000, nframes=6))
    source = {"image": {"max_pixels": 4000}, "video": {"fps": 1.0, "max_frames": 16, "max_pixels": 8000}}
    plain, own = load(path, source)
    assert plain.media[0].budget == own.media[0].budget == BudgetChange(max_pixels=4000)
    assert plain.media[1].budget == BudgetChange(fps=1.0, max_frames=16, max_pixels=8000)
    # A number of frames takes the place of a rate.
    assert own.media[1].budget == BudgetChange(frames=6, max_pixels=9000)


def test_a_source_that_contradicts_the_run_is_an_error_of_the_configuration() -> None:
    for kind, change, words in (
        ("video", {"max_pixels": 100}, r"the video budget of the source a: min_pixels \(3136\)"),
        ("image", {"min_pixels": 2_000_000}, "the image budget of the source a"),
        ("video", {"frames": 4, "max_frames": 9}, "so max_frames has no effect"),
    ):
        with pytest.raises(ValidationError, match=words):
            DataConfig.model_validate({"train": [{"path": "a", kind: change}]})
    with pytest.raises(ValidationError, match="max_frames has no effect where frames is 8"):
        DataConfig.model_validate({"video": {"frames": 8}, "test": [{"path": "a", "video": {"max_frames": 4}}]})


def test_changes_add_up() -> None:
    base = VideoBudget(frames=8)
    assert changed(base, None) is base
    assert changed(base, BudgetChange(fps=1.0)) == VideoBudget(fps=1.0)
    assert changed(base, BudgetChange(frames=4, max_pixels=5000)) == VideoBudget(frames=4, max_pixels=5000)
    assert changed(ImageBudget(), BudgetChange(min_pixels=9)) == ImageBudget(min_pixels=9)
    with pytest.raises(ValueError, match="fps is for videos only"):
        changed(ImageBudget(), BudgetChange(fps=1.0))
    one, other = BudgetChange(frames=8, max_pixels=5000), BudgetChange(fps=2.0)
    assert combine(one, None) == one and combine(None, other) == other
    assert combine(one, other) == BudgetChange(fps=2.0, max_pixels=5000)
    assert combine(other, one) == one


def test_rows_are_written_with_their_budgets(rows: Rows, tmp_path: Path) -> None:
    path = rows(row(**BOTH, image_max_pixels=4096, fps=0.5, video_rule="uniform"), row(problem_id="plain"))
    samples = load(path, {"video": {"max_frames": 12}})
    for name in ("again.jsonl", "again.parquet"):
        assert write_rows(tmp_path / name, samples) == 2
        again = load(tmp_path / name)
        assert [sample.media for sample in again] == [sample.media for sample in samples]
    assert samples[0].media[1].budget == BudgetChange(rule="uniform", fps=0.5, max_frames=12)
    video = [MediaRef("video", "/a.mp4", budget=BudgetChange(fps=fps)) for fps in (1.0, 2.0)]
    torn = Sample("t", "<video><video>?", "math", "1", media=tuple(video))
    with pytest.raises(DataError, match="sample 't': its videos have different budgets"):
        write_rows(tmp_path / "torn.jsonl", [torn])
