"""The index holds what the files hold, whatever happens to them meanwhile."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import pytest
from starlette.datastructures import QueryParams

from easyvideor1.types import DataError
from easyvideor1.viewer.rollout_filter import MARKS, ORDERS, Filter
from easyvideor1.viewer.rollout_index import RolloutIndex
from easyvideor1.viewer.rollout_reading import state_of
from easyvideor1.viewer.rollout_store import VERSION, drop_stale

from .runs import group, said, scored, write_run, write_step


def wanted(query=""):
    return Filter.of(QueryParams(query))


def samples(index, query=""):
    return [row["sample"] for row in index.groups(index.search(wanted(query)).ids)]


def filled(run, cache=None, **values):
    index = RolloutIndex(run, cache, **values)
    index.fill()
    return index


@pytest.fixture(params=["full text", "plain", "on disk"])
def index_of(request, tmp_path):
    """Makes an index with and without SQLite's full-text search, in memory and on disk."""
    cache = tmp_path / "cache" if request.param == "on disk" else None
    return lambda run: filled(run, cache, full_text=request.param != "plain")


def several(run):
    """Groups that differ in everything that is filtered by."""
    run.mkdir()
    judged = scored(1.0, parts={"judge": 1.0, "rule_accuracy": 0.1})
    write_step(
        run,
        1,
        [
            group(0, [said("a red boat", 1.0), said("a blue boat", 0.0)]),
            group(1, [said("the same", 0.0), said("the same", 0.0)], task="boolean", source="other.jsonl"),
            group(2, [said("it was cut", 0.0, finish="length", advantage=None)], task="numerical"),
        ],
    )
    write_step(
        run,
        2,
        [
            group(3, [said("from a teacher", 1.0, origin="offline"), said("own words here", 0.4)]),
            group(4, [said("", 0.0, "", fault="refused", score=scored(0.0, "", applicable=False))]),
            group(5, [said("judged so", score=judged), said("judged alike", 1.0)]),
            group(6, [], error="the media are gone", trajectories=()),
        ],
        stage="02-rl",
    )
    return run


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [3, 4, 5, 6, 0, 1, 2]),
        ("order=first", [0, 1, 2, 3, 4, 5, 6]),
        ("task=boolean", [1]),
        ("source=other.jsonl", [1]),
        ("stage=02-rl", [3, 4, 5, 6]),
        ("first=2", [3, 4, 5, 6]),
        ("last=1", [0, 1, 2]),
        ("low=0.3&high=0.5", [3]),
        ("low=0.99", [3, 5, 0]),
        ("mark=flat", [5, 1]),
        ("mark=varied", [3, 0]),
        ("mark=cut", [2]),
        ("mark=offline", [3]),
        ("mark=fault", [4, 6]),
        ("mark=unscored", [4]),
        ("mark=unused", [6, 2]),
        ("mark=disagree", [5]),
        ("text=boat", [0]),
        ("text=bo", [0]),
        ("text=%22blue+boat%22", [0]),
        ("text=red+blue", []),
        ("text=%22boat+red%22", []),
        ("text=square+3", [3]),
        ("text=square+boat", [0]),
        ("text=square+6", [6]),
        ("text=square+6&mark=fault", [6]),
        ("text=square+3&mark=fault", []),
        ("text=square+6&low=0", []),
        ("high=0.1", [0, 1, 2]),
        ("text=boat&low=0.5", [0]),
        ("text=blue&low=0.5", []),
        ("text=%22+ORX+%28", []),
        ("text=zebra%22b", []),
        ("text=100%25", []),
        ("order=spread&mark=varied", [0, 3]),
    ],
)
def test_filters(tmp_path, index_of, query, expected):
    found = samples(index_of(several(tmp_path / "run")), query)
    assert found == [f"sample-{number}" for number in expected]


def test_filters_hold_for_one_and_the_same_response(tmp_path, index_of):
    run = tmp_path / "run"
    write_step(run, 1, [group(0, [said("cut here", 0.0, finish="length"), said("right", 1.0)])])
    assert samples(index_of(run), "mark=cut&low=0.9") == []
    assert samples(index_of(run), "mark=cut&high=0.2") == ["sample-0"]


def test_responses_are_listed_one_by_one(tmp_path, index_of):
    index = index_of(several(tmp_path / "run"))
    found = index.members(index.search(wanted("by=response&order=reward&task=multiple_choice")).ids)
    assert [row["reward"] for row in found] == sorted((row["reward"] for row in found), reverse=True)
    assert len(found) == 7
    assert not found[-1]["applicable"]
    least = index.members(index.search(wanted("by=response&order=least")).ids)
    assert [row["applicable"] for row in least] == [1] * (len(least) - 1) + [0]
    assert {row["group"]["sample"] for row in found} == {"sample-0", "sample-3", "sample-4", "sample-5"}
    only = index.members(index.search(wanted("by=response&text=boat&low=0.5")).ids)
    assert [(row["head"], row["place"]) for row in only] == [("a red boat", 0)]


