"""Hostile programs, against each barrier by itself and against both."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from easyvideor1.rewards.sandbox import Barriers, Limits, protection, run_checks, run_program

SHORT = Limits(seconds=20.0, memory_mb=512)
LAYERS = protection()
WHOLE = {"namespaces", "scratch", "landlock", "seccomp"}
needs_kernel = pytest.mark.skipif(
    not set(LAYERS) >= WHOLE, reason=f"this kernel lends the sandbox only {LAYERS or 'nothing'}"
)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
KERNEL, HOOK, BOTH = Barriers(hook=False), Barriers(kernel=False), Barriers()


def attack(body: str, barriers: Barriers, limits: Limits = SHORT, **names: object) -> str:
    """What a program prints that tries ``body`` and says what became of it; its lines see ``names``."""
    known = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    said = "    print('done')\nexcept BaseException as error:\n    print('refused', type(error).__name__)\n"
    program = f"{known}try:\n{indented}\n{said}"
    return run_program(program, "", limits, barriers).output


FILES = {
    "read": "open(secret).read()",
    "read low level": "import os; os.read(os.open(secret, os.O_RDONLY), 9)",
    "read a link to it": "import os; os.symlink(secret, 'mine'); open('mine').read()",
    "read a link through a directory": "import os; os.symlink(folder, 'there'); open('there/secret.txt').read()",
    "link it hard": "import os; os.link(secret, 'mine')",
    "list": "import os; os.listdir(folder)",
    "glob": "import os; next(os.scandir(folder)); os.walk(folder)",
    "write": "open(folder + '/new', 'w')",
    "append": "open(secret, 'a').write('x')",
    "remove": "import os; os.remove(secret)",
    "rename into": "import os; open('a', 'w').close(); os.rename('a', folder + '/new')",
    "rename over a descriptor": "import os; d = os.open('.', 0); os.rename('program.py', '../new', "
    "src_dir_fd=d, dst_dir_fd=d)",
    "make a directory": "import os; os.mkdir(folder + '/new')",
    "truncate": "import os; os.truncate(secret, 0)",
    "up": "open('../' * 20 + secret.lstrip('/')).read()",
    "passwords": "open('/etc/passwd').read()",
    "the parent's environment": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "the parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "the parent's files": "import os; os.listdir(f'/proc/{os.getppid()}/fd')",
    "its own maps": "open('/proc/self/maps').read()",
    "a device": "open('/dev/mem', 'rb').read(1)",
    "a terminal": "open('/dev/tty').read(1)",
    "shared memory": "open('/dev/shm/evr1-test', 'w')",
    "temporary files": "import tempfile; tempfile.mkdtemp(dir=folder)",
    "import from there": "import sys; sys.path.insert(0, folder); import hidden_module",
    "sqlite": "import sqlite3; sqlite3.connect(folder + '/new.db').execute('create table t (x)')",
    "dbm": "import dbm.dumb; dbm.dumb.open(folder + '/new', 'c')['a'] = 'b'",
    "zip": "import zipfile; zipfile.ZipFile(folder + '/new.zip', 'w').writestr('a', 'b')",
    "memory map": "import mmap, os; mmap.mmap(os.open(secret, os.O_RDONLY), 0, prot=mmap.PROT_READ)[:1]",
    "numpy": "import numpy; numpy.fromfile(secret, dtype='u1')",
    "change owner": "import os; os.chown(secret, 1, 1)",
    "leave the root": "import os; os.chroot(folder)",
}
NETWORK = {
    "connect": "import socket; socket.create_connection(('127.0.0.1', port), 1)",
    "listen": "import socket; socket.create_server(('127.0.0.1', 0))",
    "datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', port))",
    "six": "import socket; socket.socket(socket.AF_INET6)",
    "raw": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "packet": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "local socket": "import socket; socket.socket(socket.AF_UNIX).connect(local)",
    "local socket without a name": "import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + 'evr1-test')",
    "names": "import socket; socket.gethostbyname('localhost.localdomain.invalid')",
    "web": "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{port}', timeout=1)",
    "the module beneath": "import _socket; _socket.socket(2, 1).connect(('127.0.0.1', port))",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', port))",
}
PROCESSES = {
    "fork": "import os; os.fork() or os._exit(0)",
    "fork a terminal": "import os; os.forkpty()",
    "program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "shell": "import os; assert os.system('true') == 0",
    "pipe to a shell": "import os; assert os.popen('echo x').read() == 'x'",
    "become another": "import os; os.execv('/bin/true', ['true'])",
    "become it by descriptor": "import os; os.execve(os.open('/usr/lib', os.O_RDONLY), ['x'], {})",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "multiprocessing": "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
    "spawned pool": "import concurrent.futures as c; c.ProcessPoolExecutor(1).submit(abs, 1).result(1)",
    "fork beneath": "import _posixsubprocess as p; p.fork_exec(*[None] * 23)",
    "kill the parent": "import os; os.kill(os.getppid(), 9)",
    "kill everybody": "import os; os.kill(-1, 9)",
    "kill the group": "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    "kill by descriptor": "import os, signal; signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
    "slow the parent": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "limits of the parent": "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "more memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "another user": "import os; os.setuid(1)",
}
#: Natively, around everything that the interpreter could check: the kernel's barrier must hold by itself.
NATIVE = {
    "open": "assert c.open(secret.encode(), 0) >= 0",
    "creat": "assert c.creat((folder + '/new').encode(), 0o644) >= 0",
    "socket": "assert c.socket(2, 1, 0) >= 0",
    "local socket": "assert c.socket(1, 1, 0) >= 0",
    "fork": "assert c.fork() >= 0",
    "vfork by number": "assert c.syscall(58) >= 0",
    "clone without the thread flag": "assert c.syscall(56, 17, 0, 0, 0, 0) >= 0",
    "clone3": "assert c.syscall(435, bytes(88), 88) >= 0",
    "exec": "assert c.execl(b'/bin/true', b'true', None) >= 0",
    "ptrace": "assert c.ptrace(16, os.getppid(), 0, 0) >= 0",
    "kill": "assert c.kill(os.getppid(), 0) >= 0",
    "signal a thread of the parent": "p = os.getppid(); assert c.syscall(234, p, p, 0) >= 0",
    "read its memory": "assert c.syscall(310, os.getppid(), 0, 0, 0, 0, 0) >= 0",
    "mount": "assert c.mount(b'none', b'.', b'tmpfs', 0, None) >= 0",
    "unmount": "assert c.umount2(os.getcwd().encode(), 2) >= 0",
    "namespaces": "assert c.unshare(0x10000000) >= 0",
    "io_uring": "assert c.syscall(425, 1, bytes(200)) >= 0",
    "memory file": "assert c.memfd_create(b'x', 0) >= 0",
    "shared segment": "assert c.shmget(1, 4096, 0o1666) >= 0",
    "messages": "assert c.msgget(1, 0o1666) >= 0",
    "keys": "assert c.syscall(250, 0, -3, 0) >= 0",
    "bpf": "assert c.syscall(321, 0, 0, 0) >= 0",
    "the other table of calls": "assert c.syscall(0x40000000 + 41, 2, 1, 0) >= 0",
    "outlive the parent": "assert c.prctl(1, 0, 0, 0, 0) >= 0",
    "be traced": "assert c.prctl(0x59616D61, -1, 0, 0, 0) >= 0",
}


@pytest.mark.parametrize("barriers", [KERNEL, HOOK, BOTH], ids=["kernel alone", "hook alone", "both"])
@pytest.mark.parametrize("name", [*FILES, *NETWORK, *PROCESSES])
def test_refused(name: str, barriers: Barriers, tmp_path: Path) -> None:
    if barriers == KERNEL and not set(LAYERS) >= WHOLE:
        pytest.skip(f"this kernel lends the sandbox only {LAYERS or 'nothing'}")
    if barriers == HOOK and name in _KERNEL_ONLY:
        pytest.skip("stopped by the kernel's barrier alone")
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    (tmp_path / "hidden_module.py").write_text("")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.TemporaryDirectory(prefix="evr1-") as short,  # paths of sockets must be short
        socket.socket(socket.AF_UNIX) as local,
    ):
        server.settimeout(0)
        local.bind(f"{short}/socket")
        local.listen()
        names = {"secret": str(secret), "folder": str(tmp_path), "port": server.getsockname()[1]}
        body = {**FILES, **NETWORK, **PROCESSES}[name]
        said = attack(body, barriers, **names, local=f"{short}/socket")
        assert said.startswith("refused "), said
        with pytest.raises(BlockingIOError):
            server.accept()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hidden_module.py", "secret.txt"]
    assert secret.read_text() == "hidden"
    assert secret.stat().st_mode & 0o777 != 0


#: What the interpreter raises no event for.
_KERNEL_ONLY = frozenset(
    (
        "leave the root",
        "slow the parent",
        "kill by descriptor",
        "another user",
        "names",
        "fork a terminal",
        "memory map",
    )
)


@needs_kernel
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86_64")
@pytest.mark.parametrize("name", NATIVE)
def test_native_code_is_refused_by_the_kernel_alone(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    said = attack(
        f"import ctypes, os\nc = ctypes.CDLL(None)\n{NATIVE[name]}", KERNEL, secret=str(secret), folder=str(tmp_path)
    )
    assert said == "refused AssertionError\n"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


#: Ways to what the runner replaced or keeps. Whoever finds it still faces the kernel.
INTROSPECTION = {
    "globals of the runner": """
