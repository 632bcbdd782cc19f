"""How a run that has lost a rank resumes by itself: its command begins again in the place of its process.

A new program is the one beginning that is always clean: an operation with a rank that is gone may never return, and
devices and locks are let go of with the program that held them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from easyvideor1.engines.ray_channel import leave_cluster

#: Seconds that it may take to leave a Ray cluster.
_LEAVE_SECONDS = 20.0
_COUNT, _CAUSE, _LEFT = "EVR1_RESTARTS", "EVR1_RESTART_CAUSE", "EVR1_RESTART_PROCESSES"


@dataclass(frozen=True, slots=True)
class Restart:
    """What a process may do about a rank that is lost.

    Attributes:
        done: how often the command has begun again.
        limit: how often it may (``cluster.max_restarts``).
        cause: why it has begun again; empty if it has not.
    """

    done: int
    limit: int
    cause: str = ""

    @classmethod
    def of_this_process(cls, limit: int, environment: Mapping[str, str] = os.environ) -> Restart:
        """The state that the program before this one has left; processes that it has left are taken leave of."""
        _reap([int(process) for process in environment.get(_LEFT, "").split()])
        return cls(int(environment.get(_COUNT, "0")), limit, environment.get(_CAUSE, ""))

    @property
    def left(self) -> bool:
        """Whether it may begin again."""
        return self.done < self.limit

    @property
    def remedy(self) -> str:
        """What happens after a rank was lost, or what is to be done."""
        if self.left:
            return f"the run resumes by itself from the last checkpoint (restart {self.done + 1} of {self.limit})"
        return "run the same command to resume from the last checkpoint"

    def begin(self, cause: str) -> NoReturn:
        """Replace this program by the same command, from any thread.

        What other processes hold the other end of (workers, ranks) closes with it, as at an exit.
        """
        leaving = threading.Thread(target=leave_cluster, daemon=True)  # what it waits for may be gone, too
        leaving.start()
        leaving.join(_LEAVE_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        told = cause.partition("; ")[0].partition("\n")[0]
        environment = {**os.environ, _COUNT: str(self.done + 1), _CAUSE: told, _LEFT: " ".join(map(str, children()))}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def children() -> list[int]:
    """The processes that this one has started and not waited for; none where the system has no ``/proc``."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            # In bytes: the name, in brackets, is whatever a program calls itself, cut within a character if need be.
            parent = (directory / "stat").read_bytes().rpartition(b")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(directory.name))
    return found


def _reap(processes: Sequence[int]) -> None:
    """Wait in the background for processes that end with the program that started them.

    Whoever has ended stays in the table of the system until somebody waits for it; that program cannot any more.
    """

    def wait() -> None:
        for process in processes:
            with suppress(ChildProcessError):
                os.waitpid(process, 0)

    threading.Thread(target=wait, daemon=True).start()


#: Of a process that is not the program's own, such as a notebook: it never begins again.
NO_RESTART = Restart(0, 0)
