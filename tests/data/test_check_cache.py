"""Passed checks are kept between starts, by any number of processes, and never change an outcome."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

import easyvideor1
from easyvideor1 import rewards
from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import CheckCache, Loaded, check_key, scan_source
from easyvideor1.toyworld.plan import plan_world
from easyvideor1.toyworld.spec import WorldSpec

from .conftest import Rows, row

KEYS = [check_key("test", number) for number in range(40)]
#: Adds its own keys to a memo one by one, as many times as it is told.
WRITER = (
    "import sys\n"
    "from easyvideor1.data import CheckCache, check_key\n"
    "path, name, count = sys.argv[1:]\n"
    "for number in range(int(count)):\n"
    "    memo = CheckCache(path)\n"
    "    memo.add(check_key('test', name, number))\n"
    "    memo.save()\n"
    "    print(number, flush=True)\n"
)


def remember(path: Path, keys: list[bytes]) -> None:
    memo = CheckCache(path)
    for key in keys:
        memo.add(key)
    memo.save()


def known(path: Path, keys: list[bytes]) -> list[bool]:
    """What a new start knows; a memo that is not whole would be told as a warning, which is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memo = CheckCache(path)
        return [memo.knows(key) for key in keys]


def test_what_was_added_is_known_to_later_starts(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "memo"
    memo = CheckCache(path)
    assert not memo.knows(KEYS[0])
    memo.add(KEYS[0])
    memo.add(None)
    assert memo.knows(KEYS[0]) and not memo.knows(KEYS[1]) and not memo.knows(None)
    assert not path.exists()
    memo.save()
    assert memo.knows(KEYS[0])
    remember(path, KEYS[1:3])
    assert known(path, KEYS[:4]) == [True, True, True, False]


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    remember(path, KEYS)
    before = path.stat()
    memo = CheckCache(path)
    assert all(map(memo.knows, KEYS))
    memo.add(KEYS[3])
    memo.save()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_was_used_last_is_kept_within_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    remember(path, KEYS[:8])
    memo = CheckCache(path, most=8)
    assert memo.knows(KEYS[0])
    for key in KEYS[8:11]:
        memo.add(key)
    memo.save()
    assert known(path, KEYS[:11]) == [True, False, False, False, *[True] * 7]
    assert path.stat().st_size < 8 * 16 + 100


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-5],
        lambda content: content[:20],
        lambda content: content + b"\0" * 16,
        lambda content: content[:60] + bytes([content[60] ^ 1]) + content[61:],
        lambda content: content[:16] + bytes([content[16] ^ 1]) + content[17:],
        lambda content: content.replace(b"/1", b"/0", 1),
        lambda content: b"something else",
    ],
    ids=["torn", "torn in the head", "grown", "a bit of a digest", "a bit of the sum", "another format", "foreign"],
)
def test_a_damaged_memo_is_told_and_dropped(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "memo"
    remember(path, KEYS)
    path.write_bytes(spoil(path.read_bytes()))
    memo = CheckCache(path)
    with pytest.warns(UserWarning, match=r"memo is damaged and ignored: all rows are checked again") as told:
        assert not any(map(memo.knows, KEYS))
        memo.add(KEYS[0])
        memo.save()
    assert len(told) == 1
    assert known(path, KEYS[:2]) == [True, False]


@pytest.mark.parametrize("place", ["directory", "below a file"])
def test_a_memo_that_cannot_be_written_is_told_once_and_costs_nothing_else(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "memo" if place == "below a file" else tmp_path
    memo = CheckCache(path)
    with pytest.warns(UserWarning, match=r"cannot be (read|written)") as told:
        assert not memo.knows(KEYS[0])
        memo.add(KEYS[0])
        memo.save()
    assert len(told) == 1


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n), "15"]) for n in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert all(known(path, [check_key("test", str(name), number) for name in range(3) for number in range(15)]))


