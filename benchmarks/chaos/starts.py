"""Starts of ``evr1``: forks of this process, which has imported everything and started no thread."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a start counts as hung. The longest undisturbed one takes a few.
HUNG = 180.0
_LOOK = 0.004


@dataclass(frozen=True, slots=True)
class End:
    """How a start ended: its exit status, or minus the signal that ended it, and what it said on both channels."""

    status: int
    said: str

    @property
    def sentence(self) -> str:
        """The error that it ended with; empty if it told none."""
        return self.said.rpartition("error: ")[2].strip() if "error: " in self.said else ""

    @property
    def stopped_well(self) -> bool:
        """Whether it stopped as it should: a sentence, status 2 or 3, no traceback."""
        return self.status in (2, 3) and bool(self.sentence) and "Traceback" not in self.said


class Start:
    """One process that runs ``evr1 WORDS`` in a directory; its output goes to ``log``."""

    def __init__(self, words: Sequence[str], place: Path, log: Path) -> None:
        self.log = log
        self.begun = time.monotonic()
        self.pid = forked(lambda: _evr1(words, place), log)
        self._status: int | None = None

    def wait(self, seconds: float) -> bool:
        """Wait until it ends, at most so long; returns whether it has ended."""
        until = time.monotonic() + seconds
        while self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                return False
            else:
                time.sleep(_LOOK)
        return True

    def kill(self) -> None:
        """SIGKILL, if it has not ended yet."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(HUNG)

    def end(self) -> End | None:
        """How it ended, waiting for it; ``None`` if it hangs, and then it is killed."""
        ended = self.wait(HUNG)
        self.kill()
        assert self._status is not None
        return End(self._status, self.log.read_text(encoding="utf-8", errors="replace")) if ended else None


def forked(work: Callable[[], int], log: Path) -> int:
    """Do ``work`` in a process of its own, whose exit status is what it returns; returns the process's number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for channel in (1, 2):
            os.dup2(descriptor, channel)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = work()
    except BaseException:  # noqa: BLE001 (the frames above are the parent's: nothing may get there)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _evr1(words: Sequence[str], place: Path) -> int:
    from easyvideor1.cli import main

    os.chdir(place)
    sys.argv = ["evr1", *words]
    try:
        main(list(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def import_everything() -> None:
    """What a start would import, so that none has to."""
    import matplotlib.pyplot  # noqa: F401  (its cache of fonts is written once)
    import transformers.models.qwen3_vl.modeling_qwen3_vl  # noqa: F401
