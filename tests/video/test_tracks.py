"""``tracks.json`` is read exactly, or refused with the place of its fault."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from easyvideor1.types import DataError, MediaInfo
from easyvideor1.video.tracks import read_tracks, tracks_beside, tracks_file, video_fault

GOOD = {
    "width": 64,
    "height": 48,
    "frames": 4,
    "objects": [
        {"id": 7, "label": "dog", "boxes": {"3": [1, 2, 3, 4.5]}},
        {"id": 2, "boxes": {}},
    ],
}
INFO = MediaInfo("a.mp4", "video", "f", "h264", 64, 48, timestamps=(0.0, 1.0, 2.0, 3.0), duration=4.0)


def write(path, value) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_tracks_are_read_in_the_order_of_their_numbers(tmp_path) -> None:
    file = tracks_file(write(tmp_path / "a.tracks.json", GOOD))
    tracks = read_tracks(file)
    assert [track.id for track in tracks.objects] == [2, 7]
    assert tracks.of(7).boxes == {3: (1.0, 2.0, 3.0, 4.5)} and tracks.of(7).label == "dog" and tracks.of(1) is None
    assert tracks_beside("/x/clip.one.mp4") == "/x/clip.one.tracks.json"


def box(value) -> dict:
    return {**GOOD, "objects": [{"id": 1, "boxes": {"0": value}}]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "no JSON"),
        ([], "not an object"),
        ({**GOOD, "width": 0}, "width is 0"),
        ({**GOOD, "frames": True}, "frames is True"),
        ({**GOOD, "fps": 0}, "fps is 0, not a number above 0"),
        ({**GOOD, "objects": {}}, "objects is not a list"),
        ({**GOOD, "objects": [{"id": "1", "boxes": {}}]}, r"objects\[0\].id is '1'"),
        ({**GOOD, "objects": [GOOD["objects"][0]] * 2}, r"objects\[1\].id is 7, which an object before it has"),
        ({**GOOD, "objects": [{"id": 1, "boxes": {"4": [1, 2, 3, 4]}}]}, "index of one of 4 frames"),
        ({**GOOD, "objects": [{"id": 1, "boxes": {"-1": [1, 2, 3, 4]}}]}, "index of one of 4 frames"),
        (box([1, 2, 3]), "not four numbers"),
        (box([1, 2, 1, 4]), "second corner must lie right of and below"),
        (box([1, 2, float("nan"), 4]), "not four numbers"),
        (
            box([0.1, 0.2, 0.5, 1.0]),
            r"all coordinates lie in \[0, 1\], as \[0.1, 0.2, 0.5, 1.0\] in frame 0 of the obj",
        ),
        (box([64, 2, 70, 4]), r"boxes\['0'\] is \[64, 2, 70, 4\], which lies outside of the picture of 64 x 48"),
        (box([1, -9, 7, 0]), "lies outside of the picture"),
        ({**GOOD, "objects": [{"id": 1, "boxes": {"1": [1, 2, 3, 4], "01": [5, 6, 7, 8]}}]}, r"\['01'\]: an index is"),
    ],
)
def test_faults_are_named(tmp_path, value, said) -> None:
    path = write(tmp_path / "bad.tracks.json", value)
    with pytest.raises(DataError, match=rf"bad\.tracks\.json: .*{said}"):
        tracks_file(path)


def test_a_box_of_one_pixel_and_boxes_over_the_edge_are_boxes(tmp_path) -> None:
    boxes = {"0": [0, 0, 1, 1], "1": [-5, -5, 1, 1], "2": [63, 47, 90, 90]}
    tracks = read_tracks(
        tracks_file(write(tmp_path / "a.tracks.json", {**GOOD, "objects": [{"id": 1, "boxes": boxes}]}))
    )
    assert tracks.of(1).boxes[0] == (0.0, 0.0, 1.0, 1.0) and len(tracks.of(1).boxes) == 3


def test_tracks_of_another_video_are_told(tmp_path) -> None:
    tracks = read_tracks(tracks_file(write(tmp_path / "a.tracks.json", GOOD)))
    assert video_fault(tracks, INFO) == ""
    assert "the video has 640 x 48 and 4" in video_fault(tracks, replace(INFO, width=640))
    assert "the video has 64 x 48 and 3" in video_fault(tracks, replace(INFO, timestamps=(0.0, 1.0, 2.0)))


def test_tracks_that_change_under_a_run_are_refused(tmp_path) -> None:
    path = write(tmp_path / "a.tracks.json", GOOD)
    file = tracks_file(path)
    write(tmp_path / "a.tracks.json", {**GOOD, "frames": 9})
    with pytest.raises(DataError, match="have changed since"):
        read_tracks(file)
    (tmp_path / "a.tracks.json").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        tracks_file(path)
