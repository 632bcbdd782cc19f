"""An evaluation into a directory: interrupted at any moment it finishes the rest; failures are named and counted."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from easyvideor1.benchmarks.metrics import Metric, greedy_answers
from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.evaluation.asking import Asking, by_video
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.pipeline import Questions, evaluate_into, plan_prompts
from easyvideor1.evaluation.rescoring import rescore
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.types import (
    Completion,
    DataError,
    EasyVideoError,
    MediaError,
    MediaPlan,
    MediaRef,
    Sample,
    Score,
    StoppedError,
    Trajectory,
)

from .worlds import ASKING, TableEngine, letter_score, make_sample

CERTIFICATE = Certificate("toy", "1", "table", {"seed": 3}, {"rewards": {}})
COUNT = 90


class SlowEngine(TableEngine):
    """A table that takes its time, and cannot read the frames of some questions."""

    def __init__(self, seconds: float = 0.0, joins_running: bool = False, unreadable: Sequence[int] = ()) -> None:
        super().__init__({number: "AB"[number % 3 == 0] for number in range(COUNT)}, unreadable)
        self.seconds = seconds
        self.joins_running = joins_running

    def answer(self, request: Request) -> Sequence[Trajectory]:
        time.sleep(self.seconds)
        return super().answer(request)


def questions(samples: Sequence[Sample], /, scorer=letter_score, **config: object) -> Questions:
    settings = EvaluationConfig.model_validate({"samples": 2, **config})
    return Questions(samples, plan_prompts(samples, ASKING), scorer, settings, seed=3)


def samples_of(count: int = COUNT) -> list[Sample]:
    """Three questions to a video, far apart; every tenth video cannot be planned."""
    videos = count // 3
    names = {video: f"broken_{video}.mp4" if video % 10 == 9 else f"clip_{video}.mp4" for video in range(videos)}
    return [make_sample(number, video=names[number % videos]) for number in range(count)]


def evaluate(directory: Path, asked: Questions, engine: TableEngine, load=None, **options: object) -> Evaluation:
    def asking(timings) -> Asking:
        sampling = Sampling(max_new_tokens=16)
        return Asking(engine, ASKING, asked.config, sampling, 3, window=8, load=load, threads=2, spans=timings.spans)

    return evaluate_into(directory, CERTIFICATE, asked, asking, **options)  # type: ignore[arg-type]


def table(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in ("certificate.json", "result.json", "result.jsonl")}


def in_child(work) -> int:
    """Start work in a process of its own, and return its number."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent sees that it failed
            os._exit(1)
    return child


def killed_at_random_moments(tmp_path: Path, kills: int, *, joins_running: bool) -> None:
    asked = questions(samples_of())

    def load(ref: MediaRef, plan: MediaPlan) -> None:
        time.sleep(0.001)
        if ref.path == "clip_3.mp4":
            raise MediaError(f"{ref.path}: truncated", path=ref.path)

    def run(directory: Path) -> Evaluation:
        return evaluate(directory, asked, SlowEngine(0.004, joins_running, unreadable=[5]), load)

    begun = time.monotonic()
    run(tmp_path / "whole")
    seconds = time.monotonic() - begun
    moments, killed = random.Random(kills), 0
    for number in range(kills):
        directory = tmp_path / f"killed-{number % 5}"
        child = in_child(lambda: run(directory))  # noqa: B023 - forked at once
        time.sleep(moments.uniform(0.0, 0.6 * seconds))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed > kills // 2
    for number in range(min(kills, 5)):
        directory = tmp_path / f"killed-{number}"
        run(directory)
        assert table(directory) == table(tmp_path / "whole")
        tried = Counter(json.loads(line)["id"] for line in (directory / "answers.jsonl").read_bytes().splitlines())
        failed = {sample for sample, _ in Evaluation.load(directory, "result").failures}
        assert all(tried[sample.id] == 1 + (sample.id in failed) for sample in asked.samples), "asked twice"


@pytest.mark.parametrize("joins_running", [False, True])
def test_an_evaluation_that_is_killed_finishes_the_rest(tmp_path: Path, joins_running: bool) -> None:
    killed_at_random_moments(tmp_path, 4, joins_running=joins_running)


@pytest.mark.slow
def test_an_evaluation_that_is_killed_fifty_times(tmp_path: Path) -> None:
    killed_at_random_moments(tmp_path, 50, joins_running=False)


def test_nothing_is_asked_of_a_finished_evaluation(tmp_path: Path) -> None:
    asked = questions([make_sample(number) for number in range(20)])
    first = evaluate(tmp_path, asked, SlowEngine())
    engine = SlowEngine()
    again = evaluate(tmp_path, asked, engine)
    assert engine.batches == [] and again == Evaluation.load(tmp_path, "result")
    assert again.to_json() == first.to_json()


