"""Programs of unknown intent, run in a process of their own.

Limits: wall clock, processor time, memory, file size, open files and output. The process sees one temporary directory;
it may read the Python installation and nothing else, has no network, and may start no process. ``sandbox_runner.py``
takes these rights away from itself before it runs the program: Landlock and a network namespace where the kernel has
them, an audit hook of the interpreter everywhere. It is no defence against native code that attacks the kernel.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_RUNNER = Path(__file__).with_name("sandbox_runner.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of wall clock for one program (or all its checks), memory in MiB, output and file size in bytes."""

    seconds: float = 5.0
    memory_mb: int = 1024
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """What a program printed, and how it finished: ``ended`` by itself without an error, or ``timed_out``."""

    output: str
    ended: bool
    timed_out: bool = False


def run_program(source: str, given: str, limits: Limits) -> Run:
    """Run a program with ``given`` as its standard input and return what it printed."""
    with tempfile.TemporaryDirectory(prefix="evr1-run-") as box, tempfile.TemporaryFile() as output:
        with tempfile.TemporaryFile() as standard_input:
            standard_input.write(given.encode("utf-8", "replace"))
            standard_input.seek(0)
            process = _start(source, box, limits, standard_input, output, ())
        try:
            process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            return Run("", ended=False, timed_out=True)
        finally:
            _end(process)
        output.seek(0)
        printed = output.read(limits.output_bytes).decode("utf-8", "replace")
        return Run(printed, ended=process.returncode == 0)


def run_checks(source: str, checks: Sequence[str], limits: Limits) -> list[bool]:
    """Run a program and then each check in its namespace; a check passes if it raises nothing.

    The checks are sent once the program's own code has run. If the program ends the process or the time is over, the
    checks still open fail.
    """
    passed: list[bool] = []
    with ExitStack() as stack:
        box = stack.enter_context(tempfile.TemporaryDirectory(prefix="evr1-run-"))
        output = stack.enter_context(tempfile.TemporaryFile())
        ask_read, ask, reply, reply_write = (stack.enter_context(pipe) for pipe in (*_pipe(), *_pipe()))
        fds = (ask_read.fileno(), reply_write.fileno())
        process = _start(source, box, limits, subprocess.DEVNULL, output, fds)
        stack.callback(_end, process)
        ask_read.close()
        reply_write.close()
        until = time.monotonic() + limits.seconds
        if _reply(reply.fileno(), until) == "ready":
            for check in checks:
                # An answer counts only with the number sent beside the check, which nobody knew before.
                number = secrets.token_hex(16)
                said = _send(ask.fileno(), {"check": check, "number": number}, until) and _reply(reply.fileno(), until)
                if not said:
                    break
                passed.append(said == number)
    return passed + [False] * (len(checks) - len(passed))


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0)


def _start(
    source: str, box: str, limits: Limits, given: IO[bytes] | int, output: IO[bytes], fds: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    settings = {
        "seconds": limits.seconds,
        "memory_mb": limits.memory_mb,
        "output_bytes": limits.output_bytes,
        "fds": fds,
    }
    program = Path(box, "program.py")
    program.write_text(source, encoding="utf-8", errors="replace")
    return subprocess.Popen(
        [sys.executable, "-I", str(_RUNNER), str(program), json.dumps(settings)],
        stdin=given,
        stdout=output,
        stderr=subprocess.DEVNULL,
        cwd=box,
        env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": box, "TMPDIR": box},
        pass_fds=fds,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    # The whole session, in case the program did start something.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _send(fd: int, message: dict[str, str], until: float) -> bool:
    """Write a line; false when the process is gone or does not read before the deadline."""
    data = json.dumps(message).encode() + b"\n"
    os.set_blocking(fd, False)
    while data:
        _, ready, _ = select.select([], [fd], [], max(0.0, until - time.monotonic()))
        if not ready:
            return False
        try:
            data = data[os.write(fd, data) :]
        except BrokenPipeError:
            return False
    return True


def _reply(fd: int, until: float) -> str | None:
    """The next line of the runner; ``None`` at the deadline, at its end, or when it says too much."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 100:
        ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(fd, 1) if ready else b""
        if not piece:
            return None
        line += piece
    return line.decode("ascii", "replace").strip()
