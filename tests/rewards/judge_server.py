"""A judge's endpoint for tests: it speaks the protocol over real sockets and behaves as the test says."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: ``(number of the request, its body) -> (status, headers, content)``; ``None`` breaks the connection.
Behaviour = Callable[[int, dict[str, Any]], tuple[int, dict[str, str], str] | None]


def token(body: dict[str, Any]) -> str:
    """The id in a request, as an honest judge repeats it."""
    found = re.search(r'"id": "([0-9a-f]{8})"', body["messages"][0]["content"])
    assert found is not None
    return found.group(1)


def chat(content: str, *, tokens: int = 50, finish: str = "stop") -> tuple[int, dict[str, str], str]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return 200, {}, json.dumps({"choices": [choice], "usage": {"total_tokens": tokens}})


def verdict(body: dict[str, Any], **fields: Any) -> tuple[int, dict[str, str], str]:
    return chat(json.dumps({"id": token(body), "reason": "because", **fields}))


class Server:
    """A judge's endpoint; ``bodies`` are the requests that came, ``most`` how many were under way together."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                try:
                    said = outer.behaviour(number, body)
                finally:
                    with outer.lock:
                        outer.now -= 1
                if said is None:
                    return
                status, headers, content = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in content.split("\0"):  # a NUL is a pause between two bytes
                    self.wfile.write(piece.encode())
                    if piece != content:
                        time.sleep(0.2)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients go away on purpose
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
