"""Benchmarks between the steps of a run, and the checkpoint that is best by one of their numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.benchmarks.releases import verdict
from tests.benchmarks.releases.video_mmlu import FIXTURES as VIDEO_MMLU
from tests.rewards.judge_server import Server, chat

from curation.commands import evr1
from easyvideor1.config import RunConfig
from easyvideor1.evaluation.certificate import find_results
from easyvideor1.evaluation.numbers import numbers_of
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.files import is_sealed
from easyvideor1.types import ConfigError, StoppedError

from .runs import World, json_lines, lasting, train

pytestmark = pytest.mark.model

#: A benchmark of the user's own: fewer frames than the run's, no reasoning, a scorer and two numbers. ``told`` gives
#: its numbers from a list, one for each time that it is asked.
OWN_BENCHMARK = """
from own_parts import vowels

from easyvideor1.benchmarks import Benchmark, Metric
from easyvideor1.config import PromptConfig, VideoBudget
from easyvideor1.types import Score

BUDGET = VideoBudget(rule="uniform", frames=2, min_pixels=4096, max_pixels=4096)
METRICS = (Metric("overall"), Metric("mean of tasks", macro=("task",)))


def scorer(sample, completion):
    return vowels(sample, completion.text)


def kitchen(location):
    prompts = PromptConfig(thinking=False)
    return Benchmark("kitchen", "1", location, prompts=prompts, video=BUDGET, scorer=scorer, metrics=METRICS)


asked = 0


