"""evr1 eval run and evr1 eval rescore, from rows and files on a disk to a result's directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import pytest

from curation.commands import configured, evr1, is_row, serving
from easyvideor1.benchmarks import Benchmark
from easyvideor1.cli.evaluation.questions import benchmark_settings
from easyvideor1.components import Components
from easyvideor1.config import load_config
from easyvideor1.config.schema import VideoBudget
from easyvideor1.evaluation.certificate import Certificate, find_results
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.types import ConfigError
from easyvideor1.video.worker_pool import WorkerProcess
from training.conftest import place, world
from training.runs import World, json_lines, write_rows

__all__ = ["place", "world"]

pytestmark = pytest.mark.model

GREEDY = ("evaluation.samples=0", "rollout.max_new_tokens=12")


def asked_rows(world: World, count: int) -> list[dict[str, Any]]:
    """Rows about videos, numbered; further ones ask about the same videos again."""
    rows = [row for row in world.read() if row["videos"]]
    found = [rows[number % len(rows)] for number in range(count)]
    return [
        {**row, "problem_id": f"id-{number}", "problem": f"{row['problem']} [row {number}]"}
        for number, row in enumerate(found)
    ]


def with_broken_videos(rows: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
    """Every tenth row has a video of its own that is truncated, empty, or has no video stream."""
    whole = Path(rows[0]["videos"][0]).read_bytes()
    (place / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (place / "empty.mp4").touch()
    with wave.open(str(place / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0" * 16000)
    (place / "sound.wav").rename(place / "sound.mp4")
    names = ("truncated.mp4", "empty.mp4", "sound.mp4")
    return [
        {**row, "videos": [str(place / names[number // 10 % 3])]} if number % 10 == 9 else row
        for number, row in enumerate(rows)
    ]


def test_a_run_with_broken_videos_ends_counts_and_names_them(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", with_broken_videos(asked_rows(world, 30), place))
    done = evr1("eval", "run", settings, *GREEDY, "--data", rows)
    assert done.exit_code == 0, done.output
    assert "asked: 30 questions, 0 refused, 3 failed" in done.stdout
    assert "  30 questions in " in done.stdout
    (directory,) = find_results([place / "evaluations"])
    result = Evaluation.load(directory, "result")
    assert [sample for sample, _ in result.failures] == ["id-9", "id-19", "id-29"]
    for sample, reason in result.failures:
        assert sample in done.stdout and reason.startswith("MediaError: ")
    answers = json_lines(directory / "answers.jsonl")
    assert [line["tries"] for line in answers if line["error"]] == [1, 1, 1, 2, 2, 2]
    right = sum(record.greedy.score.accuracy for record in result.records if record.greedy is not None)
    assert f"accuracy {100 * right / 30:.2f} [" in done.stdout  # of thirty, not of twenty-seven
    again = evr1("eval", "run", settings, *GREEDY, "--data", rows)
    assert again.exit_code == 0 and len(json_lines(directory / "answers.jsonl")) == len(answers)


def test_killed_and_started_again_it_gives_the_same_files(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", with_broken_videos(asked_rows(world, 24), place))
    words = ["eval", "run", settings, *GREEDY, "--data", rows, "--out"]
    assert evr1(*words, "whole").exit_code == 0
    (whole,) = find_results([place / "whole"])
    # Killed as soon as the first answer is on the disk: later starts have something to go on from.
    started = subprocess.Popen([sys.executable, "-m", "easyvideor1.cli", *words, "killed"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while time.monotonic() < until and not any(path.stat().st_size for path in place.glob("killed/*/*/answers.jsonl")):
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    assert started.wait() in (-signal.SIGKILL, 0)
    done = evr1(*words, "killed")
    assert done.exit_code == 0, done.output
    (killed,) = find_results([place / "killed"])
    assert killed.name == whole.name
    for name in ("certificate.json", "result.json", "result.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_answers_are_scored_again_without_a_model(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", asked_rows(world, 6))
    run = evr1("eval", "run", settings, *GREEDY, "--data", rows)
    assert run.exit_code == 0
    (directory,) = find_results([place / "evaluations"])
    before = (directory / "result.jsonl").read_bytes()
    shutil.rmtree(place / "cache", ignore_errors=True)
    unfinished = shutil.copytree(directory, place / "evaluations" / "other" / "model-1")
    (unfinished / "result.json").unlink()
    done = evr1("eval", "rescore", "evaluations")
    assert done.exit_code == 0 and "0 of 6 questions moved" in done.stdout, done.output
    assert f"not finished: {Path('evaluations') / 'other' / 'model-1'}" in done.stderr
    shown = [line for line in run.stdout.splitlines() if "; the engine was" not in line and "wrote" not in line]
    assert "asked: 6 questions, 0 refused, 0 failed" in shown and any("  task_average " in line for line in shown)
    assert done.stdout.splitlines()[: len(shown)] == shown
    done = evr1("eval", "rescore", unfinished)
    assert done.exit_code == 2 and "start evr1 eval run again, then score" in done.output
    assert (directory / "result.jsonl").read_bytes() == before
    module = place / "own_reward.py"
    module.write_text(module.read_text() + "\n\ndef nothing(sample, response):\n    return Score(0.0, 0.0, 0.0)\n")
    sys.modules.pop("own_reward", None)
    configured(world, place, rewards__custom={"*": "own_reward:nothing"}, model__path="gone")
    done = evr1("eval", "rescore", directory, "--config", settings)
    assert done.exit_code == 0, done.output
    after = Evaluation.load(directory, "result")
    assert after.greedy is not None and after.greedy.mean == 0.0
    moved = sum(json.loads(line)["greedy"]["score"]["accuracy"] > 0 for line in before.splitlines())
    assert f"{moved} of 6 questions moved" in done.stdout
    assert Certificate.load(directory).scoring["rewards"]["custom"] == {"*": "own_reward:nothing"}
    done = evr1("eval", "rescore", place / "frames")
    assert done.exit_code == 2 and "no result there" in done.output


def test_sampled_responses_give_pass_at_k_and_a_majority(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", asked_rows(world, 3))
    done = evr1("eval", "run", settings, "rollout.max_new_tokens=12", "--data", rows, "--samples", 3)
    assert done.exit_code == 0, done.output
    assert all(f"  {name} 0." in done.stdout for name in ("pass@1", "pass@2", "pass@3", "majority@3"))
    done = evr1("eval", "run", settings, "rollout.max_new_tokens=12", "--data", rows, "--samples", 0)
    assert done.exit_code == 0 and "pass@" not in done.stdout
    assert len(find_results([place / "evaluations"])) == 2  # another certificate


def test_an_endpoint_that_fails_fails_questions_by_name(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", asked_rows(world, 12))
    with serving() as endpoint:

        def answer(body: dict[str, Any]) -> tuple[int, str | None]:
            if is_row(body, 2):
                time.sleep(1.5)  # longer than the timeout
            if is_row(body, 5):
                return 200, None  # no text in the reply
            return (429, "slow down") if is_row(body, 8) else (200, "aeiou")

        endpoint.answer = answer
        words = (
            *("eval", "run", settings, *GREEDY, "--data", rows, "rollout.engine=endpoint"),
            *(f"rollout.endpoint.url={endpoint.url}", "rollout.endpoint.model=closed"),
            *("rollout.endpoint.timeout=0.5", "rollout.endpoint.retries=0", "rollout.endpoint.concurrency=2"),
        )
        done = evr1(*words)
        assert done.exit_code == 0, done.output
        assert "asked: 12 questions, 0 refused, 3 failed" in done.stdout
        assert [endpoint.asked(number) for number in (2, 5, 8, 0)] == [2, 2, 2, 1]  # failures once more
        (directory,) = find_results([place / "evaluations"])
        assert directory.name.startswith("closed-")
        reasons = dict(Evaluation.load(directory, "result").failures)
        assert list(reasons) == ["id-2", "id-5", "id-8"]
        assert "no reply within 0.5 s" in reasons["id-2"] and "the reply has no text" in reasons["id-5"]
        assert "HTTP 429" in reasons["id-8"]
        asked = len(endpoint.seen)
        assert evr1(*words).exit_code == 0 and len(endpoint.seen) == asked
        endpoint.answer = lambda body: (200, "aeiou")
        done = evr1(*words, "--retry-failed")
        assert done.exit_code == 0 and "0 refused, 0 failed" in done.stdout and len(endpoint.seen) == asked + 3
        model = Certificate.load(directory).asking["model"]
        assert model == {"endpoint": endpoint.url, "name": "closed", "extra_body": {}}


def test_an_endpoint_that_is_down_stops_and_what_came_is_kept(world: World, place: Path) -> None:
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", asked_rows(world, 12))
    with serving() as endpoint:
        endpoint.answer = lambda body: (200, "aeiou") if len(endpoint.seen) <= 4 else (503, "down")
        words = (
            *("eval", "run", settings, *GREEDY, "--data", rows, "rollout.engine=endpoint"),
            *(f"rollout.endpoint.url={endpoint.url}", "rollout.endpoint.model=closed"),
            *("rollout.endpoint.retries=0", "rollout.endpoint.concurrency=1"),
        )
        done = evr1(*words)
        assert done.exit_code != 0 and "HTTP 503" in done.output
        assert not list(place.glob("evaluations/*/*/result.json"))
        asked = len(endpoint.seen)
        endpoint.answer = lambda body: (200, "aeiou")
        done = evr1(*words)
        assert done.exit_code == 0 and "12 questions, 0 refused, 0 failed" in done.stdout
        assert len(endpoint.seen) == asked + 12 - 4


def test_a_disk_that_is_full_is_told(world: World, place: Path) -> None:
    """Everything that the process writes is limited, as on a full disk; the answers before it are kept."""
    settings = configured(world, place)
    rows = write_rows(place / "asked.jsonl", asked_rows(world, 24))
    words = ["eval", "run", settings, *GREEDY, "--data", rows, "--out", "full"]
    assert evr1("cache", "build", settings, f"data.train=[{{path: {rows}}}]").exit_code == 0
    assert evr1(*words).exit_code == 0
    (path,) = place.glob("full/*/*/answers.jsonl")
    first = b"".join(path.read_bytes().splitlines(keepends=True)[:3])
    path.write_bytes(first)  # as an evaluation that was killed after three answers leaves it
    (path.parent / "result.json").unlink()
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from easyvideor1.cli import main\n"
        "import easyvideor1.evaluation.pipeline\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.argv = ['evr1', *sys.argv[1:]]\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "answers.jsonl" in done.stderr and "Traceback" not in done.stderr, done.stderr
    kept = path.read_bytes()
    assert kept.startswith(first) and kept.endswith(b"\n"), "the answers before it, and whole ones only"
    done = evr1(*words)
    assert done.exit_code == 0 and "24 questions, 0 refused, 0 failed" in done.stdout
    assert path.read_bytes().startswith(kept)


def test_benchmarks_of_one_command_share_the_processes_that_read_videos(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[WorkerProcess] = []
    start, open_engine = WorkerProcess.__init__, Components.open_engine

    def noted(self: WorkerProcess, *given: Any) -> None:
        start(self, *given)
        started.append(self)

    def opened(self: Components, *given: Any) -> Any:
        assert started and not any(worker.alive for worker in started), "their memory is the engine's now"
        return open_engine(self, *given)

    monkeypatch.setattr(WorkerProcess, "__init__", noted)
    monkeypatch.setattr(Components, "open_engine", opened)
    settings = configured(world, place, cache__dir=str(place / "own-frames"))
    rows = asked_rows(world, 6)
    data = [("--data", write_rows(place / f"asked_{number}.jsonl", rows[number::3])) for number in range(3)]
    done = evr1("eval", "run", settings, *GREEDY, *data[0], *data[1], *data[2])
    assert done.exit_code == 0 and len(find_results([place / "evaluations"])) == 3, done.output
    assert len(started) == 2  # one that probes, then one that decodes
    assert not any(worker.alive for worker in started)


def test_the_command_line_goes_before_the_budget_of_a_benchmark() -> None:
    settings = ["data.video.max_frames=8", "data.image.max_pixels=4096", "seed=3"]
    config = load_config("quickstart", settings)
    benchmark = Benchmark("own", "1", rows="rows.jsonl", video=VideoBudget(max_frames=64, total_pixels=10**6))
    plain = benchmark.configure(config)
    assert (plain.data.video.max_frames, plain.data.image.max_pixels) == (64, 4096)
    asked = benchmark_settings(benchmark, config, settings)
    assert asked.data.video == VideoBudget(max_frames=8, total_pixels=10**6)  # the rest is the benchmark's
    assert asked.model_copy(update={"data": plain.data}) == plain and asked.data.test == plain.data.test
    whole = ["data.video={frames: 6}"]
    assert benchmark_settings(benchmark, load_config("quickstart", whole), whole).data.video.frames == 6
    wrong = ["data.video.max_frames=2"]
    with pytest.raises(ConfigError, match=r"min_frames .4. is larger than max_frames .2."):
        few = Benchmark("own", "1", rows="rows.jsonl", video=VideoBudget(min_frames=4))
        loose = load_config("quickstart", ["data.video.min_frames=1", *wrong])
        benchmark_settings(few, loose, wrong)
