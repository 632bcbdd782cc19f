"""The inside of ``easyvideor1.rewards.sandbox``: a script that gives up its rights and then runs a program.

Arguments: the program's file and the settings as JSON. With ``fds`` it afterwards runs the checks that it is sent.
It imports the standard library only: nothing of the package is there to be tampered with.
"""

from __future__ import annotations

import _imp
import _posixsubprocess
import contextlib
import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = (1 << 2) | (1 << 3)
_WRITE_ALL = sum(1 << bit for bit in (1, 4, 5, 7, 8))
_DEVICE = (1 << 1) | (1 << 2)
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")

#: Events of the interpreter that are refused outright, by prefix.
_REFUSED = (
    "ctypes.",
    "socket.",
    "subprocess.",
    "pty.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.spawn",
    "os.posix_spawn",
    "os.startfile",
    "os.kill",
    "sys.addaudithook",
    "sys.remote_exec",
    "resource.prlimit",
    "webbrowser.",
    "urllib.",
    "http.",
    "ftplib.",
    "smtplib.",
    "telnetlib.",
    "mmap.__new__",
)
#: Events whose first argument is a path that must lie in the program's directory.
_OWN_PATHS = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.utime",
    "os.chdir",
    "os.listdir",
    "os.scandir",
    "os.setxattr",
    "shutil.",
    "tempfile.",
)


#: Modules that reach around the audit hook: a fork without an event, interpreters without the hook, bare memory.
_REFUSED_MODULES = frozenset(
    (
        "_posixsubprocess",
        "_ctypes",
        "_testcapi",
        "_testinternalcapi",
        "_testbuffer",
        "_testmultiphase",
        "_xxsubinterpreters",
        "_xxinterpchannels",
        "_interpreters",
        "_interpchannels",
        "_interpqueues",
    )
)


def _limit(settings: dict[str, Any]) -> None:
    seconds = int(settings["seconds"]) + 1
    memory = int(settings["memory_mb"]) << 20
    output = int(settings["output_bytes"])
    for which, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))
    if hasattr(resource, "RLIMIT_NPROC"):
        resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))


def _readable() -> list[str]:
    roots = {
        os.path.realpath(root) for root in (sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64")
    }
    return [root for root in sorted(roots) if Path(root).is_dir() and root != "/"]


def _cut_off(box: str) -> None:
    """Leave the network and fence the file system, as far as this kernel can; the audit hook does the rest."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    handled = (1 << bits) - 1
    network = 3 if version >= 4 else 0
    scoped = 3 if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0:
        return
    truncate = 1 << 14 if version >= 3 else 0
    _allow(libc, ruleset, box, _READ | _WRITE_ALL | truncate)
    for root in _readable():
        _allow(libc, ruleset, root, _READ)
    for device in _DEVICES:
        _allow(libc, ruleset, device, _DEVICE)
    libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(libc: Any, ruleset: int, path: str, access: int) -> None:
    if Path(path).exists():
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", access, fd), 0)
        os.close(fd)


def _guard(box: str) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook. It binds what it needs now, so that replacing it in a module later changes nothing."""
    realpath, readable, devices = os.path.realpath, tuple(_readable()), _DEVICES
    fsdecode, own_paths, refused, modules = os.fsdecode, _OWN_PATHS, _REFUSED, _REFUSED_MODULES
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def below(path: str, roots: tuple[str, ...]) -> bool:
        return any(path == root or path.startswith(root + "/") for root in roots)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.__new__" and args[1] == 1:
            return  # a local socket that can connect to nothing: asyncio wants a pair of them
        if event == "import":
            if str(args[0]).rpartition(".")[2] in modules:
                raise ImportError(f"the module {args[0]} is not allowed here")
            return
        if event.startswith(refused):
            kind = ImportError if event.startswith("ctypes.") else PermissionError
            raise kind(f"{event} is not allowed here")
        if event == "open" and not isinstance(args[0], int):
            path = realpath(fsdecode(args[0]))
            flags = args[2] if isinstance(args[2], int) else 0
            roots = (box,) if flags & writing else (box, *readable)
            if not below(path, roots) and path not in devices:
                raise PermissionError("this file is not allowed here")
        elif event.startswith(own_paths):
            for argument in args:
                roots = (box, *readable) if event in {"os.listdir", "os.scandir"} else (box,)
                if isinstance(argument, str | bytes) and not below(realpath(fsdecode(argument)), roots):
                    raise PermissionError("this path is not allowed here")

    return hook


def _close_detours() -> None:
    """Replace what starts processes or loads built-in modules without an event that the hook would see.

    ``subprocess`` must still be importable, because much of the standard library imports it, so ``_posixsubprocess``
    stays, with a function that refuses.
    """
    refused, create = _REFUSED_MODULES, _imp.create_builtin

    def fork_exec(*args: object) -> int:
        raise PermissionError("starting a process is not allowed here")

    def create_builtin(spec: Any) -> Any:
        if str(spec.name).rpartition(".")[2] in refused:
            raise ImportError(f"the module {spec.name} is not allowed here")
        return create(spec)

    _posixsubprocess.fork_exec = fork_exec
    _imp.create_builtin = create_builtin


def _checks(namespace: dict[str, Any], ask: int, reply: int) -> None:
    write, loads, compiled = os.write, json.loads, compile
    requests = os.fdopen(ask, "rb")
    write(reply, b"ready\n")
    for line in requests:
        request = loads(line)
        answer = request["number"]
        # Whatever a check raises, SystemExit included, means that it failed.
        try:
            exec(compiled(request["check"], "check.py", "exec"), namespace)
        except BaseException:  # noqa: BLE001
            answer = "failed"
        write(reply, answer.encode() + b"\n")


def main() -> None:
    """Give up rights, run the program, run the checks."""
    program, settings = sys.argv[1], json.loads(sys.argv[2])
    source = Path(program).read_text(encoding="utf-8")
    box = os.path.realpath(Path.cwd())
    _limit(settings)
    _cut_off(box)
    for name in [name for name in sys.modules if name.split(".")[0] in {"ctypes", "_ctypes"}]:
        del sys.modules[name]
    _close_detours()
    for name in ("ctypes", "_posixsubprocess", "_imp"):
        del globals()[name]
    sys.argv = ["program.py"]
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": "program.py"}
    code = compile(source, "program.py", "exec")
    sys.addaudithook(_guard(box))
    if not settings["fds"]:
        exec(code, namespace)
        return
    # Checks are run even if the main part of a program reads input that is not there, or exits.
    with contextlib.suppress(EOFError, SystemExit):
        exec(code, namespace)
    _checks(namespace, *settings["fds"])


if __name__ == "__main__":
    main()