import sys
frame = sys._getframe()
while frame.f_back: frame = frame.f_back
for key in ('_kernel', 'ctypes', '_posixsubprocess'): assert key in frame.f_globals
""",
    "the hook in a closure": """
import gc
cells = [o for o in gc.get_objects() if getattr(o, '__name__', '') == 'hook']
cells[0].__closure__[0].cell_contents.clear()
""",
    "reload": "import importlib, _posixsubprocess; importlib.reload(_posixsubprocess).fork_exec(*[None] * 23)",
    "builtins by subclasses": """
opener = [c for c in object.__subclasses__() if c.__name__ == 'FileLoader'] or [
    c for b in object.__subclasses__() for c in b.__subclasses__() if c.__name__ == 'FileLoader']
opener[0]('x', secret).get_data(secret)
""",
    "io without open": "import _io; _io.FileIO(secret).read()",
    "the code module": "import runpy; open('mine.py', 'w').write(f'open({secret!r})'); runpy.run_path('mine.py')",
    "another thread": """
import threading
failed = []
def run():
    try: open(secret).read()
    except BaseException as error: failed.append(error)
t = threading.Thread(target=run); t.start(); t.join()
raise failed[0]
""",
    "at exit": "import atexit; atexit.register(lambda: print(open(secret).read())); raise SystemExit",
    "a finaliser": """
