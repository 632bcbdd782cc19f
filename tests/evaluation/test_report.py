from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from easyvideor1.evaluation import write_curves, write_report
from easyvideor1.evaluation.gallery import choose_groups, data_uri, strips
from easyvideor1.evaluation.templating import placeholders
from easyvideor1.records.trajectories import MediaRecord, SampleRecord, TrajectoryRecord
from easyvideor1.types import Frames, MediaError, Score
from easyvideor1.video import FrameStore

from .pages import Page
from .runs import HOSTILE, frames_of, rollout_row, write_evaluations, write_lines, write_run, write_stage
from .worlds import make_plan


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def page(run_dir: Path) -> Page:
    path = write_report(run_dir, lambda digest: None if digest == "clip_3" else frames_of(digest))
    assert path == run_dir / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    assert page.count("script") == page.count("link") == page.count("iframe") == page.count("object") == 0
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_hostile_text_is_shown_as_it_is(page: Page, run_dir: Path) -> None:
    # The run's name, the data report, the ledger, the configuration, a held-out answer and a rollout all hold it.
    assert page.text.count(HOSTILE) >= 6
    assert "<script" not in (run_dir / "report.html").read_text()


def test_page_says_what_came_out(page: Page, run_dir: Path) -> None:
    before, after = (json.loads((run_dir / f"evaluations/{name}.json").read_text()) for name in ("before", "after"))
    for value in (before["greedy"]["mean"], after["greedy"]["mean"], after["sampled"]["mean"], after["greedy"]["low"]):
        assert f"{100 * value:.1f}" in page.text
    for task in after["tasks"]:
        assert task.replace("_", " ") in page.text
    assert "of which 1 could not be put before the model" in page.text
    assert "MediaError: broken.mp4: no video stream" in page.text
    assert "1 more evaluation" in page.text
    assert "seed 7" in page.text


def test_rollouts_of_first_and_last_policy_step(page: Page) -> None:
    assert "02-grpo, step 1 3 of 6 groups" in " ".join(page.text.split())
    assert "02-grpo, step 80 3 of 6 groups" in " ".join(page.text.split())
    assert "02-grpo, step 40" not in page.text
    assert "01-sft, step" not in page.text  # offline trajectories are not the policy's
    assert "Which way does the square" in page.text and "A. right" in page.text
    assert "advantage" in page.text and "0.50 s" in page.text


def test_frames_are_the_ones_the_model_saw(page: Page) -> None:
    uris = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(uris) > 40
    expected = {data_uri(image) for number in range(60) for image in frames_of(f"clip_{number}").pixels}
    assert set(uris) <= expected
    assert "The frame cache does not have these frames." in page.text


