"""The process that decodes: ``python -m easyvideor1.video.worker``, started and watched by ``easyvideor1.video.guard``.

One JSON object per line. In: ``{"path", "plan"}``. Out: ``{"event": "ready"}`` once, then for every job ``began`` (the
claim on the entry is settled, decoding starts) and one of ``built``, ``present``, ``failed`` (``reason``, ``detail``:
the file's fault) or ``fatal`` (``detail``: the store's). Pixels go to the store, never through the pipe. Any other
exception ends the process, with its traceback on stderr, and the guard reports a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import sys
import threading
from typing import Any, TextIO

from easyvideor1.types import MediaError
from easyvideor1.video.decode import decode
from easyvideor1.video.plan import plan_from_json
from easyvideor1.video.store import FrameStore, StoreError


def main() -> None:
    """Serve jobs until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--codec", choices=("raw", "zstd"), required=True)
    parser.add_argument("--claim-seconds", type=float, required=True)
    parser.add_argument("--memory-mb", type=int, required=True)
    arguments = parser.parse_args()
    # Whatever a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    limit = arguments.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    store = FrameStore(arguments.store, arguments.codec)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    _answer(answers, event="ready")
    while True:
        job = json.loads(jobs.get())
        _answer(answers, **_serve(job["path"], job["plan"], store, arguments.claim_seconds, answers))


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    """Pass jobs on; when the parent is gone, so are we, even in the middle of a decode that hangs."""
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _answer(answers: TextIO, **fields: Any) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def _serve(path: str, plan_text: str, store: FrameStore, claim_seconds: float, answers: TextIO) -> dict[str, str]:
    plan = plan_from_json(plan_text)
    try:
        # Not getting the claim means that its holder is slow or stuck: then the work is done twice, which harms nobody.
        with store.claim(plan.digest, claim_seconds):
            if store.has(plan):
                return {"event": "present"}
            _answer(answers, event="began")
            store.put(decode(path, plan))
            return {"event": "built"}
    except MediaError as error:
        return {"event": "failed", "reason": error.reason, "detail": str(error)}
    except MemoryError:
        return {
            "event": "failed",
            "reason": "memory",
            "detail": f"{path} needs more than cache.memory_mb",
        }
    except StoreError as error:
        return {"event": "fatal", "detail": str(error)}


if __name__ == "__main__":
    main()
