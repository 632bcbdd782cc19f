"""Weights by broadcast when a member of the group is lost on the way into it."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from easyvideor1.engines.collective import CollectiveWeights
from easyvideor1.engines.weights import SharedWeights

#: A member that says where it is, and nothing more.
FALL_SILENT = """
import os, signal, sys
from torch.distributed import Store
from easyvideor1.engines.collective import Meeting

meeting = Meeting("127.0.0.1", int(sys.argv[1]), 2, 3, "gloo")
place = meeting.store()

class Silent(Store):
    def set(self, key, value):
        place.set(key, value)
        os.kill(os.getpid(), signal.SIGSTOP)

meeting.group(Silent())
"""


class Line:
    """The end of a line to a worker, as far as a broadcast looks at it."""

    shares_memory = False

    def __init__(self):
        self.living = True

    def alive(self):
        return self.living


@pytest.fixture
def sending():
    """Weights that are being sent to two workers, of which none has come yet."""
    weights = SharedWeights()
    weights.write([("w", torch.arange(8.0))])
    lines, collective = [Line(), Line()], CollectiveWeights(weights)
    collective.prepare(lines, ["w"])
    yield collective, lines, [collective.source(line, ["w"]) for line in lines]
    collective.close()
    weights.close()


def fault_of(source):
    """A thread that reads, and the fault that it meets."""
    faults = []

    def read():
        try:
            list(source.read())
        except RuntimeError as error:
            faults.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader, faults


def read_again(collective):
    line = Line()
    collective.prepare([line], ["w"])
    ((name, tensor),) = collective.source(line, ["w"]).read()
    collective.wait()
    return name, tensor.tolist()


@pytest.mark.timeout(120)
def test_a_member_that_falls_silent_on_the_way_into_the_group_keeps_nobody_waiting(sending):
    collective, lines, sources = sending
    lost = subprocess.Popen([sys.executable, "-c", FALL_SILENT, str(sources[1].meeting.port)])
    try:
        assert os.WIFSTOPPED(os.waitpid(lost.pid, os.WUNTRACED)[1]), "it ended before it said where it is"
        reader, faults = fault_of(sources[0])
        reader.join(3)
        waits = reader.is_alive()  # or gloo, which goes by the numbers of ports here, has let it in and served it
        lines[1].living = False
        collective.wait()
        reader.join(30)
        assert not reader.is_alive() and len(faults) == waits
        assert read_again(collective) == ("w", list(range(8)))
    finally:
        lost.kill()
        lost.wait()


@pytest.mark.timeout(120)
def test_a_member_that_comes_when_the_group_has_broken_up_is_told(sending):
    collective, lines, sources = sending
    lines[1].living = False
    collective.wait()
    reader, faults = fault_of(sources[0])
    reader.join(60)
    assert len(faults) == 1
    assert read_again(collective) == ("w", list(range(8)))