class Late:
    def __del__(self): print(open(secret).read())
late = Late(); raise SystemExit
""",
}


@pytest.mark.parametrize("name", INTROSPECTION)
def test_looking_behind_the_scenes_gains_nothing(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    said = attack(INTROSPECTION[name], BOTH, secret=str(secret))
    assert "hidden" not in said
    assert said.startswith("refused"), said


#: What the hook cannot hide: then the kernel refuses what is tried with it.
OVERCOME = {
    "modules by gc": """
import gc, types
native = [m for m in gc.get_objects() if isinstance(m, types.ModuleType) and m.__name__ == '_ctypes'][0]
""",
    "modules by their loader": """
import importlib.machinery as m, _imp
native = _imp.create_dynamic(m.PathFinder.find_spec('_ctypes'))
""",
}


@needs_kernel
@pytest.mark.parametrize("name", OVERCOME)
def test_native_code_found_behind_the_hook_faces_the_kernel(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    body = (
        OVERCOME[name]
        + """
lib = native.dlopen(None, 2)
number = native.call_function(native.dlsym(lib, 'open'), (secret.encode(), 0))
assert number >= 0
"""
    )
    said = attack(body, BOTH, secret=str(secret))
    assert said.startswith("refused"), said


@needs_kernel
def test_a_program_that_has_overcome_the_hook_faces_the_kernel(tmp_path: Path) -> None:
    """Without the hook everything of the interpreter is open; see also what is refused natively."""
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    body = "import ctypes, os, _posixsubprocess\nprint(ctypes.CDLL(None).getpid() == os.getpid())\nopen(secret).read()"
    assert attack(body, KERNEL, secret=str(secret)) == "True\nrefused PermissionError\n"


def test_descriptors_of_the_parent_are_not_inherited(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    fd = os.open(secret, os.O_RDWR)
    try:
        os.set_inheritable(fd, True)
        body = """
