from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyvideor1 import video
from easyvideor1.types import EasyVideoError, MediaError
from easyvideor1.video import HealthLedger, bad_files
from easyvideor1.video.health import REMEDIES

_WRITER = """
import sys
from easyvideor1.video import HealthLedger
for k in range(40):
    HealthLedger(sys.argv[1]).record(f"{sys.argv[2]}-{k}.mp4", "timeout", "x" * 3000, "refused")
"""


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    ledger = HealthLedger(tmp_path / "deep" / "health.jsonl")
    assert list(ledger.entries()) == []
    ledger.record("a.mp4", "timeout", "took longer\nthan allowed", "refused")
    ledger.record("ü.mp4", "missing", "", "left out")
    first, second = ledger.entries()
    assert (first.path, first.reason, first.detail, first.action) == (
        "a.mp4",
        "timeout",
        "took longer\nthan allowed",
        "refused",
    )
    assert second.path == "ü.mp4"
    assert first.time <= second.time


def test_a_torn_line_hurts_no_other(tmp_path: Path) -> None:
    ledger = HealthLedger(tmp_path / "health.jsonl")
    ledger.record("a.mp4", "crash", "", "refused")
    with ledger.path.open("ab") as file:
        file.write(b'{"time": "2030-01-01", "pa')
    ledger.record("b.mp4", "crash", "", "refused")
    assert [entry.reason for entry in ledger.entries()] == ["crash", "torn", "crash"]


def test_many_writers(tmp_path: Path) -> None:
    path = tmp_path / "health.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    entries = list(HealthLedger(path).entries())
    assert sorted(entry.path for entry in entries) == sorted(f"{n}-{k}.mp4" for n in "ab" for k in range(40))


def test_a_name_that_is_not_unicode_is_kept(tmp_path: Path) -> None:
    """Names of bytes that are no UTF-8, as the system hands them to Python."""
    name = os.fsdecode(b"caf\xe9.mp4")
    ledger = HealthLedger(tmp_path / "health.jsonl")
    ledger.record(name, "missing", f"{name} does not exist", "refused")
    assert [entry.path for entry in ledger.entries()] == [name]


def test_every_file_is_a_patient_once(tmp_path: Path) -> None:
    ledger = HealthLedger(tmp_path / "health.jsonl")
    bad = tmp_path / "bad.mp4"
    bad.touch()
    os.utime(bad, (1_000_000_000, 1_000_000_000))
    for reason in ("timeout", "crash", "timeout"):
        ledger.record(str(bad), reason, f"it was a {reason}", "refused")
    ledger.record(str(tmp_path / "absent.mp4"), "missing", "", "left out")
    first, second = bad_files(ledger.entries())
    assert (first.path, first.count, dict(first.reasons)) == (str(bad), 3, {"timeout": 2, "crash": 1})
    assert (first.last.reason, first.last.detail, first.replaced) == ("timeout", "it was a timeout", False)
    assert "cache.deadline" in first.remedy
    assert (second.count, second.replaced) == (1, False)
    assert "correct the path" in second.remedy
    later = time.time() + 100
    os.utime(bad, (later, later))
    assert bad_files(ledger.entries())[0].remedy == "build again: the file was replaced since"


def test_every_reason_has_a_remedy() -> None:
    """All reasons that the room itself gives, found in its source."""
    given = set()
    for path in Path(video.__file__).parent.rglob("*.py"):
        given |= set(re.findall(r'reason="(\w+)"', path.read_text(encoding="utf-8")))
    assert {"timeout", "memory", "crash", "missing"} <= given
    assert given - {"not_cached"} <= set(REMEDIES)


def test_a_ledger_that_cannot_be_written_says_what_it_was_to_say(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EasyVideoError, match=r"health\.jsonl cannot be written: .*the entry was a\.mp4: timeout"):
        HealthLedger(tmp_path / "file" / "health.jsonl").record("a.mp4", "timeout", "", "")


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ledger = HealthLedger(tmp_path / "health.jsonl")
    ledger.record("a.mp4", "timeout", "", "")
    assert len(list(ledger.entries())) == 1
    with video.FrameStore(tmp_path).lock("a" * 64, 1.0) as mine:
        assert not mine  # a process without the lock decodes all the same


def test_a_ledger_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").mkdir()
    with pytest.raises(EasyVideoError, match=r"cannot be read: .*make it readable"):
        list(HealthLedger(tmp_path / "health.jsonl").entries())
    assert list(HealthLedger(tmp_path / "absent" / "health.jsonl").entries()) == []


def test_what_hung_is_known_by_what_it_is_and_how_long_it_had(tmp_path: Path) -> None:
    ledger = HealthLedger(tmp_path / "health.jsonl")
    for subject, reason, deadline in (("a", "timeout", 10.0), ("b", "timeout", 60.0), ("c", "crash", 60.0)):
        ledger.record_error(MediaError("it failed", path="x.mp4", reason=reason), "left out", subject, deadline)
    ledger.record("y.mp4", "timeout", "", "as earlier versions wrote it")
    assert ledger.timed_out(10.0) == {"a", "b"}
    assert ledger.timed_out(30.0) == {"b"}
    assert ledger.timed_out(61.0) == frozenset()
    old = '{"time": "", "path": "z", "reason": "timeout", "detail": "", "action": ""}'
    with ledger.path.open("a") as file:
        file.write(old + "\n" + old[:-1] + ', "subject": "d", "deadline": "long"}\n')
    assert [entry.reason for entry in ledger.entries()][-2:] == ["timeout", "torn"]
