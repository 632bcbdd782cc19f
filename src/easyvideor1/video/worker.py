"""The program of a worker process: ``python -m easyvideor1.video.worker``, started and watched by ``worker_pool``.

One JSON object per line. In: ``{"verb", "path", "plan"}``. Out: ``{"event": "ready"}`` once, then for every job at most
one ``began`` (the wait for the lock of the entry is over, decoding starts), and one of

* ``built`` or ``present``: verb ``decode``, the entry is in the store,
* ``decoded``: verb ``pixels``, the frames are in the scratch file,
* ``probed`` with ``info``: verb ``probe``,
* ``failed`` (``reason``, ``detail``: the file is bad) or ``fatal`` (``detail``: the frames cannot be written).

Pixels never go through the pipe. Any other exception ends the process with its traceback on stderr, and the pool
reports a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import sys
import tempfile
import threading
from typing import Any, TextIO, get_args

import numpy as np

from easyvideor1.types import Frames, MediaError, MediaPlan
from easyvideor1.video.decode import Backend, decode
from easyvideor1.video.entry import Codec
from easyvideor1.video.plan import plan_from_json
from easyvideor1.video.probe import probe, recall
from easyvideor1.video.probe_cache import PROBE_CACHE_NAME, ProbeCache, info_to_json
from easyvideor1.video.store import FrameStore, StoreError


def main() -> None:
    """Serve jobs until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--codec", choices=get_args(Codec), required=True)
    parser.add_argument("--lock-seconds", type=float, required=True)
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--scratch", type=int, required=True)
    parser.add_argument("--decoder", choices=get_args(Backend), required=True)
    arguments = parser.parse_args()
    # Output of libraries must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    limit = arguments.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    store = FrameStore(arguments.store, arguments.codec)
    cache = ProbeCache(store.directory / PROBE_CACHE_NAME)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    _answer(answers, event="ready")
    while True:
        job = json.loads(jobs.get())
        _answer(answers, **_guarded(job, store, cache, arguments, answers))


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    """Queue jobs. When the parent ends, this process ends too, even while a decode hangs."""
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _answer(answers: TextIO, **fields: Any) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def _guarded(
    job: dict[str, Any], store: FrameStore, cache: ProbeCache, arguments: argparse.Namespace, answers: TextIO
) -> dict[str, str]:
    """Run a job; an exception becomes the answer."""
    path = job["path"]
    try:
        if job["verb"] == "probe":
            return {"event": "probed", "info": info_to_json(probe(path, cache))}
        plan = plan_from_json(job["plan"])
        recall(path, cache)
        if job["verb"] == "pixels":
            return _to_scratch(decode(path, plan, backend=arguments.decoder), arguments.scratch)
        return _to_store(path, plan, store, arguments, answers)
    except MediaError as error:
        return {"event": "failed", "reason": error.reason, "detail": str(error)}
    except MemoryError:
        return {"event": "failed", "reason": "memory", "detail": f"{path} needs more than cache.memory_mb"}
    except StoreError as error:
        return {"event": "fatal", "detail": str(error)}


def _to_store(
    path: str, plan: MediaPlan, store: FrameStore, arguments: argparse.Namespace, answers: TextIO
) -> dict[str, str]:
    # Without the lock its holder is slow or stuck: the work is then done twice, which is harmless.
    with store.lock(plan.digest, arguments.lock_seconds):
        if store.touch(plan):
            return {"event": "present"}
        _answer(answers, event="began")
        store.put(decode(path, plan, backend=arguments.decoder))
        return {"event": "built"}


def _to_scratch(frames: Frames, scratch: int) -> dict[str, str]:
    try:
        os.ftruncate(scratch, 0)
        view = np.ascontiguousarray(frames.pixels).data.cast("B")
        written = 0
        while written < len(view):  # one call writes 2 GiB at most
            written += os.pwrite(scratch, view[written:], written)
    except OSError as error:
        os.ftruncate(scratch, 0)
        where = tempfile.gettempdir()
        raise StoreError(
            f"cannot write decoded frames to {where}: {error}; free some space there or set TMPDIR"
        ) from error
    return {"event": "decoded"}


if __name__ == "__main__":
    main()
