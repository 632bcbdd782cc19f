"""Mathematical equality: cheap comparisons first, then math-verify in a helper process that can be killed.

math-verify's own time limit is an alarm signal, which works in the main thread only and not inside C code. A process
with a deadline works from any thread and against anything.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from easyvideor1.rewards.answer import Reading, RewardError, Rule, Verdict, cannot_judge
from easyvideor1.rewards.regions import last_boxed

#: Seconds that one comparison may take.
TIME_LIMIT = 5.0
#: Seconds that the helper may take to start: it imports sympy.
_START_LIMIT = 120.0
#: Expressions longer than this are compared as text only.
_LONGEST = 2000
_WORKER = Path(__file__).with_name("math_worker.py")
_DECIMAL = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_NOISE = re.compile(r"\\(?:left|right|displaystyle|[,;!:])(?![a-zA-Z])|\s+")


class MathHelper:
    """One helper process, started when first needed, killed at a deadline and started again.

    Safe from any thread. A forked child starts a helper of its own.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self.time_limit = time_limit
        self._reset()

    def _reset(self) -> None:
        """Begin without a helper and with a lock that nobody holds: at the start, and in a forked child."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def equal(self, predicted: str, reference: str) -> bool | None:
        """Whether two expressions are equal; ``None`` if that went beyond the limits.

        A helper that ends before the deadline may have been ended by somebody else: a second one is asked.

        Raises:
            RewardError: the helper cannot be started.
        """
        request = json.dumps([reference, predicted]).encode() + b"\n"
        with self._lock:
            for _ in range(2):
                process = self._running()
                until = time.monotonic() + self.time_limit
                reply = _line(process, self.time_limit) if _ask(process, request) else None
                if reply is not None:
                    return reply == b"1"
                self._stop()
                if time.monotonic() >= until:
                    break
            return None

    def close(self) -> None:
        """End the helper; the next comparison starts another."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner != os.getpid():
            self._process = None  # the parent's helper: its pipes are not ours to use
        if self._process is None or self._process.poll() is not None:
            # -P keeps this directory, whose math.py would hide the standard one, off the helper's path.
            command = [sys.executable, "-P", str(_WORKER), str(self.time_limit)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            self._owner = os.getpid()
            if _line(self._process, _START_LIMIT) != b"ready":
                self._stop()
                raise RewardError(
                    "the helper process for math rewards did not start: its error is printed above. "
                    'Check the installation with `python -c "import math_verify"`.'
                )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ask(process: subprocess.Popen[bytes], request: bytes) -> bool:
    """Send a line; false when the helper has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(request)
    except BrokenPipeError:
        return False
    return True


def _line(process: subprocess.Popen[bytes], limit: float) -> bytes | None:
    """The next line of the helper, or ``None`` when it ended or the limit passed."""
    assert process.stdout is not None
    until, line = time.monotonic() + limit, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not piece:
            return None
        line += piece
    return line.strip()


_HELPER = MathHelper()
atexit.register(_HELPER.close)
# A fork while another thread holds the lock would leave it held forever in the child.
os.register_at_fork(after_in_child=_HELPER._reset)


def _plain(text: str) -> str:
    """An expression without what never changes its meaning: dollars, boxes, spacing, sizes of brackets, full stop."""
    text = text.strip()
    if "\\boxed{" in text:
        text = last_boxed(text) or text
    text = text.strip().removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]")
    text = _NOISE.sub("", text.replace("$", "")).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return text.rstrip(".").replace("\u2212", "-")


def _decimal(text: str) -> float | None:
    return float(text.replace(",", "")) if len(text) < 40 and _DECIMAL.fullmatch(text) else None


def read_math(text: str, options: tuple[str, ...]) -> Reading | None:
    """An expression, an option letter or a short text."""
    return Reading(text.strip()) if _plain(text) else None


@lru_cache(maxsize=10_000)
def _same(predicted: str, reference: str) -> bool | None:
    return _HELPER.equal(predicted, reference)


@lru_cache(maxsize=1000)
def _readable(reference: str) -> bool:
    """Whether a reference can be compared with something simple within the limits."""
    return _HELPER.equal("0", reference) is not None


def compare_math(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """1 if both are the same text, the same decimal number, or equal to math-verify; else 0.

    An answer that takes the comparison beyond its limits is not shown to be equal: 0, with the reason. Only when the
    reference does so by itself is nothing said about the answer.
    """
    p, r = _plain(predicted), _plain(reference)
    if p == r:
        return Verdict(1.0)
    p_value, r_value = _decimal(p), _decimal(r)
    if p_value is not None and r_value is not None:
        return Verdict(float(abs(p_value - r_value) <= 1e-9 * max(abs(p_value), abs(r_value))))
    if len(p) == 1 and len(r) == 1 and p.isalpha() and r.isalpha() and p.isupper():
        return Verdict(float(p == r.upper()))
    if len(predicted) > _LONGEST or len(reference) > _LONGEST:
        return Verdict(0.0)
    equal = _same(predicted, reference)
    if equal is None:
        limits = f"({TIME_LIMIT:g} s, 4 GiB)"
        if not _readable(reference):
            return cannot_judge(f"the reference takes every comparison beyond its limits {limits}")
        return Verdict(0.0, {"beyond_limits": 1.0}, reason=f"the answer took the comparison beyond its limits {limits}")
    return Verdict(float(equal))


def _reference(text: str, options: tuple[str, ...]) -> str:
    if not _plain(text):
        raise ValueError("it is empty")
    return text.strip()


MATH = Rule(read_math, _reference, compare_math, "an expression or a number, LaTeX or plain")