def test_failures_are_tried_once_more_and_count(tmp_path: Path) -> None:
    samples = samples_of(30)
    tries: Counter[str] = Counter()

    def load(ref: MediaRef, plan: MediaPlan) -> None:
        tries[ref.path] += 1
        if ref.path == "clip_1.mp4" or (ref.path == "clip_2.mp4" and tries[ref.path] == 1):
            raise MediaError(f"{ref.path}: took longer than 1 s", path=ref.path, reason="timeout")

    result = evaluate(tmp_path, questions(samples), SlowEngine(), load)
    assert tries["clip_1.mp4"] == 2 and tries["clip_2.mp4"] == 2 and tries["clip_0.mp4"] == 1
    broken = "MediaError: broken_9.mp4: no video stream"
    slow = "MediaError: clip_1.mp4: took longer than 1 s"
    assert dict(result.failures) == {
        **{f"q{number}": broken for number in (9, 19, 29)},
        **{f"q{number}": slow for number in (1, 11, 21)},
    }
    right = sum(number % 3 != 0 for number in range(30) if number % 10 not in (1, 9))
    assert Metric("accuracy")(greedy_answers(result.records)) == pytest.approx(right / 30)  # failures are wrong
    clusters = {record.sample: record.cluster for record in result.records}
    assert clusters["q9"] == clusters["q19"] == "broken_9.mp4" and clusters["q1"] == clusters["q21"] == "clip_1.mp4"


def test_a_file_that_was_mended_is_asked_again(tmp_path: Path) -> None:
    broken = [make_sample(0), make_sample(1, video="broken.mp4"), make_sample(2)]
    assert evaluate(tmp_path, questions(broken), SlowEngine()).failed == 1
    engine = SlowEngine()
    assert evaluate(tmp_path, questions(broken), engine).failed == 1 and engine.batches == []
    mended = [broken[0], make_sample(1, video="mended.mp4"), broken[2]]
    engine.joins_running = True
    assert evaluate(tmp_path, questions(mended), engine).failed == 0
    assert [[request.id for request in batch] for batch in engine.batches] == [["q1", "q1"]]


def test_failed_questions_are_asked_again_on_request(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(4)]
    assert evaluate(tmp_path, questions(samples), SlowEngine(unreadable=[2])).failed == 1
    assert evaluate(tmp_path, questions(samples), SlowEngine()).failed == 1
    assert evaluate(tmp_path, questions(samples), SlowEngine(), retry_failed=True).failed == 0


def test_too_many_questions_without_a_prompt_stop_before_the_engine_opens(tmp_path: Path) -> None:
    samples = [make_sample(number, video="broken.mp4" if number else None) for number in range(4)]
    engine = SlowEngine()
    with pytest.raises(StoppedError, match=r"3 of 4 questions cannot be asked.*broken.mp4: no video stream"):
        evaluate(tmp_path, questions(samples), engine)
    assert engine.batches == [] and not list(tmp_path.iterdir())


def test_the_engine_begins_while_frames_of_later_windows_are_made(tmp_path: Path) -> None:
    """The frames of the third window wait for an answer of the first: only a pipeline comes to an end."""
    answered = threading.Event()

    class Telling(SlowEngine):
        def answer(self, request: Request) -> Sequence[Trajectory]:
            answered.set()
            return super().answer(request)

    def load(ref: MediaRef, plan: MediaPlan) -> None:
        if ref.path == "clip_20.mp4":
            assert answered.wait(60)

    asked = questions([make_sample(number) for number in range(24)], samples=0)
    assert evaluate(tmp_path, asked, Telling(), load).failed == 0
    found = json.loads((tmp_path / "timings.json").read_text())
    assert found["questions"] == 24 and 0.0 <= found["engine"]["idle_share"] <= 1.0


def test_the_time_that_the_engine_waits_for_frames_is_measured(tmp_path: Path) -> None:
    def load(ref: MediaRef, plan: MediaPlan) -> None:
        time.sleep(0.05)

    asked = questions([make_sample(number) for number in range(24)], samples=0)
    evaluate(tmp_path, asked, SlowEngine(), load)  # an engine that takes no time: it waits nearly always
    found = json.loads((tmp_path / "timings.json").read_text())
    assert found["frames"]["busy"] >= 24 * 0.05 / 2  # in two threads
    assert found["engine"]["waited_for_frames"] > 0.5 * found["engine"]["seconds"]
    assert found["engine"]["idle_share"] > 0.5


def test_questions_about_a_video_come_together(tmp_path: Path) -> None:
    samples = samples_of(24)
    order = [samples[place].media[0].path for place in by_video(samples)]
    assert all(len(set(order[start : start + 3])) == 1 for start in range(0, 24, 3)) and sorted(by_video(samples)) == [
        *range(24)
    ]
    alone = [replace(make_sample(number), media=(), question="?") for number in range(3)]
    assert by_video(alone) == [0, 1, 2]
    result = evaluate(tmp_path, questions(samples, samples=0), SlowEngine())
    assert [record.sample for record in result.records] == [sample.id for sample in samples]