def test_a_writer_that_is_killed_leaves_a_whole_memo(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    for at in range(4):
        command = [sys.executable, "-c", WRITER, str(path), str(at), "100000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.01 * at)
            writer.send_signal(signal.SIGKILL)
        assert known(path, [check_key("test", str(at), 0)]) == [True]


def test_keys_tell_apart_what_json_does_not() -> None:
    values: list[Any] = [
        1,
        1.0,
        True,
        "1",
        None,
        (1,),
        [1],
        {"1": 1},
        {1: 1},
        "\ud800",
        "\\ud800",
        [1, "1"],
        ["1, '1'"],
    ]
    assert len({check_key("test", value) for value in values} | {check_key("other", 1)}) == len(values) + 1
    assert check_key("test", (1, "a")) == check_key("test", (1, "a"))


def test_a_changed_line_of_code_is_another_check(tmp_path: Path) -> None:
    copy = tmp_path / "easyvideor1"
    shutil.copytree(Path(easyvideor1.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def key() -> str:
        code = "from easyvideor1.data import check_key; print(check_key('test', 1).hex())"
        place = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", code], env=place, capture_output=True, text=True, check=True
        ).stdout

    first = key()
    assert key() == first
    with (copy / "rewards" / "choice.py").open("a") as file:
        file.write("\n")
    assert key() != first


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The references that are checked, as they are."""
    seen: list[str] = []
    real = rewards.check_answer

    def note(task: str, answer: object, *rest: Any, **options: Any) -> None:
        seen.append(str(answer))
        real(task, answer, *rest, **options)

    monkeypatch.setattr(rewards, "check_answer", note)
    return seen


def scan(path: Path, memo: Path | None, coordinates: Any = None, **changes: Any) -> Loaded:
    """A source as one start reads it."""
    check_cache = None if memo is None else CheckCache(memo)
    source = SourceConfig(path=str(path), **changes)
    loaded = scan_source(source, DataConfig(), check_media=False, coordinates=coordinates, check_cache=check_cache)
    if check_cache is not None:
        check_cache.save()
    return loaded


def test_a_source_is_the_same_with_and_without(tmp_path: Path, rows: Rows, checked: list[str]) -> None:
    (split, *_) = plan_world(WorldSpec(seed=1, train=150, validation=0, test=0))
    faulty = [row(problem_id=f"f{n}", answer=answer) for n, answer in enumerate(["Q", None, "", {"a": 1}])]
    code = row(problem_id="code", problem_type="code", answer="def f(): return 1", options=None, tests=["f() == 1"])
    path = rows(*split.rows, *faulty, code, "[1]", name="all.jsonl")
    plain, memo = scan(path, None), tmp_path / "memo"
    assert len(plain.samples) == 150 and len(plain.bad) == 6
    everything = len(checked)
    assert scan(path, memo) == plain
    checked.clear()
    assert scan(path, memo) == plain
    assert len(checked) == 3 < everything  # what fails is told anew: two answers and the tests
    assert scan(path, memo).report.to_dict() == plain.report.to_dict()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"answer": "C"}, "reference 'C' cannot be used"),
        ({"options": ["A. left"]}, "reference 'B' cannot be used"),
        ({"problem_type": "numerical", "options": None}, "reference 'B' cannot be used for numerical"),
        ({"reward_form": "no such form"}, "it is 'no such form'"),
    ],
)
def test_a_changed_row_is_checked_again(
    tmp_path: Path, rows: Rows, checked: list[str], changes: dict[str, Any], fault: str
) -> None:
    memo = tmp_path / "memo"
    path = rows(row(), row(problem_id="r2", answer="A"))
    assert not scan(path, memo).bad
    checked.clear()
    other = rows(row(**changes), row(problem_id="r2", answer="A"))
    (bad,) = scan(other, memo).bad
    assert fault in bad.what and len(checked) == 1
    assert scan(other, None).bad == [bad]
    checked.clear()
    assert not scan(path, memo).bad and not checked


def test_other_coordinates_are_another_check(tmp_path: Path, rows: Rows, checked: list[str]) -> None:
    memo = tmp_path / "memo"
    box = row(problem_type="spatial grounding", options=None, answer={"boxes": [10, 20, 300, 400]})
    path = rows(box)
    assert not scan(path, memo).bad and not scan(path, memo, "thousand").bad
    (bad,) = scan(path, memo, "normalized").bad
    assert bad.field == "answer" and scan(path, None, "normalized").bad == [bad]
    checked.clear()
    assert not scan(path, memo, "thousand").bad and not checked


def test_what_is_no_plain_value_is_checked_every_time(tmp_path: Path, media: Path, checked: list[str]) -> None:
    plain = row(problem_id="plain")
    table = [{**plain, "raw": b"1"}, {**plain, "problem_id": "other", "raw": None}]
    path = media / "raw.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    memo = tmp_path / "memo"
    first = scan(path, memo)
    assert len(first.samples) == len(checked) == 2
    checked.clear()
    assert scan(path, memo) == first and len(checked) == 1


OWN_FORMAT = """
class Word(str):
    '''Text of its own kind: it looks like any other, and is not read like it.'''

    def strip(self, characters=None):
        return "Z"


def convert(row):
    return {**row, "answer": Word(row["answer"]) if row["odd"] else row["answer"]}
"""


def test_rows_of_a_function_of_the_users_are_checked_every_time(
    tmp_path: Path, rows: Rows, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_format_of_words.py").write_text(OWN_FORMAT)
    monkeypatch.syspath_prepend(str(tmp_path))
    memo, own = tmp_path / "memo", {"format": "own_format_of_words:convert"}
    assert not scan(rows(row(odd=False)), memo, **own).bad
    (bad,) = scan(rows(row(odd=True)), memo, **own).bad
    assert "reference 'Z'" in bad.what
    assert len(checked) == 2 and not memo.exists()
