"""Programs of unknown intent, run in a process of their own.

Two barriers surround a program; it would have to get through both:

- The kernel's (``kernel.py``): no network, no file outside its directory and the Python installation, no
  processes, no programs, no signals to others, room for a few files. It holds for native code as well. ``protection``
  says which of its layers this machine has; a system without any, such as macOS, has the second barrier alone.
- The interpreter's (``runner.py``): an audit hook and a few replaced functions. They stop what programs
  commonly do, not a program written against this interpreter.

Everywhere there are limits on wall clock, processor time, memory, size of files, open files and output; at the end the
whole session is killed. It is made for what a language model writes. Where the kernel's barrier is missing, run
programs of an attacker in a container or a virtual machine.
"""

from __future__ import annotations

import builtins
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from easyvideor1.types import EasyVideoError


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of tests are looked up.

    Attributes:
        own: names that the program defines, even where Python has one of that name.
        classes: names of classes that the program is asked for.
        containers: those among them that define ``in`` themselves.
        imports: names that are imported on the side of the checks, with the statement that does it.
        stars: ``from module import *``, whose names are not known.
        closed: names that the tests define, which are never the program's.
        only: whether the program defines only the names in ``own``.
    """

    own: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    imports: tuple[tuple[str, str], ...] = ()
    stars: tuple[str, ...] = ()
    closed: frozenset[str] = frozenset()
    only: bool = False

    def settings(self) -> dict[str, Any]:
        """The same as JSON values, for the process of the checks."""
        return {
            "own": sorted(self.own),
            "classes": sorted(self.classes),
            "containers": sorted(self.containers),
            "imports": dict(self.imports),
            "stars": list(self.stars),
            "closed": sorted(self.closed),
            "only": self.only,
        }


_RUNNER = Path(__file__).with_name("runner.py")
_START_SECONDS = 30.0
_PATIENCE = 3.0
#: Seconds in which a program that has closed its pipe has ended.
_GRACE = 1.0
#: One heap for all threads: the allocator reserves 64 MiB of address space for each further one.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class SandboxError(EasyVideoError):
    """Programs cannot be run on this machine; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of processor time for one program (or all its checks), memory in MiB, output and file size in bytes.

    The system counts processor time in whole seconds. On the clock a program has ``_PATIENCE`` times as long, so that
    an honest one does not fail because the machine is busy.
    """

    seconds: float = 5.0
    memory_mb: int = 1024
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Barriers:
    """Which barriers are used: both, except to test each by itself."""

    kernel: bool = True
    hook: bool = True


_BOTH = Barriers()
_OPEN = Names()
_TIME_SIGNALS = (-signal.SIGXCPU, -signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a program printed, and how it finished: ``ended`` by itself without an error, or ``timed_out``.

    ``reason`` says in a few fixed words what kept it from ending; empty if nothing did.
    """

    output: str
    ended: bool
    timed_out: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """Which checks passed, and in a few fixed words which is the first that did not, and why; empty if all passed."""

    passed: list[bool]
    reason: str = ""


_OWN_EXCEPTION = "an exception of its own"
#: The numbers with which ``runner`` tells what was raised; see there.
_RAISED = 100
_EXCEPTIONS = sorted(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
)


def protection() -> tuple[str, ...]:
    """The layers of the kernel's barrier on this machine: ``namespaces``, ``scratch``, ``landlock``, ``seccomp``.

    Raises:
        SandboxError: programs cannot run at all.
    """
    with tempfile.TemporaryDirectory(prefix="evr1-run-") as box, tempfile.TemporaryFile() as output:
        process = _start("", box, Limits(), subprocess.DEVNULL, output, report=True)
        try:
            _wait(process, time.monotonic() + _START_SECONDS)
        finally:
            end_session(process)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise SandboxError(
            f"the sandbox of the code reward does not start (exit status {process.returncode}): run "
            f"`{sys.executable} -I -c pass` by hand, and look for limits on memory or processes"
        )
    return tuple(json.loads(said))


def run_program(source: str, given: str, limits: Limits, barriers: Barriers = _BOTH) -> ProgramRun:
    """Run a program with ``given`` as its standard input and return what it printed."""
    with tempfile.TemporaryDirectory(prefix="evr1-run-") as box, tempfile.TemporaryFile() as output:
        with tempfile.TemporaryFile() as standard_input:
            standard_input.write(given.encode("utf-8", "replace"))
            standard_input.seek(0)
            process = _start(source, box, limits, standard_input, output, barriers)
        try:
            ended = _wait(process, time.monotonic() + _PATIENCE * limits.seconds)
        finally:
            end_session(process)
        if not ended or process.returncode in _TIME_SIGNALS:
            return ProgramRun("", ended=False, timed_out=True, reason=_out_of_time(limits))
        output.seek(0)
        printed = output.read(limits.output_bytes)
        reason = _end_of(process.returncode)
        if reason and len(printed) == limits.output_bytes:
            reason = "the program wrote more than it may"
        return ProgramRun(printed.decode("utf-8", "replace"), ended=process.returncode == 0, reason=reason)


def _out_of_time(limits: Limits) -> str:
    return f"the program ran out of time ({limits.seconds:g} s)"


def _raised(status: int) -> str:
    """The exception that a number of ``runner`` stands for; empty if it is none of them."""
    place = status - _RAISED
    return [_OWN_EXCEPTION, *_EXCEPTIONS][place] if 0 <= place <= len(_EXCEPTIONS) else ""


