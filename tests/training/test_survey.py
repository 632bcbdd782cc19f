"""evr1 filter and evr1 trajectories collect, on a world of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import DataConfig, SourceConfig
from easyvideor1.data import load_source
from easyvideor1.training import survey as surveying

from .runs import World, json_lines

pytestmark = pytest.mark.model
RUN = CliRunner(env={"COLUMNS": "200"})
EVERY_RATE = ("--above", -1, "--below", 2)


def config(world: World, place: Path) -> str:
    values = world.short(rollout__max_new_tokens=24).model_dump(mode="json", exclude_unset=True)
    (place / "config.yaml").write_text(yaml.safe_dump(values))
    return str(place / "config.yaml")


def evr1(*words: object) -> Any:
    done = RUN.invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_rows_between_the_bounds_are_kept_with_their_rates(world: World, place: Path) -> None:
    out, settings = place / "kept.jsonl", config(world, place)
    # The share of vowels: some responses pass at this accuracy, others do not.
    done = evr1("filter", settings, "--out", out, "-k", 3, "--passing", 0.2)
    assert done.exit_code == 0, done.output
    rows = json_lines(out)
    assert 0 < len(rows) <= 12 and f"{len(rows)} rows" in done.output
    assert all(0 < row["pass_rate"] < 1 and row["pass_responses"] == 3 for row in rows)
    assert not (place / "kept.jsonl.partial.jsonl").exists()
    again = load_source(SourceConfig(path=str(out)), DataConfig())
    assert len(again.samples) == len(rows) and not again.bad
    evr1("filter", settings, "--out", place / "all.jsonl", "-k", 3, "--passing", 0.2, *EVERY_RATE)
    rates = [row["pass_rate"] for row in json_lines(place / "all.jsonl")]
    assert len(rates) == 12 and [rate for rate in rates if 0 < rate < 1] == [row["pass_rate"] for row in rows]
    refused = evr1("filter", settings, "--out", out)
    assert refused.exit_code == 2 and "is there already" in refused.output
    assert "no pass rate lies between" in evr1("filter", settings, "--above", 1, "--below", 0).output


def test_a_survey_goes_on_where_it_was(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("filter", config(world, place), "-k", 2, "--passing", 0.2, *EVERY_RATE)
    # In batches of another size logits differ in the last bits, and so might what is sampled.
    survey_of, ask_of = surveying.survey, surveying.engine_ask
    monkeypatch.setattr(surveying, "survey", lambda *given: survey_of(*given, at_once=4))
    assert evr1(*words, "--out", place / "whole.jsonl").exit_code == 0
    whole = json_lines(place / "whole.jsonl")
    asked: list[int] = []

    def interrupted(bench: Any, engine: Any, k: int) -> Any:
        ask = ask_of(bench, engine, k)

        def one(samples: Any) -> Any:
            asked.append(len(samples))
            if sum(asked) > 8:
                raise KeyboardInterrupt
            return ask(samples)

        return one

    monkeypatch.setattr(surveying, "engine_ask", interrupted)
    out = place / "cut.jsonl"
    assert evr1(*words, "--out", out).exit_code == 130 and not out.exists()
    partial = place / "cut.jsonl.partial.jsonl"
    assert len(json_lines(partial)) == 1 + 8
    with partial.open("ab") as file:
        file.write(b'{"id": "half a li')
    other = evr1("filter", config(world, place), "-k", 3, "--out", out)
    assert other.exit_code == 2 and "of another configuration" in other.output
    asked.clear()
    assert evr1(*words, "--out", out).exit_code == 0
    assert asked == [4], "what was known is not asked again"
    assert json_lines(out) == whole and not partial.exists()


def test_good_responses_become_trajectories(world: World, place: Path) -> None:
    # Responses of an untrained model do not end within 24 tokens, and are not kept.
    out, settings = place / "good.jsonl", config(world, place)
    words = ("trajectories", "collect", settings, "-k", 3, "--threshold", 0.2)
    done = evr1(*words, "rollout.max_new_tokens=300", "--out", out)
    assert done.exit_code == 0, done.output
    samples = load_source(SourceConfig(path=str(out)), DataConfig()).samples
    for sample in samples:
        (offline,) = sample.offline
        assert sum(letter in "aeiou" for letter in offline.text) / len(offline.text) > 0.2
        assert offline.logprobs is None or max(offline.logprobs) <= 0
    assert f"{len(samples)} rows with {len(samples)} trajectories" in done.output
    done = evr1("trajectories", "collect", settings, "--out", place / "e.parquet", "-k", 1, "--threshold", 2, "--all")
    assert done.exit_code == 0 and "12 rows with 0 trajectories" in done.output


class _Endpoint(BaseHTTPRequestHandler):
    """Fails once, then answers well and badly in turn."""

    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        choice = {"message": {"content": "aaa" if len(self.seen) % 2 else "xyz"}, "finish_reason": "stop"}
        content = json.dumps({"choices": [choice], "usage": {"total_tokens": 9}}).encode()
        self.send_response(503 if len(self.seen) == 1 else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    _Endpoint.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_sees_the_frames_and_its_good_answers_are_kept(world: World, place: Path, endpoint: str) -> None:
    out = place / "good.jsonl"
    words = ("--endpoint", endpoint, "--model", "big", "--concurrency", 1, "-k", 2, "--threshold", 0.5)
    done = evr1("trajectories", "collect", config(world, place), "--out", out, *words)
    assert done.exit_code == 0, done.output
    rows = json_lines(out)
    assert len(rows) == 12 and {row["offline_output"] for row in rows} == {"aaa"}
    assert len(_Endpoint.seen) == 25, "one attempt failed and was made again"
    body = _Endpoint.seen[0]
    assert body["model"] == "big" and body["max_tokens"] == 24
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds.count("image_url") in (1, 4), "one picture, or the frames of a video"
    assert kinds[-1] == "text" and "<video>" not in json.dumps(message)
    wrong = evr1("trajectories", "collect", config(world, place), "--out", place / "n.jsonl", "--endpoint", "nowhere")
    assert wrong.exit_code == 2 and "--endpoint nowhere" in wrong.output
