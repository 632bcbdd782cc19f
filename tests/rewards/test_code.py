"""Programs are executed, and hostile ones get nowhere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from easyvideor1.rewards import check_answer, score
from easyvideor1.rewards.sandbox import Limits, end_session, run_checks, run_program
from easyvideor1.rewards.tasks import code
from easyvideor1.types import DataError

SHORT = Limits(seconds=3.0, memory_mb=512)


def code_score(program: str, answer: str = "pass", **row: object) -> tuple[float, bool]:
    result = score("code", f"<answer>{program}</answer>", answer, **row)
    return result.accuracy, result.applicable


def test_a_wrong_body_is_wrong_whatever_its_names() -> None:
    tests = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]
    assert code_score("def add(a, b):\n    return a + b", tests=tests) == (1.0, True)
    assert code_score("def add(a, b):\n    return a - b", tests=tests) == (0.5, True)
    assert code_score("def add(a, b): return", tests=tests) == (0.0, True)
    assert code_score("def add(a, b)", tests=tests) == (0.0, True)
    assert code_score("```python\ndef add(a, b):\n    return a + b\n```", tests=tests[0]) == (1.0, True)


def test_programs_that_read_and_print() -> None:
    tests = [{"input": "3\n4\n", "output": "7\n"}, {"input": "1\n1\n", "output": "2"}]
    assert code_score("print(int(input()) + int(input()))", tests=tests) == (1.0, True)
    assert code_score("print(7)", test_cases=tests) == (0.5, True)


@pytest.mark.parametrize("as_text", [False, True])
def test_parallel_lists_and_single_pairs(as_text: bool) -> None:
    def column(tests: object) -> object:
        return json.dumps(tests) if as_text else tests

    lists = column({"inputs": ["3\n4", "1\n1"], "outputs": ["7", 2]})
    assert code_score("print(int(input()) + int(input()))", tests=lists) == (1.0, True)
    assert code_score("print(7)", tests=lists) == (0.5, True)
    assert code_score("x = 1", tests=lists) == (0.0, True)
    pair = column({"input": 1, "output": 2})
    assert code_score("print(2 * int(input()))", tests=pair) == (1.0, True)
    assert code_score("print(1)", tests=pair) == (0.0, True)


def test_all_pairs_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "PAIRS_SECONDS", 1.5)
    tests = [{"input": str(n), "output": "done"} for n in range(40)]
    accuracy, applicable = code_score("import time; time.sleep(0.4); print('done')", tests=tests)
    assert applicable
    assert accuracy < 0.2  # 1 without the deadline: there is time for every single pair


def test_tests_inside_the_reference() -> None:
    answer = '{"tests": ["assert f() == 1"]}'
    check_answer("code", answer)
    assert code_score("f = lambda: 1", answer) == (1.0, True)


def test_without_tests_the_outputs_are_compared() -> None:
    assert code_score("print(sum([1, 2]))", "print(3)") == (1.0, True)
    assert code_score("print(4)", "print(3)") == (0.0, True)
    assert code_score("def f(): pass", "def f(): pass") == (0.0, False)


def test_a_list_of_tests_kept_as_text_is_still_a_list() -> None:
    assert code_score("f = lambda: 2", tests='["assert f() == 1", "assert f() == 2"]') == (0.5, True)
    assert code_score("f = lambda: 2", tests="[broken") == (0.0, False)


def test_checks_longer_than_a_pipe_do_not_hang() -> None:
    checks = [f"pass  # {'x' * 200_000}"] * 3
    assert run_checks("x = 1", checks, SHORT).passed == [True] * 3
    announce = "for fd in range(3, 64):\n    try: os.write(fd, b'ready\\n')\n    except OSError: pass"
    deaf = f"import os, time\n{announce}\ntime.sleep(60)"
    start = time.monotonic()
    assert run_checks(deaf, checks, SHORT).passed == [False] * 3
    assert time.monotonic() - start < 30


def test_unusable_tests_and_references_are_named() -> None:
    assert code_score("x = 1", tests=[{"in": 1}]) == (0.0, False)
    with pytest.raises(DataError, match="compiles"):
        check_answer("code", "def f(:")
    with pytest.raises(DataError, match="tests"):
        check_answer("code", '{"tests": []}')


def test_leaving_early_passes_nothing() -> None:
    for program in ("import os; os._exit(0)", "raise SystemExit(0)", "raise ValueError"):
        assert run_checks(program, ["assert False"], SHORT).passed == [False]
    assert run_checks("def f(): import os; os._exit(0)", ["f()", "pass"], SHORT).passed == [False, False]


REFUSED = {
    "read": "open({secret!r}).read()",
    "read low level": "import os; os.read(os.open({secret!r}, os.O_RDONLY), 10)",
    "list": "import os; os.listdir({folder!r})",
    "write": "open({folder!r} + '/new', 'w')",
    "remove": "import os; os.remove({secret!r})",
    "rename": "import os; os.rename({secret!r}, 'mine')",
    "link": "import os; os.symlink({secret!r}, 'mine'); open('mine').read()",
    "network": "import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
    "datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "local socket": "import socket; socket.socket(socket.AF_UNIX).connect({secret!r})",
    "fork": "import os; os.fork()",
    "process": "import subprocess; subprocess.run(['ls'])",
    "shell": "import os; os.system('ls')",
    "fork without an event": "import _posixsubprocess as p; p.fork_exec(*[None] * 23)",
    "the same, imported again": "import sys; del sys.modules['_posixsubprocess']; import _posixsubprocess",
    "the same, through subprocess": "import subprocess; subprocess._fork_exec(*[None] * 23)",
    "built-in loader": (
        "import _imp; from importlib.machinery import ModuleSpec;"
        " _imp.create_builtin(ModuleSpec('_posixsubprocess', None))"
    ),
    "interpreter without the hook": "import _xxsubinterpreters",
    "multiprocessing": "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
    "native": "import ctypes; ctypes.CDLL(None).getpid()",
    "kill": "import os; os.kill(os.getppid(), 9)",
    "memory": "x = bytearray(4 << 30)",
    "environment": "import os; os.environ['EVR1_SECRET_OF_THE_TEST']",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_sandbox_refuses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVR1_SECRET_OF_THE_TEST", "1")
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attack = REFUSED[name].format(secret=str(secret), folder=str(tmp_path), port=port)
        program = f"try:\n    {attack}\nexcept Exception as error:\n    print('refused', type(error).__name__)"
        run = run_program(program, "", SHORT)
    assert run.output.startswith("refused "), run
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]
    assert secret.read_text() == "hidden"


def test_what_a_program_left_behind_ends_with_it() -> None:
    # The sandbox refuses to start processes, so a shell stands in for the program that did.
    command = ["sh", "-c", "sleep 60 & echo $!"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        left_behind = int(process.stdout.readline())
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        end_session(process)
    until = time.monotonic() + 60
    while _runs(left_behind) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(left_behind)
    assert process.returncode == 0
    end_session(process)  # a second time harms nobody: the number may be a stranger's by now


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_limits_of_time_and_output() -> None:
    start = time.monotonic()
    assert run_program("while True: pass", "", Limits(seconds=0.5)).timed_out
    assert run_checks("def f():\n    while True: pass", ["f()", "pass"], Limits(seconds=0.5)).passed == [False, False]
    assert time.monotonic() - start < 30
    flood = run_program("while True: print('x' * 1000)", "", SHORT)
    assert not flood.ended
    assert len(flood.output) <= SHORT.output_bytes


@pytest.mark.parametrize(
    "program",
    [
        "import asyncio\nasync def f(): return 'done'\nprint(asyncio.run(f()))",
        "import threading\nt = threading.Thread(target=lambda: print('done'))\nt.start(); t.join()",
        "import numpy as np\nprint('done' if np.ones((9, 9)).dot(np.ones(9)).sum() == 81 else '')",
        "import re, json, heapq, decimal, datetime, collections, itertools, functools, random\nprint('done')",
    ],
)
def test_honest_programs_run(program: str) -> None:
    assert run_program(program, "", Limits(seconds=10)).output == "done\n"


def test_its_own_directory_is_the_programs() -> None:
    program = "open('a.txt', 'w').write('kept'); import os; print(open('a.txt').read(), sorted(os.listdir()))"
    assert run_program(program, "", SHORT).output == "kept ['a.txt', 'program.py']\n"