def told(location):
    values, questions = [0.95, 0.2, 0.9, 0.9, 0.1, 0.3, 0.3, 0.4, 0.4], 4

    def scripted(sample, completion):
        global asked
        asked += 1
        value = values[(asked - 1) // questions]
        return Score(value, 0.0, value)

    return Benchmark("told", "1", location, video=BUDGET, scorer=scripted, metrics=METRICS)


def unscored(location):
    def scorer(sample, completion):
        return Score(0.0, 0.0, 0.0, applicable=False, reason="nobody knows")

    return Benchmark("unscored", "1", location, video=BUDGET, scorer=scorer, metrics=METRICS)
"""

#: Engines that do not answer a greedy request when it comes for the first time, and that end every greedy response.
OWN_ENGINES = """
from dataclasses import replace

from easyvideor1.engines.engine import Result
from easyvideor1.engines.local import LocalEngine
from easyvideor1.types import RequestFailed, Trajectory


class FailingOnce(LocalEngine):
    seen = frozenset()

    def results(self):
        for result in super().results():
            if result is not None and result.request.sampling.greedy and result.request.id not in self.seen:
                self.seen |= {result.request.id}
                yield Result(result.ticket, result.request, fault=RequestFailed("lost"))
            else:
                yield result


class Ending(LocalEngine):
    def results(self):
        for result in super().results():
            if result is not None and result.request.sampling.greedy:
                turn = replace(result.trajectories[0].last, text="On the board stands X.", finish="stop")
                yield Result(result.ticket, result.request, (Trajectory((turn,)),))
            else:
                yield result
"""


@pytest.fixture
def place(place: Path) -> Path:
    sys.modules.pop("own_benchmark", None)
    (place / "own_benchmark.py").write_text(OWN_BENCHMARK)
    sys.modules.pop("own_engines", None)
    (place / "own_engines.py").write_text(OWN_ENGINES)
    return place


def target(world: World, benchmark: str = "kitchen") -> str:
    return f"own_benchmark:{benchmark}={world.rows('validation')}"


def measured(world: World, benchmark: str = "kitchen", **changes: Any) -> RunConfig:
    """One stage of six steps that is measured on a benchmark of the four validation questions after every second."""
    stage = world.values()["stages"][1]
    values = {
        "stages": [{**stage, "name": "rl", "steps": 6, "save_every": 3, "kl": "none"}],
        "data__validation": [],
        "data__test": [],
        "rollout__max_new_tokens": 24,
        "evaluation": {"every": 2, "benchmarks": [target(world, benchmark)]},
    }
    return world.config(**{**values, **changes})


def saved(stage: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step_")) for path in (stage / "checkpoints").iterdir())


def test_numbers_are_those_of_eval_run_on_the_same_checkpoint(world: World, place: Path) -> None:
    config = measured(world, stages__0__keep_checkpoints=9, stages__0__save_every=2)
    train(config)
    run = place / "runs/small"
    rows = {row["step"]: row for row in json_lines(run / "stages/01-rl/metrics.jsonl")}
    written(config, place)
    for name, step, checkpoint in (
        ("before", 0, world.checkpoint),
        ("rl-000002", 2, run / "stages/01-rl/checkpoints/step_000002"),
        ("rl-000006", 6, run / "stages/01-rl/checkpoints/step_000006"),
        ("01-rl", 6, run),
    ):
        words = ("--data", config.evaluation.benchmarks[0], "--checkpoint", checkpoint, "--out", f"results/{name}")
        done = evr1("eval", "run", "run.yaml", *words)
        assert done.exit_code == 0, done.output
        (directory,) = find_results([place / "results" / name])
        apart, between = Evaluation.load(directory, "result"), Evaluation.load(run / "evaluations/kitchen", name)
        assert between.records == apart.records and between.count == 4
        videos = [media for record in between.records for media in record.media if media.kind == "video"]
        assert {len(video.frame_indices) for video in videos} == {2}  # of the benchmark's budget; the run's has 4
        if name.startswith("rl-"):
            from own_benchmark import kitchen

            numbers = {n.name: n.interval.mean for n in numbers_of(kitchen(""), apart, breakdown=False)}
            assert set(numbers) == {"overall", "mean of tasks"}
            assert {key: rows[step][f"benchmark/kitchen/{key}"] for key in numbers} == numbers
    assert {step for step, row in rows.items() if "benchmark/kitchen/overall" in row} == {2, 4, 6}
    page = (run / "report.html").read_text()
    assert "kitchen: mean of tasks" in page and "<h2>Benchmarks</h2>" in page
    assert evr1("doctor", run).exit_code == 0


def evaluated(directory: Path, name: str = "before") -> Evaluation:
    return Evaluation.load(directory / "evaluations/kitchen", name)


def written(config: RunConfig, place: Path) -> str:
    (place / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return "run.yaml"


def test_questions_that_fail_are_put_once_more_as_by_eval_run(world: World, place: Path) -> None:
    short = {"stages__0__steps": 1, "evaluation__every": 0}
    train(measured(world, rollout__engine="own_engines:FailingOnce", **short))
    between = evaluated(place / "runs/small")
    done = evr1("eval", "run", written(measured(world, **short), place), "--data", target(world))
    assert done.exit_code == 0, done.output
    (directory,) = find_results([place / "evaluations"])
    assert between.failed == 0 and between.records == Evaluation.load(directory, "result").records


def test_an_evaluation_that_stops_is_called_by_its_benchmark(world: World, place: Path) -> None:
    words = "^evaluation unscored before: 4 of 4 questions failed or could not be scored.*nobody knows"
    with pytest.raises(StoppedError, match=words):
        train(measured(world, "unscored"))
    done = evr1("eval", "run", written(measured(world), place), "--data", target(world, "unscored"))
    assert done.exit_code == 3 and "evaluation unscored: 4 of 4 questions failed" in done.output


def test_frames_of_the_command_line_go_before_those_of_a_benchmark(world: World, place: Path) -> None:
    short = {"stages__0__steps": 1, "stages__0__save_every": 1, "evaluation__every": 1}
    settings, asked = written(measured(world, **short), place), "data.video.frames=4"
    assert evr1("train", settings, asked).exit_code == 0
    done = evr1("eval", "run", settings, asked, "--data", target(world))
    assert done.exit_code == 0, done.output
    (directory,) = find_results([place / "evaluations"])
    apart, between = Evaluation.load(directory, "result"), evaluated(place / "runs/small")
    assert between.records == apart.records
    videos = [media for record in between.records for media in record.media if media.kind == "video"]
    assert {len(video.frame_indices) for video in videos} == {4}  # the benchmark's budget has 2
    longer = written(measured(world, **{**short, "stages__0__steps": 2}), place)
    done = evr1("train", longer)  # the same configuration, but the benchmark has its own frames again
    assert done.exit_code == 0 and "benchmark kitchen has changed since this run started" in done.stderr


def test_answers_to_a_benchmark_are_judged_between_steps(world: World, place: Path) -> None:
    release = VIDEO_MMLU[0].write(place / "release")
    video = next(row["videos"][0] for row in world.read("validation") if row["videos"])
    (release / "youtube_videos").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(video, release / "youtube_videos" / f"{name}.mp4")

    together = threading.Barrier(2, timeout=60)

    def judge(number: int, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        if number == 0:
            return chat("ready")  # asked before anything is read
        system, user = (message["content"] for message in body["messages"][:2])
        if "Reply with the answer alone" in user:
            if number < 3:
                together.wait()  # passes only if two answers are judged at the same time
            return chat("something")
        if "What falls?" in user:
            return chat("I cannot say.")
        return chat(verdict(system, correct="board" in user, score=1))

    server = Server(judge)
    rewards = {"custom": {"*": "own_parts:vowels"}, "judge": {"url": server.url, "model": "m", "retries": 0}}
    settings = {"rewards": rewards, "evaluation": {"every": 1, "benchmarks": [f"video_mmlu={release}"]}}
    try:
        with pytest.warns(RuntimeWarning, match="the judge's reply is no verdict"):
            train(measured(world, stages__0__steps=1, rollout__engine="own_engines:Ending", **settings))
    finally:
        server.close()
    (row,) = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    # One of the three questions of Math is right; the one of Physics has no verdict and counts as wrong.
    assert row["benchmark/video_mmlu/Math"] == pytest.approx(1 / 3)
    assert row["benchmark/video_mmlu/overall"] == pytest.approx(1 / 6)


def test_two_workers_give_the_numbers_of_one_engine(world: World, place: Path) -> None:
    short = {"stages__0__steps": 1, "evaluation__every": 1}
    found = []
    for workers in (0, 2):
        train(measured(world, name=f"by-{workers}", rollout__workers=workers, **short))
        found.append([evaluated(place / f"runs/by-{workers}", name) for name in ("before", "rl-000001", "01-rl")])
    for one, two in zip(*found, strict=True):
        assert [record.greedy and record.greedy.response for record in one.records] == [
            record.greedy and record.greedy.response for record in two.records
        ]
        assert one.failed == two.failed == 0


def test_a_killed_run_ends_with_the_same_numbers_and_the_same_best_checkpoint(world: World, place: Path) -> None:
    config = measured(world, stages__0__best_by="benchmark/kitchen/overall", stages__0__keep_checkpoints=1)
    written(config, place)
    train(config.model_copy(update={"name": "whole"}))
    script = Path(__file__).with_name("faults.py")
    moments = [str(moment) for moment in (9, 14, 20, 23, 17, 26, 12, 29)]
    done = subprocess.run(
        [sys.executable, str(script), "run.yaml", *moments], capture_output=True, text=True, cwd=place, check=False
    )
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"moment"')]
    assert ends[-1] == {"moment": None, "killed": False, "status": 0}, done.stderr
    assert sum(end["killed"] for end in ends) >= 5, "the moments are too late to test anything"
    whole, killed = lasting(place / "runs/whole"), lasting(place / "runs/small")
    assert {name for name in whole if name.endswith("best.json")} == {"stages/01-rl/best.json"}
    assert {**killed, "config.yaml": b""} == {**whole, "config.yaml": b""}


def test_the_best_checkpoint_survives_and_is_found_by_its_name(world: World, place: Path) -> None:
    changes: dict[str, Any] = {"stages__0__keep_checkpoints": 1, "stages__0__save_every": 99, "stages__0__steps": 5}
    changes["evaluation__every"] = 1
    config = measured(world, "told", stages__0__best_by="benchmark/told/overall", **changes)
    _, said = train(config)
    run = place / "runs/small"
    stage = run / "stages/01-rl"
    # The values of steps 1 to 5 are 0.2, 0.9, 0.9, 0.1 and 0.3: the earlier of two equal ones counts, 0.95 came before
    # the first step, and nothing but the best and the last step has been saved since.
    mark = json.loads((stage / "best.json").read_text())
    assert is_sealed(mark) and {**mark, "checksum": ""} == {
        "step": 2,
        "metric": "benchmark/told/overall",
        "value": pytest.approx(0.9),
        "checksum": "",
    }
    assert saved(stage) == [2, 5]
    assert "stage rl: best after step 2: benchmark/told/overall 0.9000" in said
    assert "Best checkpoint of 01-rl: step <b>2</b>" in (run / "report.html").read_text()

    best, last = (stage / f"checkpoints/step_00000{step}/model.safetensors" for step in (2, 5))
    assert best.read_bytes() != last.read_bytes()
    for words in (("small@best", "a"), ("small", "b", "--best"), ("small/stages/01-rl@best", "c")):
        done = evr1("export", f"runs/{words[0]}", *words[1:])
        assert done.exit_code == 0, done.output
        assert (place / words[1] / "model.safetensors").read_bytes() == best.read_bytes()
    assert evr1("export", "runs/small", "last").exit_code == 0
    assert (place / "last/model.safetensors").read_bytes() == last.read_bytes()

    # Longer, by another metric: the mark follows, and what is marked no more gives way as any other.
    train(measured(world, "told", **{**changes, "stages__0__steps": 6}))
    assert not (stage / "best.json").exists() and saved(stage) == [6]
    done = evr1("export", "runs/small@best", "none")
    assert done.exit_code == 2 and "has no best checkpoint; set best_by" in done.output


def test_a_mark_that_is_damaged_is_made_again(world: World, place: Path) -> None:
    config = measured(world, stages__0__best_by="benchmark/kitchen/overall", stages__0__steps=4)
    train(config)
    stage = place / "runs/small/stages/01-rl"
    mark = stage / "best.json"
    before = mark.read_bytes()
    mark.write_bytes(before.replace(b'"value": 0.', b'"value": 9.'))
    assert evr1("doctor", "runs/small").exit_code == 1
    done = evr1("export", "runs/small@best", "none")
    assert done.exit_code == 2 and "best.json: not the mark of a checkpoint" in done.output
    longer = measured(world, stages__0__best_by="benchmark/kitchen/overall", stages__0__steps=5)
    train(longer)
    assert json.loads(mark.read_text())["step"] == json.loads(before)["step"] and is_sealed(
        json.loads(mark.read_text())
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages__0__best_by": "benchmark/kitchen/overal"}, "did you mean benchmark/kitchen/overall"),
        ({"stages__0__best_by": "evaluation/greedy"}, "no evaluation between steps gives the metric"),
        ({"stages__0__best_by": "benchmark/kitchen/overall", "evaluation__every": 0}, "which is never"),
        ({"stages__0__best_by": "benchmark/kitchen/overall", "evaluation__every": 7}, "at most 6"),
        ({"evaluation__benchmarks": ["video_mme=nowhere"]}, "nowhere"),
        ({"evaluation__benchmarks": ["no_such_benchmark=here"]}, "no_such_benchmark"),
        ({"evaluation__benchmarks": ["own_benchmark:kitchen=nowhere.jsonl"]}, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    world: World, place: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, Exception), match=words) as caught:
        train(measured(world, **changes))
    assert type(caught.value).__name__ in ("ConfigError", "DataError")
    assert not (place / "runs/small/stages").exists() and not (place / "runs/small/run.json").exists()