def test_pictures_are_lossless_when_small_and_reduced_when_large() -> None:
    small = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    head, _, body = data_uri(small).partition(",")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), small)
    large = data_uri(np.zeros((720, 1280, 3), np.uint8))
    assert large.startswith("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(large.partition(",")[2]))).size == (228, 128)


def test_long_videos_show_eight_frames_from_end_to_end() -> None:
    plan = make_plan("long", 100)
    media = MediaRecord("video", "long.mp4", "long", plan.frame_indices, plan.timestamps, 64, 64)
    (strip,) = strips([media], lambda digest: frames_of(digest, count=100))
    assert strip.frame_count == 100
    assert [frame.seconds for frame in strip.thumbnails] == pytest.approx([0, 3.5, 7, 10.5, 14.25, 17.75, 21.25, 24.75])


def test_unreadable_entry_costs_its_pictures_only() -> None:
    def broken(digest: str) -> Frames | None:
        raise MediaError("permission denied")

    (strip,) = strips([MediaRecord("video", "a.mp4", "d", (0,), (0.0,), 64, 64)], broken)
    assert strip.thumbnails == ()
    assert strip.missing == "The frames cannot be read: permission denied"
    (unnamed,) = strips([MediaRecord("video", "a.mp4", "", (0,), (0.0,), 64, 64)], broken)
    assert unnamed.missing == "The frame cache does not have these frames."


def test_shown_groups_vary_in_task_and_differ_inside() -> None:
    def row(name: str, task: str, totals: list[float]) -> SampleRecord:
        found = tuple(TrajectoryRecord("", 1, "stop", Score(0.0, 0.0, total)) for total in totals)
        return SampleRecord(name, task, "?", "", (), trajectories=found)

    rows = [
        row("flat", "math", [1, 1]),
        row("half", "math", [0, 1]),
        row("slight", "ocr", [0.4, 0.5]),
        row("wide", "math", [0, 0.9]),
        row("empty", "ocr", []),
    ]
    assert [r.sample for r in choose_groups(rows, 3)] == ["half", "slight", "wide"]
    assert [r.sample for r in choose_groups(rows, 9)] == ["half", "slight", "wide", "empty", "flat"]


def test_without_frames_the_store_of_the_configuration_is_asked(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    digest = "ab" * 32
    store = FrameStore(run / "cache")
    frames = frames_of("any")
    plan = make_plan(digest, 8, 64)
    store.put(Frames(frames.pixels, plan))
    row = rollout_row(80, 0, "online")
    row["media"][0]["digest"] = digest
    write_lines(run / "stages/02-grpo/rollouts/step_000080.jsonl", [row])
    shutil.rmtree(run / "evaluations")
    page = Page(write_report(run).read_text())
    assert [a["src"] for tag, a in page.tags if tag == "img"][-8:] == [data_uri(image) for image in frames.pixels]
    assert "bad.mp4" in page.text


def test_placeholders_are_marks_and_the_rest_is_text() -> None:
    shown = placeholders("<video><b>Which?</b> &lt;image&gt;")
    assert shown == '<span class="mark">video</span>&lt;b&gt;Which?&lt;/b&gt; &amp;lt;image&amp;gt;'


def test_empty_run_says_what_is_absent(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path, lambda digest: None).read_text()).text
    for absent in (
        "No held-out evaluation before or after a stage yet.",
        "No step has been finished yet.",
        "Nothing has been evaluated yet.",
        "No rollouts of the policy yet.",
        "No data report yet.",
        "No config.yaml yet.",
    ):
        assert absent in text
    assert tmp_path.name in text


def test_data_report_of_another_form_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data_report.json").write_text(json.dumps({"train": [{"read_rows": 12, "nested": {"a": [1, 2]}}]}))
    text = " ".join(Page(write_report(tmp_path, frames_of).read_text()).text.split())
    assert "train read rows nested 12 a 1, 2" in text


def test_data_report_counts(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "train train.jsonl 400 398 2 0 boolean 198, multiple choice 200" in text
    assert "train: refused rows of train.jsonl train.jsonl:3: field 'videos'" in text


def test_run_in_progress(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before")
    write_stage(tmp_path, "01-grpo", 2, 0)
    page = Page(write_report(tmp_path, frames_of).read_text())
    assert "needs both evaluations" in page.text
    assert "Needs an evaluation before and one after a stage." in page.text
    assert "01-grpo, step 2" in page.text
    (tmp_path / "evaluations/before.json").unlink()
    assert "Nothing has been evaluated yet." in Page(write_report(tmp_path, frames_of).read_text()).text


def test_stages_that_were_evaluated_are_compared(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before", "01-sft", "02-grpo")
    for stage in ("01-sft", "02-grpo"):
        write_stage(tmp_path, stage, 2, 0)
    page = Page(write_report(tmp_path, frames_of).read_text())
    assert "Before is the evaluation “01-sft”, after is “02-grpo”." in " ".join(page.text.split())
    assert "1 more evaluation" in page.text


@pytest.mark.parametrize("kind", ["whole", "one step", "empty"])
def test_curves_are_a_picture(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    if kind == "whole":
        write_run(run)
    else:
        run.mkdir()
    if kind == "one step":
        write_lines(run / "stages/01-grpo/metrics.jsonl", [{"step": 1, "loss": 0.5, "reward/total": None}])
    path = write_curves(run)
    image = Image.open(path)
    image.load()
    assert (path, image.format) == (run / "curves.png", "PNG")
    assert image.width > 1000 and image.height > 300
    assert np.asarray(image.convert("L")).std() > 1
    assert not list(run.glob("*.tmp"))


def test_curves_are_the_same_every_time(run_dir: Path) -> None:
    assert write_curves(run_dir).read_bytes() == write_curves(run_dir).read_bytes()
