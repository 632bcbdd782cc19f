"""The trace of a stage, and the figures of a step: what they say, and what a kill or a damaged file does to them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.spans import Span, SpanRecorder, now
from easyvideor1.training.run_directory.trace import Trace
from easyvideor1.training.timeline import Timeline, perf_metrics
from easyvideor1.training.timings import Timings
from easyvideor1.types import EasyVideoError

from .runs import World, json_lines, train


def checked_events(file: Path) -> list[dict[str, Any]]:
    """The complete events of a file that keeps the rules of the format: types, names, and nesting on every thread."""
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = content["traceEvents"]
    names = {(row["pid"], row["tid"]): row["args"]["name"] for row in rows if row["name"] == "thread_name"}
    processes = {row["pid"]: row["args"]["name"] for row in rows if row["name"] == "process_name"}
    events = [row for row in rows if row["ph"] == "X"]
    assert {row["ph"] for row in rows} <= {"M", "X"} and content["displayTimeUnit"] == "ms"
    threads = defaultdict(list)
    for row in events:
        assert all(type(row[key]) is int for key in ("ts", "dur", "pid", "tid")) and row["dur"] >= 0
        assert row["pid"] in processes and isinstance(row["name"], str) and row["args"]["step"] >= 1
        threads[row["pid"], row["tid"]].append((row["ts"], row["ts"] + row["dur"]))
    assert set(threads) <= set(names)
    for spans in threads.values():
        open_: list[int] = []
        for begun, ended in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ and open_[-1] <= begun:
                open_.pop()
            assert not open_ or ended <= open_[-1], "events of one thread overlap"
            open_.append(ended)
    return [{**row, "process": processes[row["pid"]], "thread": names[row["pid"], row["tid"]]} for row in events]


class Worker:
    """An engine of another process, as far as a timeline looks at it."""

    def __init__(self) -> None:
        self.counts = {"new_tokens": 100.0, "engines": 2.0}
        self.done: dict[str, list[Span]] = {"engine 0": [], "engine 1": []}

    def stats(self) -> dict[str, float]:
        return dict(self.counts)

    def spans(self) -> dict[str, list[Span]]:
        found, self.done = self.done, {name: [] for name in self.done}
        return found


def test_shares_and_counters_of_a_step() -> None:
    worker, rewards, started = Worker(), SpanRecorder(), now()
    worker.done["engine 0"].append(Span("generate", started - 9, started - 1))  # before the stage
    timeline = Timeline(worker, rewards, None, lambda step: Timings())  # type: ignore[arg-type]
    timings = timeline.timings(1)
    timings.begun -= 8  # eight seconds ago
    timings.spans += [Span("rollout", started - 8, started - 4), Span("update", started - 4, started - 2)]
    worker.done["engine 0"] += [Span("generate", started - 8, started - 4), Span("prefill", started - 8, started - 7)]
    worker.done["engine 1"] += [Span("generate", started - 8, started - 6)]
    worker.counts["new_tokens"] = 150.0
    found = timeline.figures(1, timings)
    assert found["idle/trainer"] == pytest.approx(0.75, abs=0.02)
    assert found["idle/engine"] == pytest.approx(1 - 3 / 8, abs=0.02)
    assert found["idle/rewards"] == pytest.approx(1.0)
    assert (found["engine/new_tokens"], found["engine/engines"]) == (50.0, 2.0)
    assert timeline.figures(2, timings)["engine/new_tokens"] == 0
    assert 0.05 < found["memory/host_peak_gib"] < 1024
    assert perf_metrics({"memory/host_peak_gib": 2}) == {"perf/memory/host_peak_gib": 2.0}
    assert perf_metrics({"step": 3, "rollout": 1.5, "new_tokens": 7, "idle/engine": 0.5}) == {
        "perf/seconds/rollout": 1.5,
        "perf/new_tokens": 7.0,
        "perf/idle/engine": 0.5,
    }


def test_an_engine_without_spans_works_while_somebody_waits_for_it() -> None:
    timeline = Timeline(object(), SpanRecorder(), None, lambda step: Timings())  # type: ignore[arg-type]
    timings = timeline.timings(1)
    timings.begun -= 4
    timings.spans.append(Span("rollout", timings.begun, timings.begun + 1))
    assert timeline.figures(1, timings)["idle/engine"] == pytest.approx(0.75, abs=0.02)


def test_the_trace_keeps_the_last_steps_and_forgets_those_that_are_repeated(tmp_path: Path) -> None:
    file = tmp_path / "stages" / "01-rl" / "trace.json"
    trace = Trace(file, steps=3, done=0)
    for step in range(1, 6):
        trace.add(step, "trainer", "steps", [Span("update", step, step + 0.5), Span("other", step + 0.2, step + 0.7)])
        trace.add(step, "engine", "worker", [Span("generate", step, step + 0.9, {"tokens": 5})])
    trace.write()
    events = checked_events(file)
    assert {event["args"]["step"] for event in events} == {3, 4, 5}
    assert {event["thread"] for event in events} == {"steps", "steps (2)", "worker"}, "what overlaps has its own thread"
    again = Trace(file, steps=3, done=4)
    again.add(5, "trainer", "steps", [Span("again", 9.0, 9.5)])
    again.write()
    again = checked_events(file)  # type: ignore[assignment]
    assert [event["name"] for event in again if event["args"]["step"] == 5] == ["again"]  # type: ignore[attr-defined]
    kept = [event for event in again if event["args"]["step"] < 5]  # type: ignore[attr-defined]
    assert kept == [event for event in events if event["args"]["step"] < 5]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"traceEvents": [{"ph": "X"}]}', b'{"traceEvents": 3}', b"\xff"]
)
def test_a_trace_that_cannot_be_read_is_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trace.json"
    file.write_bytes(content)
    trace = Trace(file, steps=5, done=9)
    trace.add(10, "rewards", "scoring", [Span("score math", 1.0, 2.0)])
    trace.write()
    assert [event["name"] for event in checked_events(file)] == ["score math"]


def test_a_step_of_many_spans_keeps_the_longest(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.json", steps=5, done=0)
    trace.add(1, "rewards", "scoring", [Span(f"score {k}", k, k + k / 10_000) for k in range(5000)])
    trace.write()
    events = checked_events(tmp_path / "trace.json")
    assert len(events) == 500 and min(int(event["name"].split()[1]) for event in events) == 4500


def test_a_trace_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trace = Trace(tmp_path / "file" / "trace.json", steps=5, done=0)
    trace.add(1, "trainer", "steps", [Span("update", 1.0, 2.0)])
    trace.write()
    assert (tmp_path / "file").read_text() == "" and list(tmp_path.iterdir()) == [tmp_path / "file"]
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    trace.write()
    assert [event["name"] for event in checked_events(tmp_path / "file" / "trace.json")] == ["update"], (
        "nothing is lost"
    )


@pytest.mark.model
def test_a_run_leaves_a_trace_of_its_steps_also_when_it_is_killed(world: World, place: Path) -> None:
    values = world.short(stages__0__steps=3, stages__0__save_every=2, stages__0__keep_checkpoints=9)
    train(values)
    stage = place / "runs/small/stages/01-rl"
    whole = (stage / "metrics.jsonl").read_bytes()
    events = checked_events(stage / "trace.json")
    assert {event["args"]["step"] for event in events} == {1, 2, 3}
    phases = {event["name"] for event in events if event["process"] == "trainer"}
    assert phases >= {"step 1", "sample", "rollout", "score", "advantages", "update", "sync", "evaluate", "save"}
    scored = [event for event in events if event["process"] == "rewards" and event["name"].startswith("score ")]
    assert len(scored) >= 3 and all(event["args"]["sample"] for event in scored)
    clocks = json_lines(stage / "timings.jsonl")
    assert all(0 <= clock[f"idle/{who}"] <= 1 for clock in clocks for who in ("trainer", "engine", "rewards"))
    report = (place / "runs/small/report.html").read_text()
    assert "Idle share of a step" in report and "Tokens per second" in report
    assert b"idle" not in whole and b"tokens_per_second" not in whole
    # As a kill after step 3 would leave it, with nothing saved since step 2.
    for checkpoint in (stage / "checkpoints").glob("step_000003"):
        for file in sorted(checkpoint.rglob("*"), reverse=True):
            file.unlink()
        checkpoint.rmdir()
    train(values)
    again = checked_events(stage / "trace.json")
    assert (stage / "metrics.jsonl").read_bytes() == whole
    assert [event for event in again if event["args"]["step"] <= 2] == [
        event for event in events if event["args"]["step"] <= 2
    ]
    assert min(event["ts"] for event in again if event["args"]["step"] == 3) > max(event["ts"] for event in events)


#: Accepts the reference, with which a reward is tried out, and nothing that an untrained model says.
LATE = """
def late(sample, response):
    if "</answer>" not in response:
        raise RuntimeError("it came to this")
    return 1.0
