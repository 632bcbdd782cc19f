from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from easyvideor1.video import HealthLedger

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
