"""Files of events of videos, as sources of temporal grounding."""

import json

import pytest

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import load_source, scan_source
from easyvideor1.data.row_files import read_rows
from easyvideor1.rewards import score

VIDEOS = {
    "v_a": {
        "duration": 82.73,
        "timestamps": [[0.83, 19.86], [17.37, 60.81]],
        "sentences": ["A woman is seen.", "She moves."],
    },
    "v_b": {"duration": 30.0, "timestamps": [[1, 2.5]], "sentences": ["A dog runs."]},
}


def scanned(path, **source):
    return scan_source(SourceConfig(path=str(path), **source), DataConfig(), check_media=False)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_of_videos_is_a_row_per_event(tmp_path, indent):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(VIDEOS, indent=indent))
    loaded = scanned(path)
    assert loaded.bad == [] and [sample.id for sample in loaded.samples] == ["v_a-0", "v_a-1", "v_b-0"]
    first = loaded.samples[0]
    assert (first.task, first.question) == (
        "temporal_grounding",
        '<video>\nWhen does this happen in the video? "A woman is seen"',
    )
    assert (json.loads(first.answer), first.extra["duration"]) == ({"time": [0.83, 19.86]}, 82.73)
    assert score(first.task, '<answer>{"time": [0.83, 19.86]}</answer>', first.answer).accuracy == 1
    assert score(first.task, "<answer>50 to 60 seconds</answer>", first.answer).accuracy == 0


def test_lines_of_charades_are_a_row_each(tmp_path):
    path = tmp_path / "charades_sta_train.txt"
    lines = ("AO8RW 0.0 6.9##a person puts a book down.", "Y6R7T 20.8 30.0##  person laughs ## twice", "broken")
    path.write_text("\ufeff{}\n\n{}\n{}\nX 3.1.2 4##a\n".format(*lines))
    loaded = scanned(path)
    assert [(one.question, one.answer) for one in loaded.samples] == [
        ('<video>\nWhen does this happen in the video? "a person puts a book down"', '{"time": [0.0, 6.9]}'),
        ('<video>\nWhen does this happen in the video? "person laughs ## twice"', '{"time": [20.8, 30.0]}'),
    ]
    assert [(bad.where, bad.field) for bad in loaded.bad] == [(f"{path}:4", ""), (f"{path}:5", "timestamp")]
    assert "is 'broken', not 'VIDEO START END##SENTENCE'" in loaded.bad[0].what
    assert len({sample.id for sample in loaded.samples}) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"timestamps": [[5, 5]], "sentences": ["a"]}, "ends at 5 s, not after its start at 5 s"),
        ({"timestamps": [[9, 3]], "sentences": ["a"]}, "ends at 3 s, not after its start at 9 s"),
        ({"timestamps": [[31, 35]], "sentences": ["a"]}, "starts at 31 s, but the video has 30.0 s"),
        ({"timestamps": [[1]], "sentences": ["a"]}, "is [1], not a span"),
        ({"timestamps": [["1", "2"]], "sentences": ["a"]}, "not a span"),
        ({"timestamps": [[1, 2], [3, 4]], "sentences": ["a"]}, "sentences (1) and timestamps (2) that do not match"),
        ({"timestamps": None, "sentences": ["a"]}, "timestamps (no list) that do not match"),
        ({"timestamps": [[1, 2]], "sentences": [""]}, "is blank"),
        ({"timestamps": [[1, 2]], "sentences": [None]}, "is blank"),
    ],
)  # fmt: skip
def test_an_unsound_event_is_refused_alone(tmp_path, change, told):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({**VIDEOS, "v_c": {"duration": 30.0, **change}}))
    loaded = scanned(path)
    assert len(loaded.samples) == 3 and len(loaded.bad) == 1
    assert told in loaded.bad[0].what


def test_other_json_files_are_read_as_before(tmp_path):
    row = {"problem": "Why?", "answer": "A", "sentences": ["x"], "timestamps": [[0, 1]]}
    lines = tmp_path / "lines.json"
    lines.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    assert [found for _, found in read_rows(lines)] == [row, row]
    one = tmp_path / "one.json"
    one.write_text(json.dumps(row))
    assert [found for _, found in read_rows(one)] == [row]
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(VIDEOS)[:-10])
    assert all(not isinstance(found, dict) for _, found in read_rows(cut))


def test_a_video_is_found_by_its_id(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(VIDEOS))
    media = tmp_path / "videos"
    media.mkdir()
    (media / "v_a.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(64))
    source = SourceConfig(path=str(tmp_path / "train.json"), media_root=str(media))
    loaded = load_source(source, DataConfig(on_bad_row="skip"))
    assert {sample.media[0].path for sample in loaded.samples} == {str(media / "v_a.mkv")}
    assert len(loaded.bad) == 1 and "v_b" in loaded.bad[0].what


def test_rows_of_the_hub_with_a_caption_are_events_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"video": "3MSZA.mp4", "caption": "person turn a light on.", "timestamp": [24.3, 30.4]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "timestamp": [1, 2]}) + "\n")
    loaded = scanned(path)
    assert loaded.bad == [] and [sample.id for sample in loaded.samples] == ["3MSZA.mp4-24.3-30.4", "3MSZA.mp4-1-2"]