import os
for fd in range(3, 256):
    try: print(fd, os.pread(fd, 99, 0))
    except OSError: pass
raise KeyError
"""
        assert attack(body, BOTH) == "refused KeyError\n"
    finally:
        os.close(fd)


def test_the_environment_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVR1_SECRET_OF_THE_TEST", "hidden")
    names = run_program("import os; print(*sorted(os.environ))", "", SHORT).output.split()
    ours = {"HOME", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "TMPDIR"}
    assert set(names) <= ours | {"LC_CTYPE"}


def test_tests_and_answers_are_not_where_a_program_could_read_them() -> None:
    """Checks arrive one by one after the program has run; the later ones are not in its process yet."""
    program = """
import gc, sys
def seen():
    kept = [o for o in gc.get_objects() if isinstance(o, (str, dict, list, tuple))]
    return any(''.join(['the_last', '_check']) in o for o in kept)
def frames():
    frame, found = sys._getframe(), ''
    while frame:
        found += repr([v for v in frame.f_locals.values() if isinstance(v, (str, bytes, dict, list))])
        frame = frame.f_back
    return ''.join(['the_last', '_check']) in found
"""
    checks = ["assert not seen() and not frames()", "assert 'the_last_check'"]
    assert run_checks(program, checks, SHORT).passed == [True, True]


BOMBS = {
    "fork": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "memory at once": "x = bytearray(1 << 40)",
    "numbers": "x = 9 ** 9 ** 9",
    "text": "x = 'a' * (1 << 40)",
    "recursion": "import sys; sys.setrecursionlimit(1 << 30)\ndef f(): f()\nf()",
    "output": "while True: print('x' * 10000)",
    "output without buffer": "import os\nwhile True: os.write(1, b'x' * 10000)",
    "one file": "f = open('a', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "sleep": "import time; time.sleep(1000)",
    "sleep behind signals": "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: time.sleep(1000)",
    "stop itself": "import signal; signal.raise_signal(signal.SIGSTOP)",
    "busy": "while True: pass",
    "busy in C": "sum(range(1 << 60))",
    "expression": "import re; re.match('(a*)*b', 'a' * 40)",
    "wait for input": "while True:\n    try: input()\n    except EOFError: pass",
    "threads that stay": "import threading, time\n"
    "for _ in range(50): threading.Thread(target=time.sleep, args=(1000,)).start()",
    "close the door": "import os, time\nfor fd in range(64):\n    try: os.close(fd)\n    except OSError: pass\n"
    "time.sleep(1000)",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_at_the_limits(name: str) -> None:
    limits = Limits(seconds=1.0, memory_mb=256, output_bytes=1 << 16)
    start = time.monotonic()
    run = run_program(BOMBS[name], "", limits)
    assert not run.ended
    assert len(run.output) <= limits.output_bytes
    assert time.monotonic() - start < 100  # some would last for ever, the others a quarter of an hour
    assert run_checks(BOMBS[name], ["assert True"], limits).passed == [False]


@pytest.mark.parametrize("barriers", [HOOK, BOTH], ids=["hook alone", "both"])
def test_threads_are_few(barriers: Barriers) -> None:
    body = """
import threading, time
threading.stack_size(32768)
def sleep(): time.sleep(3)
for n in range(2000):
    try: threading.Thread(target=sleep, daemon=True).start()
    except RuntimeError: break
print('few' if n < 100 else n)
"""
    assert attack(body, barriers).startswith("few")


@needs_kernel
def test_modes_and_times_of_files_outside_stay_as_they_are(tmp_path: Path) -> None:
    """Landlock does not look at these calls; they are answered as if they had been done."""
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    before = secret.stat()
    for body in ("import os; os.chmod(secret, 0)", "import os; os.utime(secret, (1, 1))"):
        attack(body, KERNEL, secret=str(secret))
        assert attack(body, HOOK, secret=str(secret)).startswith("refused")
    after = secret.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@needs_kernel
def test_a_program_cannot_fill_the_disk() -> None:
    body = """