def test_what_was_answered_is_kept_when_an_engine_or_a_reward_fails(tmp_path: Path) -> None:
    class Failing(SlowEngine):
        def answer(self, request: Request) -> Sequence[Trajectory]:
            if request.id == "q12":
                raise EasyVideoError("the engine has failed")
            return super().answer(request)

    asked = questions([make_sample(number) for number in range(20)], samples=0)
    with pytest.raises(EasyVideoError, match="the engine has failed"):
        evaluate(tmp_path / "engine", asked, Failing())
    answers = (tmp_path / "engine" / "answers.jsonl").read_bytes().splitlines()
    assert {json.loads(line)["id"] for line in answers} == {f"q{number}" for number in range(12)}

    def scorer(sample: Sample, completion: Completion) -> Score:
        raise EasyVideoError("the reward has failed")

    with pytest.raises(EasyVideoError, match="the reward has failed"):
        evaluate(tmp_path / "reward", replace(asked, scorer=scorer), SlowEngine(0.05))
    assert (tmp_path / "reward" / "answers.jsonl").stat().st_size > 0
    assert evaluate(tmp_path / "reward", asked, SlowEngine()).failed == 0


def test_numbers_of_an_earlier_start_go_when_other_questions_are_asked(tmp_path: Path) -> None:
    class Failing(SlowEngine):
        def answer(self, request: Request) -> Sequence[Trajectory]:
            raise EasyVideoError("the engine has failed")

    def run(count: int, certificate: Certificate, engine: TableEngine) -> None:
        asked = questions([make_sample(number) for number in range(count)], samples=0)

        def asking(timings) -> Asking:
            return Asking(engine, ASKING, asked.config, Sampling(max_new_tokens=16), 3)

        evaluate_into(tmp_path, certificate, asked, asking)

    run(4, CERTIFICATE, SlowEngine())
    run(4, CERTIFICATE, Failing())  # all is answered
    assert (tmp_path / "result.json").exists()
    more = replace(CERTIFICATE, asking={**CERTIFICATE.asking, "questions": {"count": 6}})
    with pytest.raises(EasyVideoError, match="the engine has failed"):
        run(6, more, Failing())
    assert Certificate.load(tmp_path) == more and not (tmp_path / "result.json").exists()
    run(6, more, SlowEngine())
    assert Evaluation.load(tmp_path, "result").count == 6


def test_questions_that_answers_could_not_be_told_apart_of_are_refused(tmp_path: Path) -> None:
    one, other = (replace(make_sample(1, video=f"{name}.mp4"), where=f"{name}.jsonl:2") for name in "ab")
    with pytest.raises(DataError, match=r"a.jsonl:2 and b.jsonl:2 have the same id 'q1' and ask the same.*own id"):
        evaluate(tmp_path, questions([one, other]), SlowEngine())
    assert not list(tmp_path.iterdir())
    asks_else = replace(other, question="<video>Another question?")
    assert evaluate(tmp_path, questions([one, asks_else]), SlowEngine()).failed == 0


def test_a_result_with_many_failures_is_scored_again_but_not_with_more_of_them(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(4)]
    evaluate(tmp_path, questions(samples, samples=0, max_failed=1.0), SlowEngine(unreadable=[0, 1, 2]))
    assert rescore(tmp_path, letter_score, {}).after.failed == 3

    def judge_is_down(sample: Sample, completion: Completion) -> Score:
        return Score(0.0, 0.0, 0.0, applicable=False, reason="no reply")

    with pytest.raises(StoppedError, match="evaluation toy: 4 of 4 questions failed"):
        rescore(tmp_path, judge_is_down, {})
    assert rescore(tmp_path, letter_score, {}).moved == []


def test_scoring_again_says_what_moved(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(9)]
    before = evaluate(tmp_path, questions(samples, samples=0), SlowEngine())

    def reversed_score(sample: Sample, completion: Completion) -> Score:
        right = letter_score(sample, completion).accuracy
        return Score(right if sample.id == "q1" else 1.0 - right, 1.0, 1.0)

    done = rescore(tmp_path, reversed_score, {"rewards": {"other": True}})
    assert done.before == Evaluation.load(tmp_path, "result") or done.before.to_json() == before.to_json()
    assert [(each.sample, each.before, each.after) for each in done.moved] == [
        (f"q{number}", float(number % 3 != 0), float(number % 3 == 0)) for number in range(9) if number != 1
    ]
    assert Evaluation.load(tmp_path, "result").to_json() == done.after.to_json()
    assert Certificate.load(tmp_path).scoring["rewards"] == {"other": True}
    assert Certificate.load(tmp_path).digest == CERTIFICATE.digest  # what was asked is the same
    same = rescore(tmp_path, reversed_score, {})
    assert same.moved == []


def test_what_cannot_be_scored_again_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no answers.jsonl"):
        rescore(tmp_path, letter_score, {})
    evaluate(tmp_path, questions([make_sample(number) for number in range(3)]), SlowEngine())
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"id": "q1"', b'"id": "q7"'))
    with pytest.raises(DataError, match=r"the answers to q1 are missing or damaged; start evr1 eval run again"):
        rescore(tmp_path, letter_score, {})
    (tmp_path / "result.json").unlink()
    with pytest.raises(DataError, match="is not finished"):
        rescore(tmp_path, letter_score, {})