def test_characters_without_spaces_between_words_are_found(tmp_path, index_of):
    run = tmp_path / "run"
    write_step(run, 1, [group(0, [said("方块向右移动")]), group(1, [said("方块向左移动")])])
    assert samples(index_of(run), "text=向右") == ["sample-0"]


def test_a_filter_is_its_query(tmp_path):
    query = "text=red+boat&task=boolean&first=3&low=0.25&mark=cut&mark=flat&order=reward&by=response"
    assert wanted(query).pairs() == [
        *(("text", "red boat"), ("task", "boolean"), ("first", "3"), ("low", "0.25")),
        *(("mark", "cut"), ("mark", "flat"), ("order", "reward"), ("by", "response")),
    ]
    assert wanted("text=+&first=&mark=") == Filter()
    for value in ("0.9999999", "1e-09", "-3", "123456789.125"):
        again = Filter.of(QueryParams(wanted(f"low={value}").pairs()))
        assert again.low == float(value)


@pytest.mark.parametrize("query", ["mark=x", "order=x", "by=x", "first=1.5", "low=x", "first=" + "9" * 30, "low=nan"])
def test_a_wrong_query_says_what_is_wrong(query):
    with pytest.raises(DataError, match="the address has " + query.partition("=")[0]):
        wanted(query)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("by", ["", "response"])
@pytest.mark.parametrize("mark", MARKS)
def test_every_combination_is_sql(tmp_path, order, by, mark):
    index = filled(several(tmp_path / "run"))
    conditions = "text=boat&low=0&first=1&task=boolean"
    narrow = index.search(wanted(f"order={order}&by={by}&mark={mark}&{conditions}"))
    assert set(narrow.ids) <= set(index.search(wanted(f"order={order}&by={by}&mark={mark}")).ids)


def test_progress_counts_files_groups_and_rollouts(tmp_path):
    run = write_run(tmp_path / "run", steps=3, groups=4)
    index = RolloutIndex(run, None)
    before = index.progress()
    assert (before.read, before.files, before.groups, before.done) == (0, 3, 0, False)
    index.fill()
    after = index.progress()
    assert (after.read, after.files, after.groups, after.rollouts, after.done) == (3, 3, 12, 24, True)


def test_a_run_grows_meanwhile(tmp_path):
    run = write_run(tmp_path / "run", steps=1)
    index = filled(run)
    generation = index.generation()
    index.fill()
    assert index.generation() == generation  # nothing is read twice
    write_step(run, 2, [group(7)])
    assert not index.progress().done
    index.fill()
    assert samples(index)[0] == "sample-7" and index.generation() > generation


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    index = filled(run)
    old = index.search(wanted("text=square")).ids
    write_step(run, 2, [group(9, [said("another answer")])])
    index.fill()
    assert samples(index, "first=2") == ["sample-9"]
    assert samples(index, "text=another") == ["sample-9"]
    assert len(index.search(wanted("text=square")).ids) == len(old) - 2  # the texts of what is gone are found no more
    assert index.groups(old[:1]) == []


def test_the_same_size_and_time_in_another_file_is_another_file(tmp_path):
    run = tmp_path / "run"
    file = write_step(run, 1, [group(1)])
    index = filled(run)
    state = file.stat()
    write_step(run, 1, [group(2)])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    index.fill()
    assert samples(index) == ["sample-2"]


def test_a_run_that_begins_anew_is_forgotten(tmp_path):
    run = write_run(tmp_path / "run", steps=3)
    index = filled(run)
    for step in (2, 3):
        (run / "stages" / "01-grpo" / "rollouts" / f"step_{step:06d}.jsonl").unlink()
    index.fill()
    now = index.progress()
    assert (now.files, now.groups, now.done) == (1, 3, True)


