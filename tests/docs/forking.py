"""``evr1`` without the seconds that its imports take: a process that has them forks itself for every command.

``python -m tests.docs.forking SOCKET`` is that process. ``evr1`` on the path of a page is the client below: a script
that hands over its words, its directory, its environment and its three streams, and exits as the command does.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from .blocks import ROOT

CLIENT = """#!{python} -SE
import array, json, os, socket, sys
words = sys.argv[1:]
if words[:1] == ["train"]:  # a block may ask for a shorter training; the command itself stays what the page says
    words += os.environ.get("EVR1_SHORT", "").split()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    said = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(said).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(said)
    status = server.recv(1)
sys.exit(status[0] if status else 70)
"""

#: What commands import, so that a fork has it.
MODULES = (
    "easyvideor1.cli.app easyvideor1.components easyvideor1.config easyvideor1.curation easyvideor1.engines.local "
    "easyvideor1.evaluation.report easyvideor1.policy.policy easyvideor1.policy.export easyvideor1.training.run "
    "easyvideor1.video.worker_pool transformers.models.qwen3_vl.modeling_qwen3_vl matplotlib.pyplot pyarrow.parquet"
)


class Evr1:
    """The forking process, and the script that asks it."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "evr1.socket"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_DYNAMIC": "FALSE", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "tests.docs.forking", str(self.place)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        while not self.place.exists():
            if self.process.poll() is not None:
                raise RuntimeError(f"the process of evr1 ended with status {self.process.returncode}")
            time.sleep(0.05)

    def write_client(self, path: Path) -> None:
        """Write the script that is ``evr1`` for a page."""
        path.write_text(CLIENT.format(python=sys.executable, place=str(self.place)), encoding="utf-8")
        path.chmod(0o755)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def serve(place: str) -> None:
    """Import what commands need, then fork for each of them."""
    import importlib

    for module in MODULES.split():
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place + ".new")
        listener.listen()
        Path(place + ".new").rename(place)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()
            with_children_gone()


def with_children_gone() -> None:
    """Take note of commands that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _answer(connection: socket.socket) -> None:
    """Run one command in a fork, and in a fork of that: the first one waits for it and tells its status."""
    streams = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_LEN(3 * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    said = b""
    while len(said) < int.from_bytes(head, "big"):
        said += connection.recv(1 << 16)
    words, directory, environment = json.loads(said)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(words, directory, environment, list(streams))
    for stream in streams:
        os.close(stream)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(bytes([status if status >= 0 else 128 - status]))
    os._exit(0)


def _run(words: list[str], directory: str, environment: dict[str, str], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["evr1", *words]
    status = 0
    try:
        from easyvideor1.cli import main

        main(words)
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