def _end_of(status: int) -> str:
    """Why a program ended, from its exit status (a signal is negative); empty if it had no error."""
    if status == 0:
        return ""
    return "the program crashed" if status < 0 else f"the program ended with {_raised(status) or 'an error'}"


def run_checks(
    source: str, checks: Sequence[str], limits: Limits, barriers: Barriers = _BOTH, names: Names = _OPEN
) -> Checked:
    """Run a program, and each check against its names; a check passes if it raises nothing.

    The checks run in a process of their own (``calls.py``): the program sees neither them nor their verdicts,
    only its functions being called. If the program ends or the time is over, the checks still open fail. ``names``
    says which names of the checks are the program's.
    """
    passed: list[bool] = []
    why = ""
    with ExitStack() as stack:
        ask, reply, processes = _start_pair(stack, source, limits, barriers, names)
        until = time.monotonic() + _PATIENCE * limits.seconds
        if _reply(reply.fileno(), until) == "ready":
            for check in checks:
                # An answer counts only with the number sent beside the check, which nobody knew before.
                number = secrets.token_hex(16)
                said = _send(ask.fileno(), {"check": check, "number": number}, until) and _reply(reply.fileno(), until)
                if not said:
                    break
                passed.append(said == number)
                if said != number:
                    why = why or _verdict(said)
        if len(passed) < len(checks):
            why = why or _why_it_ended(processes, limits, until)
    passed += [False] * (len(checks) - len(passed))
    return Checked(passed, f"test {passed.index(False) + 1} of {len(passed)}: {why}" if why else "")


def _verdict(said: str) -> str:
    """The exception of a check that failed, from the line that says so."""
    digits = said.removeprefix("failed ")
    return (_raised(int(digits)) if digits.isascii() and digits.isdigit() else "") or _OWN_EXCEPTION


def _why_it_ended(processes: Sequence[subprocess.Popen[bytes]], limits: Limits, until: float) -> str:
    """Why a program (the first of the two) or the process of its checks ended."""
    late = time.monotonic() >= until
    if not late:
        _wait(processes[0], min(until, time.monotonic() + _GRACE))  # its end shows a moment after its pipe has closed
    ends = [os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for process in processes]
    statuses = [0 if end is None else end.si_status * (1 if end.si_code == os.CLD_EXITED else -1) for end in ends]
    if late or set(statuses) & set(_TIME_SIGNALS):
        return _out_of_time(limits)
    return _end_of(statuses[0]) or "the program ended before it"


def _start_pair(
    stack: ExitStack, source: str, limits: Limits, barriers: Barriers, names: Names
) -> tuple[IO[bytes], IO[bytes], list[subprocess.Popen[bytes]]]:
    """A program and the process of its checks, joined; also where checks are written and verdicts are read."""
    boxes = [stack.enter_context(tempfile.TemporaryDirectory(prefix="evr1-run-")) for _ in range(2)]
    ask_read, ask, reply, reply_write, call_read, call, result_read, result = (
        stack.enter_context(end) for _ in range(4) for end in _pipe()
    )
    ends = {"link": (result_read.fileno(), call.fileno()), "checks": (ask_read.fileno(), reply_write.fileno())}
    program = {"link": (call_read.fileno(), result.fileno())}
    processes = []
    for text, box, fds in ((source, boxes[0], program), ("", boxes[1], ends)):
        process = _start(text, box, limits, subprocess.DEVNULL, subprocess.DEVNULL, barriers, fds=fds, names=names)
        stack.callback(end_session, process)
        processes.append(process)
    # What is left open here would keep one side waiting for another that has ended.
    for end in (ask_read, reply_write, call_read, call, result_read, result):
        end.close()
    return ask, reply, processes


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0)


def _start(
    source: str,
    box: str,
    limits: Limits,
    given: IO[bytes] | int,
    output: IO[bytes] | int,
    barriers: Barriers = _BOTH,
    *,
    fds: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    names: Names = _OPEN,
    report: bool = False,
) -> subprocess.Popen[bytes]:
    settings = {
        "seconds": limits.seconds,
        "memory_mb": limits.memory_mb,
        "output_bytes": limits.output_bytes,
        "link": fds.get("link", ()),
        "checks": fds.get("checks", ()),
        "names": names.settings() if "checks" in fds else {},
        "kernel": barriers.kernel,
        "hook": barriers.hook,
        "report": report,
    }
    program = Path(box, "program.py")
    program.write_text(source, encoding="utf-8", errors="replace")
    return subprocess.Popen(
        [sys.executable, "-I", str(_RUNNER), str(program), json.dumps(settings)],
        stdin=given,
        stdout=output,
        stderr=subprocess.DEVNULL,
        cwd=box,
        env=_ENVIRONMENT | {"HOME": box, "TMPDIR": box},
        pass_fds=[fd for pair in fds.values() for fd in pair],
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], until: float) -> bool:
    """Whether the process ends before the deadline. It is not reaped: its number stays the number of its session."""
    pause = 0.0005
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = until - time.monotonic()
        if left <= 0:
            return False
        pause = min(2 * pause, 0.02, left)
        time.sleep(pause)
    return True


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and all processes of the session, even if the leader has ended.

    Until the leader is reaped, no other process can get its number.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # nobody left, or only the leader that has ended
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
    """The next line of the runner; ``None`` at the deadline, at its end, or when the line is too long."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 100:
        ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(fd, 1) if ready else b""
        if not piece:
            return None
        line += piece
    return line.decode("ascii", "replace").strip()
