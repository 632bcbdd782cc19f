"""File locks: one holder, and no lock outlives its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from easyvideor1.locks import file_lock, is_locked, locked_file


def test_a_lock_has_one_holder_and_is_gone_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with file_lock(lock) as ours:
        assert ours and lock.exists()
        with file_lock(lock) as twice:
            assert not twice
        assert lock.exists(), "who did not get it leaves it alone"
    assert not lock.exists()
    with file_lock(lock) as ours:
        assert ours


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    code = "import sys, os, signal; from easyvideor1.locks import file_lock\n"
    code += "with file_lock(sys.argv[1]) as ours: print(ours, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert done.stdout == "True\n" and done.returncode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with file_lock(tmp_path / "lock") as ours:
        assert ours


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:

        def wait() -> bool:
            with file_lock(tmp_path / "lock", timeout=60.0) as theirs:
                return theirs

        with file_lock(tmp_path / "lock") as ours:
            waiting = pool.submit(wait)
            assert ours and is_locked(tmp_path / "lock")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.1)
        assert waiting.result(timeout=60.0)
    assert not is_locked(tmp_path / "lock")


def test_a_file_that_was_replaced_while_its_lock_was_waited_for_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(1) as pool:

        def append() -> None:
            with locked_file(path) as descriptor:
                os.write(descriptor, b"more")

        with locked_file(path):
            waiting = pool.submit(append)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.1)
            (tmp_path / "new").write_bytes(b"new ")
            (tmp_path / "new").replace(path)
        waiting.result(timeout=60.0)
    assert path.read_bytes() == b"new more"
