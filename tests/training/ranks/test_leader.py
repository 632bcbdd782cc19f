"""The first rank hears of a fault of another one whatever it waits for itself."""

import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from easyvideor1.config import ClusterConfig
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.line import Line
from easyvideor1.training.ranks.messages import RankFault
from easyvideor1.training.ranks.processes import Launched
from easyvideor1.types import ConfigError


def store() -> Line:
    """What a launcher hosts."""
    return Line("127.0.0.1", 0, serves=True)


def ranks_at(store: Line) -> Ranks:
    return Ranks(ClusterConfig(ranks=2), Launched(0, 2, 0, store.host, store.port, serves=False, prefix=""))


def fail(store: Line) -> None:
    """Say that rank 1 has failed, as that rank does."""
    store.put("fault/1", RankFault(time.time(), ConfigError, "it has no device", ""))


def test_a_fault_ends_the_wait_for_what_never_comes() -> None:
    launcher, begin = store(), time.monotonic()
    with pytest.raises(ConfigError, match="rank 1: it has no device"), ranks_at(launcher):
        threading.Timer(0.5, fail, (launcher,)).start()
        Future().result(timeout=60.0)
    assert time.monotonic() - begin < 50.0
    time.sleep(0.1)  # a second interrupt would come here


#: Ctrl-C is ignored, as in what a shell runs in the background, and a wait is not interrupted.
PROGRAM = """
import signal
import threading

from easyvideor1.training.ranks import leader
from training.ranks.test_leader import fail, ranks_at, store

signal.signal(signal.SIGINT, signal.SIG_IGN)
leader._UNWIND_SECONDS = 0.5
launcher = store()
with ranks_at(launcher):
    fail(launcher)
    threading.Event().wait(60.0)
"""


def test_a_wait_that_nothing_interrupts_ends_with_the_process() -> None:
    program = f"import sys; sys.path[:] = {sys.path!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.strip()) == (3, "error: rank 1: it has no device")