import os
written = 0
try:
    for n in range(100_000):
        with open(f'f{n}', 'wb') as file: file.write(bytes(1 << 16))
        written += 1
except OSError as error: print(error.errno in (28, 122), written < 2000)
"""
    assert attack(body, BOTH, Limits(seconds=10)) == "True True\ndone\n"


@linux
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other processes may run programs just now
    mounts = Path("/proc/self/mounts").read_text()
    threads = threading.active_count()
    for program in ("open('a', 'w').write('x' * 1000)", "while True: pass", "import os; os.abort()"):
        run_program(program, "", Limits(seconds=0.5))
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert threading.active_count() == threads


MODULES = (
    "collections, itertools, heapq, bisect, functools, math, cmath, statistics, decimal, fractions, string, re, "
    "json, csv, "
    "io, copy, operator, typing, dataclasses, enum, abc, contextlib, textwrap, struct, array, queue, sys, os, hashlib, "
    "base64, bz2, lzma, zlib, difflib, pprint, calendar, graphlib, unittest, doctest, timeit, inspect, ast, "
    "types, weakref, "
    "logging, argparse, subprocess, socket, ssl, http.client, multiprocessing, selectors, platform, locale"
)
HONEST = {
    "files": "import os, shutil, pathlib\nos.mkdir('d'); open('d/a', 'w').write('x'); shutil.copy2('d/a', 'b')\n"
    "os.rename('b', 'c'); print(sorted(os.listdir('.')), pathlib.Path('c').read_text()); shutil.rmtree('d')",
    "temporary": "import tempfile\n"
    "with tempfile.NamedTemporaryFile('w+') as f: f.write('x'); f.seek(0); print(f.read())",
    "threads": "from concurrent.futures import ThreadPoolExecutor as P\nprint(sum(P(8).map(abs, range(100))))",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n"
    "    return await asyncio.to_thread(abs, -3)\n"
    "print(asyncio.run(f()))",
    "numpy": "import numpy as np\nprint(int(np.linalg.det(np.eye(50)) + np.random.default_rng(0).random(3).size))",
    "time": "import time, datetime, zoneinfo\n"
    "time.sleep(0.01); print(time.monotonic() > 0, datetime.datetime.now().year > 2000)",
    "random": "import secrets, uuid, random, os\n"
    "print(len(secrets.token_hex(4)), len(str(uuid.uuid4())), len(os.urandom(3)))",
    "signals": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: print('rang'))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()",
    "raise": "import signal\n"
    "signal.signal(signal.SIGUSR1, lambda *a: print('rang')); signal.raise_signal(signal.SIGUSR1)",
    "database": "import sqlite3\nd = sqlite3.connect('a.db'); d.execute('create table t (x)')\n"
    "d.execute('insert into t values (1)'); d.commit(); print(d.execute('select * from t').fetchall())",
    "modules": f"import {MODULES}\nprint('ok')",
    "big recursion": "import sys, threading\nsys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)\n"
    "print(f(9000))",
    "test framework": "import unittest\nclass T(unittest.TestCase):\n"
    "    def test(self): self.assertEqual(1, 1)\nprint(unittest.main(exit=False, argv=['x']).result.wasSuccessful())",
}
EXPECTED = {
    "files": "['c', 'd', 'program.py'] x",
    "temporary": "x",
    "threads": "4950",
    "asyncio": "3",
    "numpy": "4",
    "time": "True True",
    "random": "8 36 3",
    "signals": "rang",
    "raise": "rang",
    "database": "[(1,)]",
    "modules": "ok",
    "big recursion": "9000",
    "test framework": "True",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_notice_nothing(name: str) -> None:
    run = run_program(HONEST[name], "", Limits(seconds=15))
    assert (run.output.strip(), run.ended) == (EXPECTED[name], True)


def test_protection_names_known_layers() -> None:
    assert set(LAYERS) <= WHOLE
    assert list(LAYERS) == [layer for layer in ("namespaces", "scratch", "landlock", "seccomp") if layer in LAYERS]
