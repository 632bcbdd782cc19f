"""What tests of curation share: a configuration, the command line, an endpoint, and a module of the user."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from training.runs import World, write_rows

RUN = CliRunner(env={"COLUMNS": "200"})
EVERY_RATE = ("--above", -1, "--below", 2)

#: A reward that can be told to stop after some calls, and writes down what it was shown; an engine with one answer.
OWN_REWARD = '''
from pathlib import Path

import numpy as np

from easyvideor1.engines.engine import Result
from easyvideor1.types import Score, Trajectory, Turn


def stopping(sample, response):
    left = Path("stop_after")
    if left.exists():
        count = int(left.read_text())
        if count == 0:
            raise KeyboardInterrupt
        left.write_text(str(count - 1))
    with Path("scored").open("a") as file:
        file.write(repr(response) + "\\n")
    share = sum(letter in "aeiou" for letter in response) / max(len(response), 1)
    return Score(share, 0.0, share, parsed=response[:3])


class Speller:
    """Says the same in all responses: as its tokenizer would write it, then letter by letter."""

    def __init__(self, family, model, load, *, batch_tokens):
        self.family, self.version, self.tickets, self.pending = family, 0, 0, {}

    def submit(self, requests):
        first, self.tickets = self.tickets, self.tickets + len(requests)
        self.pending.update(enumerate(requests, first))
        return list(range(first, self.tickets))

    def results(self):
        while self.pending:
            ticket = min(self.pending)
            request = self.pending.pop(ticket)
            turns = [self.turn(request, n) for n in range(request.n)]
            yield Result(ticket, request, tuple(Trajectory((turn,), "policy") for turn in turns))

    def cancel(self, tickets):
        for ticket in tickets:
            self.pending.pop(ticket, None)

    def update_weights(self, version, tensors):
        self.version = version

    def sleep(self):
        pass

    def wake(self):
        pass

    def close(self):
        self.pending.clear()

    def turn(self, request, n):
        text = "the answer"
        pieces = [text] if n == 0 else list(text)
        ids = [token for piece in pieces for token in self.family.tokenizer(piece)["input_ids"]]
        ids = np.array([*ids, self.family.stop_token_ids[0]], dtype=np.int64)
        logprobs = -np.arange(1, len(ids) + 1, dtype=np.float32) / 8
        return Turn(request.prompt, ids, np.ones(len(ids), dtype=bool), logprobs, "stop", text)
'''


def numbered(world: World, count: int) -> list[dict[str, Any]]:
    """Rows of a world whose questions tell their number, as ``[row 3]``."""
    return [{**row, "problem": f"{row['problem']} [row {n}]"} for n, row in enumerate(world.read()[:count])]


def configured(world: World, place: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> str:
    """A configuration file in ``place``, beside a module ``own_reward`` whose reward it names."""
    sys.modules.pop("own_reward", None)  # that of another test
    if not (place / "own_reward.py").exists():
        (place / "own_reward.py").write_text(OWN_REWARD)
    changes = {"rollout__max_new_tokens": 24, "rewards__custom": {"*": "own_reward:stopping"}, **changes}
    values = world.short(**changes).model_dump(mode="json", exclude_unset=True)
    if rows is not None:
        values["data"]["train"] = [{"path": write_rows(place / "rows_to_ask.jsonl", list(rows))}]
    (place / "config.yaml").write_text(yaml.safe_dump(values))
    return str(place / "config.yaml")


def evr1(*words: object) -> Any:
    done = RUN.invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


Body = dict[str, Any]


class Endpoint:
    """A server that ``answer`` speaks for: ``(status, text)`` for a request; the text may be ``None``."""

    def __init__(self) -> None:
        self.seen: list[Body] = []
        self.answer: Callable[[Body], tuple[int, str | None]] = lambda body: (200, "aaa")
        self.url = ""

    def asked(self, row: int) -> int:
        """How many requests there were for a numbered row."""
        return sum(is_row(body, row) for body in self.seen)


def is_row(body: Body, row: int) -> bool:
    return f"[row {row}]" in json.dumps(body["messages"])


@contextmanager
def serving() -> Iterator[Endpoint]:
    endpoint, lock = Endpoint(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                endpoint.seen.append(body)
            status, text = endpoint.answer(body)
            choice = {"message": {"content": text}, "finish_reason": "stop"}
            content = json.dumps({"choices": [choice]} if status == 200 else {"error": text}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
