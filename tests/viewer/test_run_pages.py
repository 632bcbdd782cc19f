"""What the pages of runs are made of: states, times, health, and what differs between runs."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from easyvideor1.evaluation.curves import Panel, Series
from easyvideor1.evaluation.history import StageHistory, read_history
from easyvideor1.locks import file_lock
from easyvideor1.training.run_directory.trace import Event, read_trace
from easyvideor1.types import DataError
from easyvideor1.viewer.histories import Histories, run_version
from easyvideor1.viewer.jobs import Job, Jobs
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.pages.evaluations import _by_kind
from easyvideor1.viewer.run_curves import averaged, curves_of, curves_together, draw, sparkline
from easyvideor1.viewer.run_differences import ABSENT, differing_settings
from easyvideor1.viewer.run_health import alarms, bad_media, lost, mismatch_panels, refused_rows, resource_panels
from easyvideor1.viewer.run_rows import ago, full_damage, run_row
from easyvideor1.viewer.run_time import phase_chart, stage_time, timeline_chart

from .runs import write_run

pytestmark = pytest.mark.model


def test_a_finished_run(run):
    row = run_row("small", read_history(run))
    assert (row.state, row.steps, row.planned, row.share, row.seed) == ("finished", 7, 7, 1.0, 7)
    summary = json.loads((run / "summary.json").read_text())
    assert row.before.mean == pytest.approx(summary["accuracy_before"])
    assert row.after is not None and row.reward is not None and not row.damage


def test_a_run_is_running_while_a_process_owns_it(copied):
    run = copied("busy")
    versions = [run_version(run)]
    with file_lock(run / ".lock") as ours:
        assert ours
        assert run_row("busy", read_history(run)).state == "running"
        versions.append(run_version(run))
    versions.append(run_version(run))
    assert versions[0] == versions[2] != versions[1]


def test_all_rows_are_kept(tmp_path):
    for number in range(70):
        write_run(tmp_path / f"r{number}")
    made, histories = [], Histories()
    for entry in 2 * Library([tmp_path]).runs():
        histories.made(entry, "row", lambda history: made.append(history.directory))
    assert len(made) == 70


def test_the_cache_is_found_from_elsewhere(tmp_path, monkeypatch):
    run = write_run(tmp_path / "there" / "runs" / "mine")
    (run / "config.yaml").write_text("cache: {dir: kept/frames}\n")
    (tmp_path / "there" / "kept" / "frames").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert bad_media(read_history(run)).ledger == tmp_path / "there" / "kept" / "frames" / "health.jsonl"


def test_evaluations_are_in_order(run):
    history = read_history(run)
    sets = _by_kind("", "questions", dict(sorted(history.evaluations.items())), history)
    assert list(sets[0][2]) == ["before", *(stage.name for stage in history.stages)]
    assert not set(sets[0][2]) & set(sets[1][2])


def test_a_run_of_another_machine_is_not_called_interrupted(copied):
    run = copied("far")
    (run / ".lock").write_text(json.dumps({"pid": 1, "host": "another-machine"}))
    assert run_row("far", read_history(run)).state == "elsewhere"


def test_an_interrupted_run(copied):
    run = copied("half")
    status = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**status, "stage": "02-grpo"}))
    assert run_row("half", read_history(run)).state == "interrupted"


def test_damage_is_told_and_the_rest_is_shown(copied):
    run = copied("hurt")
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([lines[0], "{ not json\n", *lines[2:]]))
    rollouts = sorted((run / "stages" / "02-grpo" / "rollouts").glob("*.jsonl"))[0]
    rollouts.write_bytes(rollouts.read_bytes()[:-20])
    history = read_history(run)
    row = run_row("hurt", history)
    assert row.state == "damaged" and row.steps == 7
    quick, full = {one.where for one in row.damage}, {one.where for one in full_damage(history)}
    assert quick == {"stages/02-grpo/metrics.jsonl"}
    assert quick < full and any(rollouts.name in where for where in full)
    assert curves_of(history).main


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "config.yaml").write_text("name: fresh\n")
    (tmp_path / "stages").mkdir()
    history = read_history(tmp_path)
    row = run_row("fresh", history)
    assert (row.state, row.steps, row.reward, row.last) == ("interrupted", 0, None, None)
    assert curves_of(history).main == () and lost(history) == () and mismatch_panels(history) == []


def test_histories_are_read_again_only_after_a_change(copied):
    run = copied("again")
    entry = Library([run]).runs()[0]
    histories = Histories()
    first = histories.read(entry)
    assert histories.read(entry) is first
    made = histories.made(entry, "row", lambda history: run_row("again", history))
    assert histories.made(entry, "row", lambda history: run_row("again", history)) is made
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1])
    with metrics.open("a") as file:
        file.write(json.dumps({**last, "step": 5}) + "\n")
    assert histories.read(entry).steps == 8 and histories.made(entry, "row", lambda h: run_row("", h)).steps == 8


def test_seconds_by_phase_add_up(run):
    stages = [found for stage in read_history(run).stages if (found := stage_time(stage))]
    assert [stage.name for stage in stages] == ["01-sft", "02-grpo"]
    for stage in stages:
        assert sum(phase.share for phase in stage.phases) == pytest.approx(1.0)
        assert sum(phase.mean for phase in stage.phases) == pytest.approx(stage.step_seconds)
    assert {"update", "rollout"} <= {phase.name for phase in stages[1].phases}
    assert stage_time(StageHistory("01-x", 0, (), {})) is None


def test_many_steps_share_bars():
    rows = [{"step": step, "update": 1.0, "total": 2.0} for step in range(1, 1001)]
    svg = phase_chart(rows)
    assert svg.count("<g>") <= 96 and "steps 1 to 11, mean: update 1 s, other 1 s" in svg
    odd = [{"step": 1, "update": "x", "total": float("inf")}, {"step": 2, "update": True, "total": 1.0}]
    assert "inf" not in phase_chart(odd)


def test_a_timeline_has_a_lane_for_each_thread(run):
    trace = read_trace(run / "stages" / "02-grpo" / "trace.json")
    assert set(trace) == {2, 3, 4}
    svg = timeline_chart(trace[4])
    assert svg.count("<rect") == len(trace[4]) and "trainer: steps" in svg and "update" in svg
    hostile = Event("trainer", "<b>", '"><script>', 0, 5_000_000, {})
    inner = Event("trainer", "<b>", "in", 1, 10, {})
    drawn = timeline_chart([inner, hostile])
    assert "<script" not in drawn and "<b>" not in drawn and 'y="42"' in drawn  # the inner span lies a lane lower
    assert timeline_chart([]) == ""


def test_health_of_a_run(copied):
    run = copied("ill")
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    for row in rows[1:3]:
        row |= {"groups/media_failed": 2.0, "mismatch/video/logprob_abs": 0.1, "gpu/memory_gb": 3.5}
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warning = {"step": 3, "alarm": "tagless", "now": 0.9, "before": 0.1, "message": "m"}
    warning["examples"] = [{"response": "<script>", "sample": "s"}]
    (run / "stages" / "02-grpo" / "canary.jsonl").write_text(json.dumps(warning) + "\n")
    report = {"train": [{"path": "p", "rows": 9, "used": 7, "refused": 2, "bad": ["a", "b"]}], "odd": "text"}
    (run / "data_report.json").write_text(json.dumps(report))
    history = read_history(run)
    found = {one.metric: one for one in lost(history)}
    assert (found["groups/media_failed"].total, found["groups/media_failed"].steps) == (4.0, 2)
    assert found["groups/media_failed"].last == 3
    (alarm,) = alarms(history)
    assert (alarm.stage, alarm.step, alarm.kind, alarm.now) == ("02-grpo", 3, "tagless", 0.9)
    (refused,) = refused_rows(history)
    assert (refused.rows, refused.refused, refused.reasons) == (9, 2, ("a", "b"))
    assert "video" in {series.label for series in mismatch_panels(history)[0].series}
    assert [panel.title for panel in resource_panels(history)] == ["gpu/memory_gb", "memory/host_peak_gib"]
    assert bad_media(history).ledger is not None and not bad_media(history).fault


def test_what_differs_between_runs(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    text = (other / "config.yaml").read_text()
    assert "lr: 0.001" in text
    (other / "config.yaml").write_text(text.replace("seed: 7", "seed: 8", 1).replace("name: sft", "name: warm", 1))
    found = {one.key: one.values for one in differing_settings([read_history(run), read_history(other)])}
    assert found["seed"] == (7, 8)
    assert found["stages.warm"][0] is ABSENT and found["stages.sft"][1] is ABSENT
    assert re.fullmatch(r"\d+ settings", found["stages.sft"][0])
    assert set(found) == {"seed", "stages.sft", "stages.warm"}
    assert differing_settings([read_history(run)] * 2) == []


def test_a_broken_configuration_differs_in_everything_and_stops_nothing(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "config.yaml").write_text("a: [")
    assert differing_settings([read_history(run), read_history(other)])


def test_runs_over_each_other_keep_their_colours(run):
    history = read_history(run)
    short = replace(history, stages=history.stages[:1], evaluations={})
    curves = curves_together([("one", short), ("two", history)])
    for chart in (*curves.main, *curves.tasks, *curves.more):
        assert [series.label for series in chart.panel.series] == ["one", "two"]
    held_out = next(chart for chart in curves.main if chart.panel.title == "Held-out accuracy: test, greedy")
    assert held_out.panel.series[0].x == () and 'class="s1"' in held_out.svg and 'class="s0"' not in held_out.svg


def test_long_curves_are_means():
    series = Series("s", tuple(map(float, range(10))), tuple(map(float, range(10))), (0, 6))
    thin = averaged(series, 4)
    assert thin.x == (3.0, 5.0, 9.0) and thin.y == (1.5, 4.5, 7.5) and thin.starts == (0, 2)
    long = Series("s", tuple(map(float, range(5000))), (0.5,) * 5000)
    chart = draw(Panel("p", "", (long,)))
    assert chart.averaged == 9 and len(chart.svg) < 60_000
    values = json.loads(re.search(r'data-series="([^"]*)"', chart.svg)[1].replace("&#34;", '"'))
    assert values[0][:2] == ["s", "s0"] and len(values[0][2]) == 556
    assert "polyline" in sparkline(long) and "polyline" in sparkline(Series("s", (1.0,), (7.0,)))


def test_moments_in_words():
    import time

    now = time.time()
    assert [ago(now - seconds) for seconds in (0, 61, 7300, 200_000)] == [
        "just now",
        "1 minute ago",
        "2 hours ago",
        "2 days ago",
    ]
    assert ago(None) == "\N{EN DASH}"


def test_jobs_tell_progress_results_and_faults():
    import threading

    go = threading.Event()

    def work(advance):
        advance(1, 2, "half")
        go.wait(10)
        return "all"

    jobs = Jobs()
    job = jobs.get("a", "1", work)
    while job.words != "half":
        assert job.running
    assert (job.done, job.total, job.result) == (1, 2, None)
    assert jobs.get("a", "2", work) is job  # what is under way is not begun again
    before = job.state
    go.set()
    assert job.wait(10).result == "all" and not job.running and job.state != before
    assert jobs.get("a", "1", work) is job and jobs.get("a", "2", work) is not job

    for number in range(40):
        jobs.get(f"many {number}", "1", lambda advance: None).wait(10)
    assert jobs.known("a") is None and jobs.known("many 39") is not None

    def fail(advance):
        raise DataError("no such file; name another")

    assert Job(fail).wait(10).error == "no such file; name another"
