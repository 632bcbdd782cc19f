"""The rows of a configuration before training: lengths, duplicates, constants, and rows that cannot be used."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from easyvideor1.config import RunConfig, write_config
from easyvideor1.types import ConfigError, MediaPlan
from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.data_check import DataCheck, foreign_code
from easyvideor1.viewer.data_facts import duplicates, lengths, plan_strip, same_media, task_facts
from easyvideor1.viewer.library import Library

pytestmark = pytest.mark.model


def quiet(done: int, total: int, words: str = "") -> None:
    """Nobody looks at the progress."""


@pytest.fixture(scope="module")
def rows(world, tmp_path_factory) -> Path:
    """Rows with what goes wrong: a copy of a clip under another name, a repeated question, a broken file, a bad row."""
    place = tmp_path_factory.mktemp("rows")
    made = world.read()[:6]
    video = next(row for row in made if row["videos"])
    copy = shutil.copy(video["videos"][0], place / "other_name.mp4")
    whole = Path(video["videos"][0]).read_bytes()
    (place / "broken.mp4").write_bytes(whole[: len(whole) // 3])
    made += [
        {**video, "problem_id": "again", "videos": [str(copy)], "answer": "A" if video["answer"] != "A" else "B"},
        {**video, "problem_id": "torn", "videos": [str(place / "broken.mp4")]},
        {**video, "problem_id": "gone", "videos": [str(place / "nowhere.mp4")]},
        {**video, "problem_id": "bad", "answer": ""},
    ]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return place / "rows.jsonl"


def config(world, rows: Path, **changes) -> RunConfig:
    return world.config(
        data__train=[{"path": str(rows)}], data__validation=[{"path": str(rows)}], data__test=[], rewards={}, **changes
    )


@pytest.fixture(scope="module")
def checked(world, rows) -> DataCheck:
    return DataCheck(config(world, rows)).work(quiet)


def test_rows_are_measured_and_faults_are_named(checked):
    assert checked.finished and checked.exact and not checked.note
    (train, validation) = checked.sources
    assert (train.split, train.rows, train.used, len(train.bad)) == ("train", 10, 9, 1)
    assert train.bad[0].field == "answer" and validation.used == 9
    faults = {row.sample.id: row.fault for row in checked.rows if row.split == "train" and row.fault}
    assert set(faults) == {"torn", "gone"} and "does not exist" in faults["gone"]
    for row in checked.rows:
        assert row.fault or (row.tokens > row.visual > 0)


def test_looking_writes_nothing(world, rows):
    untouched = world.home / "never"
    check = DataCheck(config(world, rows, cache__dir=str(untouched)))
    check.work(quiet)
    assert not untouched.exists()


def test_duplicates_are_found_by_content(checked):
    found = duplicates(checked)
    leaks = [one for one in found if one.splits == ("train", "validation")]
    assert len(leaks) == len(found) and found[0].answers != ()
    again = next(one for one in found if "again" in {row.sample.id for row in one.rows})
    assert len(again.rows) == 4 and len(again.answers) == 2
    (media,) = same_media(checked)
    assert any(path.endswith("other_name.mp4") for path in media.paths) and len(media.paths) == 2


def test_constants_and_commonest_references(checked):
    found = {one.task: one for one in task_facts(checked)}
    assert found["multiple_choice"].rows == sum(row.sample.task == "multiple_choice" for row in checked.rows)
    for one in found.values():
        assert 0 < one.share <= 1 and one.audit.constant.accuracy >= 0
    choice = found["multiple_choice"]
    assert choice.audit.constant.accuracy == pytest.approx(choice.share)


def test_lengths(checked):
    found = lengths(checked.rows, checked.limit)
    known = sorted(row.tokens for row in checked.rows if row.tokens)
    assert (found.count, found.low, found.largest, found.over) == (len(known), known[0], known[-1], 0)
    assert "<rect" in found.chart and 'class="limit"' not in found.chart
    near = lengths(checked.rows, known[-1] - 1)
    assert near.over >= 1 and 'class="limit"' in near.chart
    assert lengths([], 10) is None


def test_times_of_frames(checked):
    plan = next(plan for plan in checked.plans.values() if isinstance(plan, MediaPlan) and plan.kind == "video")
    assert plan_strip(plan).count('class="frame"') == len(plan.frame_indices)


def test_without_a_checkpoint_media_are_counted(world, rows):
    check = DataCheck(config(world, rows, model={"path": "/nowhere/model"})).work(quiet)
    assert not check.exact and "cannot be opened" in check.note
    assert all(row.tokens is None and (row.fault or row.length > 0) for row in check.rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": {"custom": {"*": "own_parts:vowels"}}}, "names code"),
        ({"rewards": {"custom": {"*": "own-parts:vowels"}}}, "names code"),
        ({"rewards": {"chromium": "/tmp/own"}}, "names a program"),
        ({"data__train": [{"path": "someone/data@train"}]}, "loaded from the Hub"),
        ({"model": {"path": "x", "trust_remote_code": True}}, "its own code"),
    ],
)
def test_a_run_of_somebody_else_runs_no_code(world, changes, words):
    found = world.config(**{"rewards": {}, **changes})
    assert words in foreign_code(found)
    with pytest.raises(ConfigError, match="evr1 view --data"):
        DataCheck(found, trusted=False).work(quiet)


def finished(client: TestClient, key: str) -> str:
    for _ in range(600):
        page = client.get(f"/data/{key}").text
        if "What is known so far is shown" not in page:
            return page
        time.sleep(0.1)
    raise AssertionError("never finished")


def test_pages_of_rows(world, rows, run, tmp_path):
    write_config(config(world, rows), tmp_path / "config.yaml")
    app = build_app(Library([run]), data=(tmp_path / "config.yaml", rows))
    client = TestClient(app, base_url="http://127.0.0.1")
    index = client.get("/data").text
    assert "/data/config.yaml-1" in index and "/data/rows.jsonl-2" in index and "/data/run-small" in index
    page = finished(client, "config.yaml-1")
    for words in ("Tokens of a prompt", "leak", "differ", "other_name.mp4", "nowhere.mp4", "best constant"):
        assert words in page
    listed = client.get("/data/config.yaml-1/rows", params={"only": "faults", "split": "train"}).text
    assert listed.count('class="datarow"') == 2
    longest = client.get("/data/config.yaml-1/rows", params={"order": "longest", "q": "nosuchword"}).text
    assert "No row." in longest
    row = client.get("/data/config.yaml-1/row/0").text
    assert "4 frames of" in row and 'class="planstrip"' in row
    assert client.get("/data/config.yaml-1/row/99").status_code == 404
    assert client.get("/data/nothing").status_code == 404
    custom = finished(client, "run-small")
    assert "names code" in custom and "evr1 view --data" in custom
