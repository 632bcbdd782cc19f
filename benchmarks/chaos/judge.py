"""A model behind an address, which grades and answers by arithmetic, and which can be made to die."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from benchmarks.chaos.starts import forked

_ID = re.compile(r'Your reply begins with \{"id": "([^"]+)"')
_ANSWERS = ("A", "B", "C", "D", "Yes", "No", "1", "2")

Death = Literal["hangs", "is gone"]


class Judge:
    """An OpenAI-compatible endpoint in a process of its own, at one address for as long as this object lives."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._log = log
        self._pid = self._begun()

    def die(self, how: Death) -> None:
        """Stop answering: connections are taken and never served, or there is nobody to connect to."""
        os.kill(self._pid, signal.SIGSTOP if how == "hangs" else signal.SIGKILL)
        if how == "is gone":
            os.waitpid(self._pid, 0)

    def revive(self, how: Death) -> None:
        """Answer again."""
        if how == "hangs":
            os.kill(self._pid, signal.SIGCONT)
        else:
            self._pid = self._begun()

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _begun(self) -> int:
        pid = forked(lambda: _serve(self.port), self._log)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return pid
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"message": {"content": _reply(body)}, "finish_reason": "stop"}
        content = json.dumps({"choices": [choice], "usage": {"total_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


def _serve(port: int) -> int:
    parent = os.getppid()
    threading.Thread(target=_Server(("127.0.0.1", port), _Handler).serve_forever, daemon=True).start()
    while os.getppid() == parent:  # it ends with the rounds, however they end
        time.sleep(0.2)
    return 0


def _reply(body: dict[str, object]) -> str:
    asked = json.dumps(body["messages"], sort_keys=True)
    number = int(hashlib.sha256(asked.encode()).hexdigest()[:8], 16)
    wanted = _ID.search(str(body["messages"]))
    if wanted:
        return json.dumps({"id": wanted[1], "reason": "by arithmetic", "score": number % 11})
    return f"<think>By arithmetic.</think><answer>{_ANSWERS[number % len(_ANSWERS)]}</answer>"
