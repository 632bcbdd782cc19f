"""The inside of ``easyvideor1.rewards.sandbox``: a script that gives up its rights and then runs a program.

Arguments: the program's file and the settings as JSON. With ``link`` (two descriptors) the program's names can then be
used from the other end; with ``checks`` (two more) this process is that other end, and runs the checks it is sent.
It imports the standard library only: nothing of the package is there to be tampered with.
"""

from __future__ import annotations

import _imp
import _posixsubprocess
import _thread
import builtins
import importlib.util
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    "sqlite3.enable_load_extension",
    "sqlite3.load_extension",
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
    "sqlite3.connect",
)


#: How a program ends that raises: this number, and the place of the exception among Python's own from the next one on.
_RAISED = 100
_EXCEPTIONS = {
    kind: _RAISED + place
    for place, (_, kind) in enumerate(
        sorted(
            (name, kind)
            for name, kind in vars(builtins).items()
            if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
        ),
        start=1,
    )
}

#: Threads at a time; where the kernel does not count them, the memory for their stacks is the only other limit.
_THREADS = 64

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
    seconds = math.ceil(settings["seconds"])
    memory = int(settings["memory_mb"]) << 20
    output = int(settings["output_bytes"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # a signal, and a second later the end
    for which, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))


def _beside(name: str) -> Any:
    """A module beside this script; its directory stays off the path, where its files would hide the library's."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _guard(box: str, readable: tuple[str, ...], devices: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook. It binds what it needs now, so that replacing it in a module later changes nothing."""
    realpath = os.path.realpath
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

    def few(start: Callable[..., Any]) -> Callable[..., Any]:
        count, most = _thread._count, _THREADS

        def start_thread(*args: Any, **named: Any) -> Any:
            if count() >= most:
                raise RuntimeError("can't start new thread")
            return start(*args, **named)

        return start_thread

    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        if hasattr(_thread, name):
            setattr(_thread, name, few(getattr(_thread, name)))
    sys.modules.pop("threading", None)  # it keeps the functions that it found
    _posixsubprocess.fork_exec = fork_exec
    _imp.create_builtin = create_builtin


def _run_checks(calls: Any, objects: Any, checks: Any, settings: dict[str, Any]) -> None:
    """Run checks against a program in another process, once that has run its own code."""
    link = calls.Link(*settings["link"], objects)
    namespace = checks.Namespace(link, settings["names"])
    namespace |= checks.Guard(link).operators()
    ask, reply = settings["checks"]
    requests = os.fdopen(ask, "rb")
    link.ask("bool", True)
    os.write(reply, b"ready\n")
    for line in requests:
        request = json.loads(line)
        answer = request["number"]
        link.begin(request["check"])
        # Whatever a check raises, SystemExit included, means that it failed.
        try:
            exec(checks.compiled(request["check"]), namespace)
        except BaseException as error:  # noqa: BLE001
            answer = f"failed {_EXCEPTIONS.get(type(error), _RAISED)}"
        if link.broken:
            return
        os.write(reply, answer.encode() + b"\n")


def main() -> None:
    """Give up rights, then run the program or the checks."""
    program, settings = sys.argv[1], json.loads(sys.argv[2])
    source = Path(program).read_text(encoding="utf-8")
    box = os.path.realpath(Path.cwd())
    _limit(settings)
    kernel = _beside("kernel")
    calls, objects = (_beside("calls"), _beside("objects")) if settings["link"] else (None, None)
    checks = _beside("checks") if settings["checks"] else None
    readable, devices = tuple(kernel.readable_roots()), tuple(kernel.DEVICES)
    layers = kernel.restrict(box) if settings["kernel"] else []
    if "scratch" in layers:
        Path(program).write_text(source, encoding="utf-8")
    if settings["report"]:
        sys.stdout.write(json.dumps(layers))
        return
    sys.argv = ["program.py"]
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": "program.py"}
    if settings["hook"]:
        for name in [name for name in sys.modules if name.split(".")[0] in {"ctypes", "_ctypes"}]:
            del sys.modules[name]
        _close_detours()
        sys.addaudithook(_guard(box, readable, devices))
    if settings["checks"]:
        _run_checks(calls, objects, checks, settings)
        return
    link = calls.Link(*settings["link"], objects, namespace) if calls else None
    del kernel
    for name in ("_beside", "_posixsubprocess", "_imp", "importlib"):
        del globals()[name]
    known = dict(_EXCEPTIONS)
    try:
        exec(compile(source, "program.py", "exec"), namespace)
    except SystemExit:
        if link is None:
            raise
    except BaseException as error:  # noqa: BLE001
        # Checks are run even if the main part of a program reads input that is not there, or exits.
        if link is None or not isinstance(error, EOFError):
            raise SystemExit(known.get(type(error), _RAISED)) from None
    if link is not None:
        link.serve()


if __name__ == "__main__":
    main()