def test_a_last_line_that_is_cut_short_is_said_and_read_later(tmp_path):
    run = tmp_path / "run"
    file = write_step(run, 1, [group(0), group(1)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    index = filled(run)
    assert samples(index) == ["sample-0"]
    assert index.progress().faults == (("stages/01-grpo/rollouts/step_000001.jsonl", "its last line is cut short"),)
    file.write_bytes(whole)
    index.fill()
    assert samples(index) == ["sample-0", "sample-1"] and index.progress().faults == ()


def test_lines_that_are_no_groups_cost_only_themselves(tmp_path):
    run = tmp_path / "run"
    file = write_step(run, 1, [group(0), group(1)])
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"not json\n[1]\n{}\n\xff\n" + b"[" * 100_000 + b"\n\n" + second)
    index = filled(run)
    found = index.groups(index.search(wanted()).ids)
    assert [(row["sample"], row["line"]) for row in found] == [("sample-0", 0), ("sample-1", 6)]
    ((_, fault),) = index.progress().faults
    assert "line 2 is not valid JSON" in fault and "and 4 more" in fault


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("total", "x"),
        ("total", None),
        ("parts", 3),
        ("parsed", {}),
        ("tokens", []),
        ("response", 7),
        ("task", ["a"]),
        ("origin", 1),
    ],
)
def test_values_of_another_kind_cost_their_line_alone(tmp_path, name, value):
    run = tmp_path / "run"
    file = write_step(run, 1, [group(0), group(1)])
    first, second = file.read_text().splitlines(keepends=True)
    row = json.loads(first)
    for place in (row, row["trajectories"][0], row["trajectories"][0]["score"]):
        if name in place and not (name == "tokens" and place is row):
            place[name] = value
    file.write_text(json.dumps(row) + "\n" + second)
    index = filled(run)
    assert samples(index) == ["sample-1"]
    assert "line 1 is no group" in index.progress().faults[0][1]


def test_numbers_that_are_none_are_kept_out_of_the_sums(tmp_path):
    run = tmp_path / "run"
    file = write_step(run, 1, [group(0)])
    file.write_text(
        file.read_text().replace('"total": 1.0', '"total": NaN', 1).replace('"total":1.0', '"total":NaN', 1)
    )
    index = filled(run)
    (row,) = index.groups(index.search(wanted()).ids)
    assert row["mean"] == pytest.approx(0.1) and row["spread"] == 0.0


def test_odd_text_is_kept(tmp_path):
    run = tmp_path / "run"
    write_step(run, 1, [group(0, [said("\ud800 half \x00 zero")], sample="a\udc80b")])
    index = filled(run, tmp_path / "cache")
    assert samples(index, "text=half") == ["a?b"]


def test_the_index_lies_in_the_cache_and_is_used_again(tmp_path):
    run = write_run(tmp_path / "run")
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    first = filled(run, tmp_path / "cache")
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before  # nothing is written into a run
    assert first.where is not None and first.where.parent == tmp_path / "cache"
    assert RolloutIndex(run, tmp_path / "cache").progress().done


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("no directory")
    index = filled(write_run(tmp_path / "run"), tmp_path / "file")
    assert index.where is None and len(samples(index)) == 6


def test_an_index_that_is_damaged_is_done_without(tmp_path):
    run = write_run(tmp_path / "run")
    where = filled(run, tmp_path / "cache").where
    for beside in where.parent.glob(f"{where.name}-*"):
        beside.unlink()
    where.write_bytes(b"no database" * 1000)
    assert len(samples(filled(run, tmp_path / "cache"))) == 6


def test_two_processes_fill_one_index(tmp_path):
    run = write_run(tmp_path / "run", steps=30, groups=8)
    program = (
        "import sys; from pathlib import Path; from easyvideor1.viewer.rollout_index import RolloutIndex\n"
        "RolloutIndex(Path(sys.argv[1]), Path(sys.argv[2])).fill()"
    )
    command = [sys.executable, "-c", program, str(run), str(tmp_path / "cache")]
    others = [subprocess.Popen(command) for _ in range(2)]
    index = filled(run, tmp_path / "cache")
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    found = index.groups(index.search(wanted()).ids)
    assert len(found) == 240 and all(len(row["members"]) == 2 for row in found)
    assert len({(row["step"], row["line"]) for row in found}) == 240
    with sqlite3.connect(index.where) as connection:
        assert connection.execute("SELECT COUNT(*) FROM members").fetchone() == (480,)


def test_it_is_read_while_it_is_filled(tmp_path):
    run = write_run(tmp_path / "run", steps=40, groups=4)
    index = RolloutIndex(run, tmp_path / "cache")
    index.refresh()
    seen, errors, stop = [], [], threading.Event()

    def look():
        try:
            while not stop.is_set():
                seen.append(len(samples(index)))
        except Exception as error:  # noqa: BLE001 - of whatever kind: the test fails with it
            errors.append(error)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    while not index.progress().done:
        index.refresh()
    while len(seen) < 3 and not errors:
        time.sleep(0.01)
    stop.set()
    for reader in readers:
        reader.join(timeout=60)
    assert errors == [] and seen
    assert len(samples(index)) == 160
    assert all(count % 4 == 0 for count in seen)  # a file is there whole, or not at all


def test_a_search_stays_the_same_while_the_index_grows(tmp_path):
    run = write_run(tmp_path / "run", steps=1)
    index = filled(run)
    first = index.search(wanted())
    write_step(run, 2, [group(9)])
    index.fill()
    assert index.search(wanted(), first.key) is first
    assert index.search(wanted("text=square+9"), first.key).ids != first.ids  # the key of another filter
    assert len(index.search(wanted()).ids) == len(first.ids) + 1


