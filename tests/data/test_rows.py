"""Rows of every sound form become the Sample they stand for; every unsound one is refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import BadRow, load_source
from easyvideor1.types import DataError, MediaRef, OfflineTrajectory, Sample

from .conftest import Rows, row


def one(path: Path, **config: Any) -> Sample:
    (sample,) = load_source(SourceConfig(path=str(path)), DataConfig(**config)).samples
    return sample


def refusal(path: Path, **config: Any) -> BadRow:
    """The only bad row of a file that ends with a sound one."""
    loaded = load_source(SourceConfig(path=str(path)), DataConfig(on_bad_row="skip", **config))
    assert len(loaded.samples) == loaded.rows - 1
    (bad,) = loaded.bad
    return bad


def test_a_whole_row(rows: Rows, media: Path) -> None:
    path = rows(row(offline_output="<answer>B</answer>", has_offline_trajectory=True, level=3, note=None))
    assert one(path) == Sample(
        id="r1",
        question="<video>Which way does it move?",
        task="multiple_choice",
        answer="B",
        media=(MediaRef("video", str(media / "a.mp4")),),
        options=("A. left", "B. right"),
        source="unit",
        offline=(OfflineTrajectory("<answer>B</answer>"),),
        extra={"level": 3, "note": None},
        where=f"{path}:1",
    )


def test_a_bare_text_row(rows: Rows) -> None:
    path = rows({"problem": "How much is 2 + 2?", "answer": 4, "problem_type": "Number", "images": [], "videos": None})
    sample = one(path)
    assert (sample.id, sample.source) == (f"{path.stem}:1", path.stem)
    assert (sample.task, sample.answer, sample.media, sample.options) == ("numerical", "4", (), ())


@pytest.mark.parametrize(
    ("task", "value", "text"),
    [
        ("numerical", 7, "7"),
        ("numerical", 0.25, "0.25"),
        ("numerical", "<answer> 12 </answer>", "12"),
        ("temporal grounding", {"time": [1, 2.5]}, '{"time": [1, 2.5]}'),
        ("boolean", True, "true"),
        ("open-ended", "  a red car ", "a red car"),
    ],
)
def test_answers_become_text(rows: Rows, task: str, value: Any, text: str) -> None:
    assert one(rows(row(problem_type=task, answer=value, options=None))).answer == text


@pytest.mark.parametrize(
    ("given", "lettered"),
    [
        (["left", "right"], ("A. left", "B. right")),
        (["A: left", "B) right"], ("A. left", "B. right")),
        (["(B) left", "(A) right"], ("B. left", "A. right")),
        (["B", "A"], ("B. B", "A. A")),
        ([10, 2.5], ("A. 10", "B. 2.5")),
    ],
)
def test_options_bear_letters(rows: Rows, given: list[Any], lettered: tuple[str, ...]) -> None:
    assert one(rows(row(options=given))).options == lettered


def test_media_without_placeholders_come_first_videos_before_images(rows: Rows) -> None:
    sample = one(rows(row(problem="What is it?", videos=["a.mp4", "b.mkv"], images=["a.png"])))
    assert sample.question == "<video><video><image>\nWhat is it?"
    assert [Path(ref.path).name for ref in sample.media] == ["a.mp4", "b.mkv", "a.png"]


def test_media_take_the_order_of_their_placeholders(rows: Rows) -> None:
    question = "Is <image> in <video>, or <image>?"
    sample = one(rows(row(problem=question, images=["b.jpg", "a.png"])))
    assert sample.question == question
    assert [Path(ref.path).name for ref in sample.media] == ["b.jpg", "a.mp4", "a.png"]


def test_start_and_end_are_the_clip_of_the_single_video(rows: Rows, media: Path) -> None:
    sample = one(rows(row(problem="<image><video>Same?", images=["a.png"], start=1, end=2.5)))
    assert sample.media == (
        MediaRef("image", str(media / "a.png")),
        MediaRef("video", str(media / "a.mp4"), 1.0, 2.5),
    )
    assert one(rows(row(end=0.5))).media[0] == MediaRef("video", str(media / "a.mp4"), None, 0.5)
    assert "start" not in sample.extra


def test_evaluation_rows_name_their_media_in_path_and_their_answer_in_solution(rows: Rows, media: Path) -> None:
    given = row(path="./a.mp4", image_path="a.png", solution="<answer>A</answer>", answer="left", videos=...)
    sample = one(rows(given))
    assert sample.question == "<image>\n<video>Which way does it move?"
    assert sample.media == (MediaRef("image", str(media / "a.png")), MediaRef("video", str(media / "a.mp4")))
    assert (sample.answer, sample.extra) == ("A", {"answer": "left"})


def test_an_evaluation_row_of_a_picture(rows: Rows) -> None:
    given = row(path="a.png", solution="B", problem="What?", answer=..., videos=..., images=..., data_type=None)
    assert one(rows(given)).media[0].kind == "image"


def test_other_column_names(rows: Rows) -> None:
    given = row(prompt="<video>Hm?", gt="A", clips=["a.mp4"], problem=..., answer=..., videos=...)
    sample = one(rows(given), question_key="prompt", answer_key="gt", video_key="clips")
    assert (sample.question, sample.answer, sample.media[0].kind, sample.extra) == ("<video>Hm?", "A", "video", {})


def test_media_root_and_absolute_paths(rows: Rows, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    path.parent.mkdir()
    path.write_bytes(rows(row()).read_bytes())
    source = SourceConfig(path=str(path), media_root=str(media))
    assert load_source(source, DataConfig()).samples[0].media[0].path == str(media / "a.mp4")
    with pytest.raises(DataError, match="set media_root of the source"):
        load_source(SourceConfig(path=str(path)), DataConfig())
    assert one(rows(row(videos=[str(media / "b.mkv")]))).media[0].path == str(media / "b.mkv")


@pytest.mark.parametrize(
    ("flag", "output", "texts"),
    [
        (True, "one", ["one"]),
        (None, "one", ["one"]),
        (False, "one", []),
        (0, "one", []),
        (True, ["one", {"text": "two", "logprobs": [-1, -0.5]}], ["one", "two"]),
        (None, None, []),
    ],
)
def test_offline_trajectories(rows: Rows, flag: bool | None, output: Any, texts: list[str]) -> None:
    sample = one(rows(row(has_offline_trajectory=flag, offline_output=output)))
    assert [item.text for item in sample.offline] == texts
    if len(texts) == 2:
        assert sample.offline[1].logprobs == (-1.0, -0.5)


def test_a_gif_may_be_picture_or_video_and_a_name_does_not_decide(rows: Rows, media: Path) -> None:
    assert one(rows(row(videos=["a.gif"]))).media[0].kind == "video"
    (media / "picture.mp4").write_bytes((media / "a.png").read_bytes())
    sample = one(rows(row(problem="<image>?", images=["picture.mp4"], videos=None, data_type="image")))
    assert sample.media[0].kind == "image"


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"problem": ...}, "problem", "missing (the row has 'problem_id', 'answer'"),
    ({"problem": None}, "problem", "is null - write the question, or set data.question_key"),
    ({"problem": "  \n"}, "problem", "is blank"),
    ({"problem": "<video> "}, "problem", "has media but no text"),
    ({"problem": 3}, "problem", "is 3, not text"),
    ({"problem": "\ud800"}, "problem", "half of a surrogate pair"),
    ({"options": ["left", "\ud800"]}, "options", "half of a surrogate pair"),
    ({"problem": "<video><video>?"}, "problem", "has 2 <video> placeholders for 1 video files - write one <video>"),
    ({"problem": "<image>?"}, "problem", "has 1 <image> placeholders for 0 image files"),
    ({"problem_type": ...}, "problem_type", "missing"),
    ({"problem_type": "multiple chioce"}, "problem_type", "did you mean 'multiple_choice'"),
    ({"answer": ...}, "answer", "missing"),
    ({"answer": None}, "answer", "is null - write the reference answer, or set data.answer_key"),
    ({"answer": ""}, "answer", "is blank"),
    ({"answer": "<answer></answer>"}, "answer", "has an empty <answer>"),
    ({"answer": float("nan"), "problem_type": "numerical"}, "answer", "is nan, not a finite number"),
    ({"answer": {"time": [float("inf"), 1]}, "problem_type": "temporal"}, "answer", "cannot be written as text"),
    ({"answer": "Q"}, "answer", "correct the reference answer or remove the row"),
    ({"answer": "soon", "problem_type": "temporal grounding"}, "answer", "correct the reference answer"),
    ({"videos": ["gone.mp4"]}, "videos", "gone.mp4' does not exist - correct the path, or set media_root"),
    ({"videos": ["empty.mp4"]}, "videos", "empty.mp4' is empty (0 bytes)"),
    ({"videos": ["."]}, "videos", "contains the video"),
    ({"images": ["."], "videos": None, "data_type": "image", "problem": "?"}, "images", "is not a regular file"),
    ({"videos": ["a\0b.mp4"]}, "videos", "cannot be opened"),
    ({"videos": ["n" * 300]}, "videos", "cannot be opened"),
    ({"videos": ["a.png"]}, "videos", "a.png' is an image, not a video - move it to the images column"),
    ({"images": ["a.mp4"], "videos": None}, "images", "a.mp4' is a video, not an image - move it to the videos column"),
    ({"videos": 7}, "videos", "is 7, not a list of paths"),
    ({"videos": ["a.mp4", None]}, "videos", "entry 2 is NoneType 'None', not a path"),
    ({"images": [{"bytes": "x"}]}, "images", "entry 1 is dict"),
    ({"data_type": "image"}, "data_type", "is 'image', but the row has 1 videos and 0 images - set it to 'video'"),
    ({"data_type": "text"}, "data_type", "is 'text', but the row has 1 videos"),
    ({"data_type": "film"}, "data_type", "is 'film' - use one of image, video, text"),
    ({"options": "A. left"}, "options", "is 'A. left', not a list"),
    ({"options": ["left", None]}, "options", "option 2 is None, not text"),
    ({"options": ["left", " "]}, "options", "option 2 is blank"),
    ({"options": ["A. left", "B."]}, "options", "option 2 is blank ('B.')"),
    ({"options": ["A. left", "right"]}, "options", "only 1 of 2 options have a letter"),
    ({"options": ["A. left", "A. right"]}, "options", "the options have the letters A, A"),
    ({"options": ["A. left", "C. right"]}, "options", "the options have the letters A, C"),
    ({"options": [f"o{i}" for i in range(27)]}, "options", "27 options, but there are only 26 letters"),
    ({"options": ["<image>", "cat"]}, "options", "option 1 has a media placeholder"),
    ({"problem_id": [1]}, "problem_id", "is [1], not text or a whole number"),
    ({"start": -1}, "start", "is -1, not a time in seconds"),
    ({"end": "3"}, "end", "is '3', not a time in seconds"),
    ({"start": 2, "end": 2}, "end", "is 2.0, not after start (2.0)"),
    ({"start": 1, "videos": ["a.mp4", "b.mkv"], "problem": "?"}, "start", "does not have exactly one video"),
    ({"offline_output": 3}, "offline_output", "is int, not text - write a text"),
    ({"offline_output": "  "}, "offline_output", "is blank"),
    ({"offline_output": [{"text": "x", "logprobs": "y"}]}, "offline_output", "not a list of finite numbers"),
    ({"offline_output": {"text": "x", "logprobs": [-1.0, float("nan")]}}, "offline_output", "list of finite numbers"),
    ({"offline_output": {"text": "x", "logprobs": [-(10**400)]}}, "offline_output", "list of finite numbers"),
    ({"offline_output": {"text": "x", "logprobs": [True]}}, "offline_output", "list of finite numbers"),
    ({"offline_output": {"text": "x", "before": "y"}}, "offline_output", "turns before the last that are not a list"),
    ({"offline_output": {"text": "x", "before": [" "]}}, "offline_output", "turns before the last that are not a list"),
    ({"offline_output": {"text": "x", "before": ["y"], "logprobs": [-1]}}, "offline_output", "log-probs and several"),
    ({"start": 10**400}, "start", "not a time in seconds"),
    ({"end": 10**400}, "end", "not a time in seconds"),
    ({"start": True}, "start", "not a time in seconds"),
    ({"has_offline_trajectory": True}, "offline_output", "is missing although has_offline_trajectory is true"),
    ({"has_offline_trajectory": "yes"}, "has_offline_trajectory", "is 'yes' - write true or false"),
]


@pytest.mark.parametrize(("changes", "field", "what"), BAD, ids=[f"{f}-{n}" for n, (_, f, _) in enumerate(BAD)])
def test_bad_rows_are_refused_with_place_field_fault_and_remedy(
    rows: Rows, changes: dict[str, Any], field: str, what: str
) -> None:
    path = rows(row(**changes), row(problem_id="sound"))
    bad = refusal(path)
    assert (bad.where, bad.field) == (f"{path}:1", field)
    assert str(bad).startswith(f"{path}:1: field '{field}': ")
    assert what in str(bad)
    assert bad.remedy


def test_an_id_may_come_once(rows: Rows) -> None:
    path = rows(row(problem_id=5), row(problem_id="5"), row(problem_id=6))
    bad = refusal(path)
    assert (bad.where, bad.field, bad.what) == (f"{path}:2", "problem_id", f"'5' is already the id of {path}:1")


def test_the_same_file_may_be_asked_for_as_picture_and_as_video(rows: Rows) -> None:
    """What is known of a file does not depend on which row asked first."""
    path = rows(
        row(videos=["a.png"]), row(problem_id="2", problem="?", videos=None, images=["a.png"], data_type="image")
    )
    assert refusal(path).field == "videos"


@pytest.mark.parametrize("touch", [True, False])
def test_pictures_of_formats_that_are_not_read_are_refused(rows: Rows, media: Path, touch: bool) -> None:
    (media / "a.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(40))
    given = row(images=["a.heic"], videos=None, data_type="image", problem="What is it?")
    path = rows(given, row(problem_id="sound"))
    loaded = load_source(SourceConfig(path=str(path)), DataConfig(on_bad_row="skip"), check_media=touch)
    (bad,) = loaded.bad
    assert (bad.field, bad.remedy) == ("images", "convert it to PNG or JPEG")
    assert "a.heic" in bad.what and "HEIC" in bad.what


def test_a_column_path_of_a_text_row_is_any_column(rows: Rows) -> None:
    given = row(path="chapter/3", videos=None, data_type="text", problem="Which way?", solution="long talk")
    sample = one(rows(given))
    assert (sample.media, sample.answer, sample.extra) == ((), "B", {"path": "chapter/3", "solution": "long talk"})
