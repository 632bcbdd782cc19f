"""Servers in this process, with real sockets, and what a client sends them."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from easyvideor1.config import RunConfig
from easyvideor1.serving.address import bound_socket
from easyvideor1.serving.server import ServerOptions, open_service, server_config


class Running:
    """A server that runs; ``service`` is what it knows of itself."""

    def __init__(self, service, port):
        self.service, self.port = service, port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def chat(self, content, *, headers=None, **fields):
        messages = content if isinstance(content, list) and "role" in content[0] else [user(content)]
        return self.client.post("/v1/chat/completions", json={"messages": messages, **fields}, headers=headers)

    def events(self, content, **fields):
        """The events of a stream."""
        with self.client.stream(
            "POST", "/v1/chat/completions", json={"messages": [user(content)], "stream": True, **fields}
        ) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            raw = b"".join(response.iter_raw())
        events = raw.decode("utf-8", "strict").split("\n\n")
        assert events.pop() == "" and all(event.startswith("data: ") for event in events)
        assert events.pop() == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def idle(self):
        """Wait until nothing is under way."""
        until = time.monotonic() + 20
        while self.service.active and time.monotonic() < until:
            time.sleep(0.01)
        return self.service.active == 0


@contextmanager
def running(config: RunConfig, checkpoint: Path, scratch: Path, **options):
    scratch.mkdir(parents=True, exist_ok=True)
    settings = ServerOptions(**{"name": "tiny", "port": 0, **options})
    with (
        bound_socket("127.0.0.1", 0) as listener,
        open_service(config, checkpoint, settings, scratch) as service,
        ThreadPoolExecutor(16) as threads,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # a client that reads nothing shows soon
        listener.listen(64)
        server = uvicorn.Server(server_config(service, threads))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        port = listener.getsockname()[1]
        thread.start()
        there = Running(service, port)
        try:
            yield there
        finally:
            there.client.close()
            server.should_exit = True
            thread.join(20)


def user(content):
    return {"role": "user", "content": content}


def text(words):
    return {"type": "text", "text": words}


def data_url(path, mime="video/mp4"):
    return f"data:{mime};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def video(path, **options):
    url = str(path) if str(path).startswith("data:") else f"file://{path}"
    return {"type": "video_url", "video_url": {"url": url}, **options}


def error_of(response, status):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def said(response):
    assert response.status_code == 200, response.text
    return [choice["message"]["content"] for choice in response.json()["choices"]]


def streamed(events):
    """The texts of the choices of a stream."""
    found = {}
    for event in events:
        for choice in event["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["delta"].get("content", "")
    return [found[index] for index in sorted(found)]