def test_a_file_that_cannot_be_read_is_named_and_read_later(tmp_path):
    run = write_run(tmp_path / "run", steps=1)
    file = write_step(run, 2, [group(9)])
    file.unlink()
    file.mkdir()  # opens for nobody, root included
    index = filled(run)
    generation = index.generation()
    progress = index.progress()
    ((name, fault),) = progress.faults
    assert progress.done and name.endswith("step_000002.jsonl") and "cannot be read (Is a directory)" in fault
    index.fill()
    assert index.generation() == generation
    file.rmdir()
    write_step(run, 2, [group(9)])
    index.fill()
    assert samples(index)[0] == "sample-9" and index.progress().faults == ()


def test_a_name_that_sqlite_does_not_take_costs_its_own_files(tmp_path):
    run = write_run(tmp_path / "run", steps=1)
    write_step(run, 10**20, [group(8)])
    write_step(run, 1, [group(9)], stage=os.fsdecode(b"02-\xff"))
    index = filled(run, tmp_path / "cache")
    assert len(samples(index)) == 3 and index.progress().done
    assert len(index.progress().faults) == 2
    assert all("cannot be indexed" in fault for _, fault in index.progress().faults)


def test_a_large_inode_is_kept(tmp_path):
    found = list((tmp_path / "x").parent.stat())
    found[1] = (1 << 64) - 2
    assert max(state_of(os.stat_result(found, {"st_mtime_ns": 1}))) < 1 << 63


@pytest.mark.parametrize("how", ["file alone", "all files", "directory"])
def test_an_index_that_is_deleted_meanwhile_is_made_again(tmp_path, how):
    run = write_run(tmp_path / "run", steps=2)
    index = filled(run, tmp_path / "cache")
    old = index.search(wanted())
    before = index.generation()
    if how == "directory":
        shutil.rmtree(tmp_path / "cache")
    else:
        for path in tmp_path.joinpath("cache").glob("*" if how == "all files" else "*.sqlite"):
            path.unlink()
    assert index.search(wanted(), old.key).ids == []  # ids of the old one mean nothing
    assert index.generation() != before
    index.fill()
    assert len(samples(index)) == 6
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(samples(index))))
    thread.start()
    thread.join()
    assert found == [6] and len(samples(filled(run, tmp_path / "cache"))) == 6


def test_an_index_is_private_to_its_user(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    index = filled(write_run(tmp_path / "run"), tmp_path / "cache")
    assert stat.S_IMODE(index.where.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in index.where.parent.iterdir()} == {0o600}


def test_indices_of_runs_that_are_gone_and_of_earlier_versions_are_dropped(tmp_path):
    cache = tmp_path / "cache"
    kept = filled(write_run(tmp_path / "kept"), cache).where
    gone = filled(write_run(tmp_path / "gone"), cache).where
    shutil.rmtree(tmp_path / "gone")
    earlier = cache / f"kept-0-v{VERSION - 1}.sqlite"
    later, other = cache / f"kept-0-v{VERSION + 1}.sqlite", cache / "other.sqlite"
    for path in (earlier, later, other):
        path.write_text("")
    assert drop_stale(cache) == sorted([gone, earlier])
    assert kept.exists() and later.exists() and other.exists() and not list(cache.glob(f"{gone.name}*"))
    assert drop_stale(tmp_path / "none") == []


def test_a_look_does_not_wait_for_another_writer(tmp_path):
    index = filled(write_run(tmp_path / "run"), tmp_path / "cache")
    write_step(index.run, 3, [group(9)])
    with sqlite3.connect(index.where, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        index.refresh()
        time.sleep(0.3)  # the thread now waits for the other writer
        began = time.monotonic()
        index.refresh()
        assert len(samples(index)) == 6 and not index.progress().done
        assert time.monotonic() - began < 2
        other.execute("COMMIT")
    while not index.progress().done:
        index.refresh()
        time.sleep(0.01)
    other.close()


def test_a_group_is_found_again_in_a_list_that_has_grown(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    index = filled(run)
    mine = ("01-grpo", 1, 1)
    place = index.place_of(index.search(wanted()), mine, 4)
    assert place == 4
    write_step(run, 3, [group(7), group(8)])
    index.fill()
    assert index.place_of(index.search(wanted()), mine, place) == 6
    responses = index.search(wanted("by=response"))
    assert index.place_of(responses, mine, 13) == 13 and index.place_of(responses, mine, 99) == 13
    assert index.place_of(responses, mine, 0) == 12
    assert index.place_of(index.search(wanted("first=2")), mine, 4) == -1