"""


@pytest.mark.model
def test_a_step_that_fails_is_in_the_trace(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "late_reward.py").write_text(LATE)
    monkeypatch.syspath_prepend(place)
    with pytest.raises(EasyVideoError, match="it came to this"):
        train(world.short(rewards__custom={"*": "late_reward:late"}))
    events = checked_events(place / "runs/small/stages/01-rl/trace.json")
    assert [event["name"] for event in events if event["process"] == "trainer"][-1] == "score"


@pytest.mark.model
def test_an_engine_in_another_process_is_in_the_trace(world: World, place: Path) -> None:
    train(world.short(rollout={"max_new_tokens": 80, "workers": 1}))
    stage = place / "runs/small/stages/01-rl"
    events = checked_events(stage / "trace.json")
    worked = {event["name"] for event in events if event["process"] == "engine"}
    assert "load weights" in worked and worked & {"generate", "decode"}
    rollouts = [event for event in events if event["name"] == "rollout"]
    begun, ended = rollouts[0]["ts"], rollouts[-1]["ts"] + rollouts[-1]["dur"]
    generated = [event for event in events if event["name"] in ("generate", "decode")]
    assert all(begun <= event["ts"] and event["ts"] + event["dur"] <= ended for event in generated), "one clock"
    for clock in json_lines(stage / "timings.jsonl"):
        assert 0 < clock["idle/engine"] < 1
        assert clock["engine/sync_bytes"] > 0 and clock["engine/restarts"] == 0
