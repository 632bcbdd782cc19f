"""Kills a training process at its n-th durable write: ``python faults.py CONFIG n1 n2 ...``.

Modules are imported once; every start of the run is a fork, so that a kill costs a second and not ten. A child counts
its calls of fsync, which every durable write makes, and takes SIGKILL in the place of the n-th. After the last kill one
child is left in peace. Prints a JSON line per child.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable


def kill_at(moment: int) -> Callable[[int], None]:
    calls, real = itertools.count(1), os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    return fsync


def train(config: str, moment: int | None) -> None:
    """In the child: does not return."""
    from easyvideor1.cli import main

    if moment is not None:
        os.fsync = kill_at(moment)
    status = 1
    try:
        main(["train", config])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    import transformers.models.qwen3_vl.modeling_qwen3_vl  # noqa: F401

    import easyvideor1.evaluation
    import easyvideor1.training.run  # noqa: F401

    config, moments = sys.argv[1], [int(word) for word in sys.argv[2:]]
    for moment in (*moments, None):
        child = os.fork()
        if child == 0:
            train(config, moment)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"moment": moment, "killed": os.WIFSIGNALED(status), "status": status}), flush=True)
