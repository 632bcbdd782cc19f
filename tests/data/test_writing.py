"""What is written is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import load_source, write_rows
from easyvideor1.types import DataError, MediaRef, OfflineTrajectory, Sample


@pytest.fixture
def samples(media: Path) -> list[Sample]:
    video, image = MediaRef("video", str(media / "a.mp4"), 0.25, 1.0), MediaRef("image", str(media / "a.png"))
    two = (OfflineTrajectory("5"), OfflineTrajectory("five"))
    return [
        Sample("s1", "<video>Which?", "multiple_choice", "B", (video,), ("A. x", "B. y"), "one", extra={"level": 2}),
        Sample(
            "s2",
            "<image> in <video>?",
            "video_qa",
            "Zoë's",
            (image, replace(video, start=None, end=None)),
            source="one",
        ),
        Sample("s3", "2 + 2?", "numerical", "4", source="two", offline=(OfflineTrajectory("4", (-0.5, -1.0)),)),
        Sample("s4", "2 + 3?", "numerical", "5", source="two", offline=two),
        Sample("s5", "2 + 4?", "numerical", "6", source="two", offline=(OfflineTrajectory("6", None, ("a", "b")),)),
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_round_trip(samples: list[Sample], media: Path, suffix: str) -> None:
    path = media / f"written{suffix}"
    assert write_rows(path, samples) == 5
    loaded = load_source(SourceConfig(path=str(path)), DataConfig()).samples
    for back, sample in zip(loaded, samples, strict=True):
        # A table has every column in every row.
        extra = {key: value for key, value in back.extra.items() if value is not None}
        assert replace(back, where="", extra=extra) == sample
    assert not list(media.glob(f".{path.name}*"))


def test_media_beside_the_file_are_named_relative_to_it(samples: list[Sample], media: Path, tmp_path: Path) -> None:
    write_rows(media / "near.jsonl", samples)
    write_rows(tmp_path / "new" / "far.jsonl", samples)
    assert '"videos": ["a.mp4"]' in (media / "near.jsonl").read_text()
    assert f'"videos": ["{media}/a.mp4"]' in (tmp_path / "new" / "far.jsonl").read_text()


def test_a_failed_write_leaves_the_old_file(samples: list[Sample], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, samples)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"sample 's1': .*set is not JSON serializable"):
        write_rows(path, [replace(samples[0], extra={"x": {1, 2}})])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]


def test_what_a_row_cannot_hold(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name the file .jsonl, .json or .parquet"):
        write_rows(tmp_path / "rows.csv", samples)
    clip = samples[0].media[0]
    two = replace(samples[0], question="<video><video>?", media=(clip, clip))
    with pytest.raises(DataError, match=r"sample 's1': a row .* the clip of one video only"):
        write_rows(tmp_path / "rows.jsonl", [two])
    with pytest.raises(DataError, match="the rows do not fit one table"):
        write_rows(tmp_path / "rows.parquet", [samples[0], replace(samples[1], extra={"level": "high"})])


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_number_that_json_does_not_have_is_refused(samples: list[Sample], tmp_path: Path, suffix: str) -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"not JSON compliant.*drop that column"):
            write_rows(tmp_path / f"rows{suffix}", [replace(samples[0], extra={"level": bad})])
    assert list(tmp_path.iterdir()) == []
