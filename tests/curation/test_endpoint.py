"""evr1 trajectories collect with a real server that refuses, fails, and goes away."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.engines.endpoint import DOWN_AFTER
from training.runs import World, json_lines
from training.test_bad_input import damaged_pixels

from .commands import Body, Endpoint, configured, evr1, is_row, numbered, serving

pytestmark = pytest.mark.model


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


def collect(settings: str, out: Path, endpoint: Endpoint, *words: object) -> Any:
    given = ("--endpoint", endpoint.url, "--model", "big", "--concurrency", 2, "-k", 2, "--threshold", 0.5)
    return evr1("trajectories", "collect", settings, "--out", out, *given, *words)


def scored(place: Path) -> list[str]:
    """What the reward was shown of replies; every start tries it first on a reference, which is in a tag."""
    shown = (place / "scored").read_text().splitlines() if (place / "scored").exists() else []
    return [response for response in shown if not response.startswith("'<answer>")]


def test_an_endpoint_sees_the_frames_and_its_good_answers_are_kept(
    world: World, place: Path, endpoint: Endpoint
) -> None:
    said = [(503, None), *[(200, "aaa"), (200, "xyz")] * 12]
    endpoint.answer = lambda body: said[len(endpoint.seen) - 1]
    out = place / "good.jsonl"
    done = collect(configured(world, place), out, endpoint, "--concurrency", 1)
    assert done.exit_code == 0, done.output
    rows = json_lines(out)
    assert len(rows) == 12 and {row["offline_output"] for row in rows} == {"aaa"}
    assert len(endpoint.seen) == 25, "one attempt failed and was made again"
    body = endpoint.seen[0]
    assert body["model"] == "big" and body["max_tokens"] == 24 and "top_k" not in body
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds.count("image_url") in (1, 4), "one picture, or the frames of a video"
    assert kinds[-1] == "text" and "<video>" not in str(message)


def test_an_endpoint_is_told_what_training_tells(world: World, place: Path, endpoint: Endpoint) -> None:
    settings = configured(world, place, prompts__system="Be brief.", rollout__top_k=7, rollout__top_p=0.5)
    assert collect(settings, place / "rows.jsonl", endpoint).exit_code == 0
    for body in endpoint.seen:
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert body["messages"][0]["content"] == "Be brief."
        assert body["top_k"] == 7 and body["top_p"] == 0.5 and body["temperature"] == 1


def test_an_endpoint_takes_one_turn(world: World, place: Path, endpoint: Endpoint) -> None:
    done = collect(configured(world, place, rollout__strategy="second_look"), place / "rows.jsonl", endpoint)
    assert done.exit_code == 2
    assert "rollout.strategy: second_look may take several turns" in " ".join(done.output.split())
    assert not endpoint.seen, "nothing was asked"


def test_refusals_are_counted_and_never_scored(world: World, place: Path, endpoint: Endpoint) -> None:
    endpoint.answer = lambda body: (400, "too many pictures") if is_row(body, 3) else (200, "aaa")
    done = collect(configured(world, place, numbered(world, 6)), place / "rows.jsonl", endpoint)
    assert done.exit_code == 0, done.output
    assert len(json_lines(place / "rows.jsonl")) == 5 and "5 rows with 5 trajectories" in done.output
    assert "2 of 12 responses were refused by the endpoint; first error: HTTP 400" in done.output
    assert "too many pictures" in done.output
    assert scored(place) == ["'aaa'"] * 10
    assert endpoint.asked(3) == 2, "what is refused is not asked again in the same start"


def test_nothing_is_written_or_forgotten_when_all_is_refused(world: World, place: Path, endpoint: Endpoint) -> None:
    endpoint.answer = lambda body: (400, "no such field: top_p")
    settings, out = configured(world, place, numbered(world, 6)), place / "rows.jsonl"
    done = collect(settings, out, endpoint)
    assert done.exit_code == 3 and not out.exists()
    assert "12 of 12 responses were refused" in done.output and "no such field: top_p" in done.output
    assert len(json_lines(place / "rows.jsonl.partial.jsonl")) == 1 + 6 and not scored(place)
    endpoint.answer = lambda body: (200, "aaa")
    assert collect(settings, out, endpoint).exit_code == 0
    assert len(json_lines(out)) == 6, "what was refused is asked again by the next start"


@pytest.mark.parametrize("answer", [(200, None), (500, "out of memory")])
def test_a_prompt_that_always_fails_costs_its_row_only(
    world: World, place: Path, endpoint: Endpoint, answer: tuple[int, str | None]
) -> None:
    endpoint.answer = lambda body: answer if is_row(body, 2) else (200, "aaa")
    done = collect(configured(world, place, numbered(world, 6)), place / "rows.jsonl", endpoint)
    assert done.exit_code == 0, done.output
    assert len(json_lines(place / "rows.jsonl")) == 5
    assert "2 of 12 responses failed; first error: " in done.output and "in 5 attempts" in done.output
    assert scored(place) == ["'aaa'"] * 10


def test_replies_without_text_do_not_mean_that_the_endpoint_is_down(
    world: World, place: Path, endpoint: Endpoint
) -> None:
    endpoint.answer = lambda body: (200, "aaa" if is_row(body, 0) else None)
    settings = configured(world, place, numbered(world, DOWN_AFTER + 3), evaluation__max_failed=0.9)
    done = collect(settings, place / "rows.jsonl", endpoint)
    assert done.exit_code == 0 and len(json_lines(place / "rows.jsonl")) == 1, done.output


def test_an_endpoint_that_is_down_stops_the_command_and_keeps_what_came(
    world: World, place: Path, endpoint: Endpoint
) -> None:
    def first_three(body: Body) -> tuple[int, str]:
        return (200, "aaa") if any(is_row(body, n) for n in range(3)) else (503, "starting")

    endpoint.answer = first_three
    settings, out = configured(world, place, numbered(world, 12)), place / "rows.jsonl"
    done = collect(settings, out, endpoint)
    assert done.exit_code == 2 and f"failed for {DOWN_AFTER} rows one after the other" in done.output
    assert "HTTP 503" in done.output and not out.exists()
    assert endpoint.asked(11) == 0, "it stops in time"
    lines = json_lines(place / "rows.jsonl.partial.jsonl")[1:]
    whole = [line for line in lines if not any(response.get("fault") for response in line["trajectories"])]
    assert len(whole) == 3
    endpoint.seen.clear()
    endpoint.answer = lambda body: (200, "aaa")
    assert collect(settings, out, endpoint).exit_code == 0
    assert len(json_lines(out)) == 12 and len(endpoint.seen) == 2 * 9, "the three that are known are not asked again"


def test_rows_are_kept_one_by_one(world: World, place: Path, endpoint: Endpoint) -> None:
    settings, out = configured(world, place, numbered(world, 6)), place / "rows.jsonl"
    (place / "stop_after").write_text("7")  # the trial of the reward, and three rows
    assert collect(settings, out, endpoint).exit_code == 130
    (place / "stop_after").unlink()
    assert len(json_lines(place / "rows.jsonl.partial.jsonl")) == 1 + 3
    endpoint.seen.clear()
    assert collect(settings, out, endpoint).exit_code == 0 and len(endpoint.seen) == 2 * 3


def test_media_that_cannot_be_read_cost_their_rows_only(world: World, place: Path, endpoint: Endpoint) -> None:
    rows = numbered(world, 6)
    at = next(index for index, row in enumerate(rows) if row["videos"])
    rows[at] = damaged_pixels(rows[at], place)
    settings = configured(world, place, rows, cache__mode="decode_only", cache__dir=str(place / "frames"))
    done = collect(settings, place / "rows.jsonl", endpoint)
    assert done.exit_code == 0 and len(json_lines(place / "rows.jsonl")) == 5
    assert "1 with unreadable media" in done.output and "noise.mp4" in done.stderr


def test_a_wrong_address_or_key_is_told_by_its_option(
    world: World, place: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answer = lambda body: (404, "no such model")
    settings = configured(world, place)
    done = collect(settings, place / "rows.jsonl", endpoint)
    assert done.exit_code == 2 and f"the endpoint {endpoint.url} answered HTTP 404" in done.output
    assert "no such model" in done.output and "correct --endpoint" in done.output
    assert "judge" not in done.output
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    done = collect(settings, place / "rows.jsonl", endpoint, "--api-key-env", "NO_SUCH_KEY")
    assert done.exit_code == 2 and "--api-key-env NO_SUCH_KEY: this environment variable is not set" in done.output
    assert "judge" not in done.output


def test_one_process_at_a_time_makes_an_output(world: World, place: Path, endpoint: Endpoint) -> None:
    go, asked = threading.Event(), threading.Event()

    def late(body: Body) -> tuple[int, str]:
        asked.set()
        go.wait(300)
        return 200, "aaa"

    endpoint.answer = late
    settings, out = configured(world, place, numbered(world, 3)), place / "rows.jsonl"
    command = [sys.executable, "-m", "easyvideor1.cli", "trajectories", "collect", settings, "--out", str(out)]
    command += ["--endpoint", endpoint.url, "--model", "big", "-k", "2", "--threshold", "0.5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert asked.wait(300)
        second = collect(settings, out, endpoint)
        assert second.exit_code == 2 and "another process is writing" in second.output
        assert not out.exists()
        go.set()
        _, said = first.communicate(timeout=300)
    finally:
        go.set()
        first.kill()
        first.wait()
    assert first.returncode == 0, said
    assert len(json_lines(out)) == 3 and not list(place.glob(".*.lock"))
