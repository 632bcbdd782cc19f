from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from easyvideor1.benchmarks import ScoreFunction
from easyvideor1.benchmarks.metrics import Metric, greedy_answers
from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.engines.engine import Sampling
from easyvideor1.evaluation.asking import Asking, choose_samples
from easyvideor1.evaluation.evaluate import evaluate
from easyvideor1.evaluation.numbers import number_of
from easyvideor1.evaluation.result import Evaluation, greedy_difference, paired_records
from easyvideor1.evaluation.statistics import wilson_interval
from easyvideor1.seeds import derive_seed
from easyvideor1.types import (
    Completion,
    ConfigError,
    DataError,
    EasyVideoError,
    Sample,
    Score,
    StoppedError,
)

from .worlds import ASKING, TableEngine, letter_score, make_sample


def run(questions: list[Sample], engine: TableEngine, name: str = "before", **options: object) -> Evaluation:
    settings = {key: options.pop(key) for key in EvaluationConfig.model_fields if key in options}
    how = {"sampling": Sampling(max_new_tokens=16, top_p=0.9), "seed": 3}
    how |= {key: options.pop(key) for key in ("sampling", "seed", "window", "try_again") if key in options}
    asking = Asking(engine, ASKING, EvaluationConfig.model_validate(settings), **how)  # type: ignore[arg-type]
    return evaluate(name, questions, asking, **{"scorer": letter_score, **options})  # type: ignore[arg-type]


def test_greedy_and_sampled_are_counted_per_task() -> None:
    samples = [make_sample(i, "multiple_choice" if i < 6 else "boolean") for i in range(10)]
    engine = TableEngine({i: "A" if i in (0, 1, 2, 7) else "B" for i in range(10)})
    result = run(samples, engine, samples=3)
    assert result.count == 10 and result.failed == 0
    assert result.greedy == wilson_interval(4, 10)
    assert result.tasks["multiple_choice"].greedy == wilson_interval(3, 6)
    assert result.tasks["boolean"].greedy == wilson_interval(1, 4)
    assert result.tasks["boolean"].format == 1.0
    assert result.tasks["boolean"].parts == {"letter": 0.25}
    assert [len(record.trajectories) for record in result.records] == [3] * 10
    right = sum(r.response == "A" for record in result.records for r in record.trajectories)
    assert result.sampled is not None and result.sampled.mean == pytest.approx(right / 30)
    assert 0 < right < 12  # the table's right answers are drawn about half of the time


def test_requests_carry_the_configured_sampling() -> None:
    engine = TableEngine({0: "A"})
    run([make_sample(0)], engine, samples=2, temperature=0.7)
    greedy, sampled = engine.batches[0]
    assert (greedy.n, greedy.sampling.greedy, greedy.sampling.max_new_tokens) == (1, True, 16)
    assert (sampled.n, sampled.sampling) == (2, Sampling(temperature=0.7, top_p=0.9, max_new_tokens=16))
    assert greedy.seed != sampled.seed


def test_sampled_responses_are_drawn_as_the_evaluation_says() -> None:
    engine = TableEngine({0: "A"})
    penalties = {"repetition_penalty": 1.1, "presence_penalty": 1.5, "frequency_penalty": -0.5}
    run([make_sample(0)], engine, temperature=0.7, top_p=0.8, top_k=20, **penalties)
    run([make_sample(0)], engine, top_k=0, sampling=Sampling(max_new_tokens=16, top_p=0.9, top_k=5))
    (greedy, sampled), (_, open_) = engine.batches
    assert sampled.sampling == Sampling(temperature=0.7, top_p=0.8, top_k=20, max_new_tokens=16, **penalties)
    assert greedy.sampling.greedy and not greedy.sampling.penalises and sampled.sampling.penalises
    assert (open_.sampling.top_p, open_.sampling.top_k) == (0.9, 0)  # null is the rollout's, 0 is off


def test_greedy_only() -> None:
    result = run([make_sample(0)], TableEngine({0: "A"}), samples=0)
    assert result.sampled is None
    assert result.to_json()["sampled"] is None


def test_result_does_not_depend_on_batching() -> None:
    samples = [make_sample(i) for i in range(9)]
    table = {i: "AB"[i % 2] for i in range(9)}
    whole = run(samples, TableEngine(table), samples=4)
    parts = run(samples, TableEngine(table), samples=4, window=2)
    assert whole == parts


def test_broken_media_are_named_and_neither_right_nor_wrong() -> None:
    samples = [make_sample(0), make_sample(1, video="broken.mp4"), make_sample(2), make_sample(3), make_sample(4)]
    engine = TableEngine(dict.fromkeys(range(5), "A"), unreadable=[3])
    result = run(samples, engine)
    assert (result.count, result.failed) == (5, 2)
    assert result.greedy == wilson_interval(3, 3)
    assert [record.sample for record in result.records] == ["q0", "q1", "q2", "q3", "q4"]
    assert result.failures == (
        ("q1", "MediaError: broken.mp4: no video stream"),
        ("q3", "MediaError: clip_3.mp4: truncated"),
    )


def test_questions_that_failed_stay_in_the_cluster_of_their_video() -> None:
    """Six questions about each of three videos, one of which is broken: three clusters, not eight."""
    samples = [make_sample(i, video=("a.mp4", "b.mp4", "broken.mp4")[i // 6]) for i in range(18)]
    result = run(samples, TableEngine(dict.fromkeys(range(12), "A")), samples=1)
    assert [record.cluster for record in result.records] == [sample.media[0].path for sample in samples]
    assert not result.records[12].seen and result.records[0].seen
    found = number_of(Metric("accuracy"), greedy_answers(result.records), confidence=0.95, seed=0)
    assert found is not None and (found.count, found.failed, found.clusters) == (18, 6, 3)
    assert found.interval.mean == pytest.approx(2 / 3)
    assert (found.interval.low, found.interval.high) == (0.0, 1.0)  # one of three videos says as much as that


def test_nothing_but_failures_is_no_result() -> None:
    samples = [make_sample(0, video="broken.mp4"), make_sample(1, answer="?"), make_sample(2)]
    with pytest.raises(StoppedError, match=r"evaluation before: 2 of 3 .*1 with MediaError.*and 1 for 1 other cause"):
        run(samples, TableEngine({1: "A", 2: "B"}))
    with pytest.raises(StoppedError, match=r"^evaluation mvbench grpo-000050: 2 of 3 questions failed"):
        run(samples, TableEngine({1: "A", 2: "B"}), shown="mvbench grpo-000050")
    result = run(samples, TableEngine({1: "A", 2: "B"}), max_failed=0.7)
    assert (result.count, result.failed, result.overall.not_applicable) == (3, 1, 1)


def test_sampled_responses_that_nobody_judged_count_against_the_bound() -> None:
    """As when a judge dies in between: of a question with two of four lost, a half is lost."""
    asked = 0

    def dying(sample: Sample, completion: Completion) -> Score:
        nonlocal asked
        asked += 1
        return Score(1.0, 1.0, 1.0) if asked <= 3 else Score(0.0, 0.0, 0.0, applicable=False, reason="no judge")

    with pytest.raises(StoppedError, match=r"evaluation before: 1 of 1 questions .*1 with multiple_choice: no judge"):
        run([make_sample(0)], TableEngine({0: "A"}), samples=4, scorer=dying, max_failed=0.4)
    asked = 0
    result = run([make_sample(0)], TableEngine({0: "A"}), samples=4, scorer=dying, max_failed=0.5)
    assert result.greedy is not None and result.greedy.mean == 1.0


def test_unjudged_answers_are_masked_and_counted() -> None:
    samples = [make_sample(0), make_sample(1, answer="?"), make_sample(2)]
    result = run(samples, TableEngine({0: "A", 1: "A", 2: "B"}))
    assert result.greedy == wilson_interval(1, 2)
    assert result.overall.not_applicable == 1


def test_other_errors_reach_the_caller() -> None:
    def scorer(sample: Sample, response: Completion) -> object:
        raise EasyVideoError("reward 'mine' raised")

    with pytest.raises(EasyVideoError, match="reward 'mine' raised"):
        run([make_sample(0)], TableEngine({0: "A"}), scorer=scorer)


def test_scoring_in_threads_changes_nothing_but_the_wait() -> None:
    samples = [make_sample(i, answer="?" if i == 3 else "A") for i in range(7)]
    table = {i: "AB"[i % 2] for i in range(7)}
    together = threading.Barrier(4, timeout=60)

    def scorer(sample: Sample, response: Completion) -> Score:
        if sample.id in {samples[i].id for i in range(4)}:
            together.wait()  # passes only if four responses are scored at the same time
        return letter_score(sample, response)

    def result(scorer: ScoreFunction, threads: int) -> Evaluation:
        return run(samples, TableEngine(table), scorer=scorer, samples=0, scoring_threads=threads)

    assert result(scorer, 4) == result(letter_score, 1)


def test_an_error_in_a_scoring_thread_reaches_the_caller() -> None:
    def scorer(sample: Sample, response: Completion) -> Score:
        raise EasyVideoError("reward 'mine' raised")

    engine = TableEngine({0: "A", 1: "A", 2: "A"})
    with pytest.raises(EasyVideoError, match="reward 'mine' raised"):
        run([make_sample(i) for i in range(3)], engine, scorer=scorer, scoring_threads=2)


@pytest.mark.parametrize("name", ["", "../before", "a/b", ".hidden"])
def test_names_that_are_no_file_names(name: str) -> None:
    with pytest.raises(ConfigError, match="evaluation name"):
        run([make_sample(0)], TableEngine({0: "A"}), name=name)


def test_questions_that_fail_are_put_once_more_and_counted_once() -> None:
    engine = TableEngine(dict.fromkeys(range(5), "A"), unreadable=[1, 3])
    seen: list[tuple[int, int]] = []
    result = run(
        [make_sample(i) for i in range(5)],
        engine,
        samples=0,
        try_again=lambda: engine.unreadable.discard(3),  # as a disk that is there again
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [[request.id for request in batch] for batch in engine.batches] == [
        ["q0", "q1", "q2", "q3", "q4"],
        ["q1", "q3"],
    ]
    assert result.failures == (("q1", "MediaError: clip_1.mp4: truncated"),)
    assert result.greedy == wilson_interval(4, 4)
    assert {record.cluster for record in result.records} == {f"clip_{i}.mp4" for i in range(5)}
    assert seen == [(done, 5) for done in range(1, 6)]


def test_subset_is_seeded_ordered_and_stable() -> None:
    samples = [make_sample(i) for i in range(200)]
    chosen = choose_samples(samples, 50, seed=1)
    assert len(chosen) == 50
    assert chosen == sorted(chosen, key=lambda sample: int(sample.id[1:]))
    assert chosen != choose_samples(samples, 50, seed=2)
    assert sum(int(sample.id[1:]) < 100 for sample in chosen) in range(12, 39)
    assert choose_samples(samples, None, 1) == choose_samples(samples, 200, 1) == samples
    assert len(run(samples, TableEngine(dict.fromkeys(range(200), "A")), max_samples=7).records) == 7


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(3, "q0", "greedy") == 857826051802083554
    assert derive_seed(3, "q0", "greedy") != derive_seed(3, "q0g", "reedy")


def test_questions_about_one_video_share_a_cluster() -> None:
    table = {i: "A" if i < 10 else "B" for i in range(20)}
    apart = run([make_sample(i) for i in range(20)], TableEngine(table))
    together = run([make_sample(i, video=f"clip_{i // 5}.mp4") for i in range(20)], TableEngine(table))
    assert apart.greedy is not None and together.greedy is not None
    assert together.greedy.mean == apart.greedy.mean
    assert together.greedy.high - together.greedy.low > apart.greedy.high - apart.greedy.low


def test_write_and_load(tmp_path: Path) -> None:
    samples = [make_sample(0), make_sample(1, video="broken.mp4"), make_sample(2, answer="?"), make_sample(3)]
    result = run(samples, TableEngine({0: "A", 2: "A", 3: "é\u2028\n"}), samples=2)
    path = result.write(tmp_path / "evaluations")
    assert path == tmp_path / "evaluations" / "before.json"
    assert sorted(p.name for p in path.parent.iterdir()) == ["before.json", "before.jsonl"]
    assert Evaluation.load(path.parent, "before") == result
    head = json.loads(path.read_text())
    assert (head["name"], head["count"], head["failed"]) == ("before", 4, 1)
    assert set(head["greedy"]) == {"mean", "low", "high"}
    assert set(head["tasks"]["multiple_choice"]) >= {"count", "greedy", "sampled", "format", "parts"}
    row = json.loads((path.parent / "before.jsonl").read_text().split("\n")[0])
    assert set(row) >= {
        "sample", "task", "question", "answer", "options", "prompt", "prompt_tokens", "media", "greedy", "samples",
    }  # fmt: skip
    assert set(row["media"][0]) == {"kind", "path", "digest", "frame_indices", "timestamps", "height", "width"}
    assert set(row["greedy"]) == {"response", "tokens", "finish", "score"}


def test_damage_is_named(tmp_path: Path) -> None:
    result = run([make_sample(0), make_sample(1)], TableEngine({0: "A", 1: "B"}))
    result.write(tmp_path)
    rows = tmp_path / "before.jsonl"
    whole = rows.read_text()
    rows.write_text(whole.split("\n")[0] + "\n")
    with pytest.raises(DataError, match=r"has 1 rows where before.json says 2"):
        Evaluation.load(tmp_path, "before")
    rows.write_text('{"sample": "q0"}\n')
    with pytest.raises(DataError, match=r"before.jsonl:1: not a record of trajectories"):
        Evaluation.load(tmp_path, "before")
    rows.write_text("{nonsense\n" + whole)
    with pytest.raises(DataError, match=r"before.jsonl:1: not valid JSON"):
        Evaluation.load(tmp_path, "before")
    with pytest.raises(DataError, match="is this the directory of a run"):
        Evaluation.load(tmp_path, "after")


def test_before_and_after_are_paired_by_sample() -> None:
    samples = [make_sample(i) for i in range(8)]
    before = run(samples, TableEngine(dict.fromkeys(range(8), "B")))
    after = run([*samples[::-1], make_sample(99)], TableEngine({**dict.fromkeys(range(8), "A"), 99: "A"}), name="after")
    pairs = paired_records(before, after)
    assert [(a.sample, b.sample) for a, b in pairs] == [(s.id, s.id) for s in samples[::-1]]
    change = greedy_difference(before, after)
    assert change is not None and change.mean == 1.0 and change.low > 0
    assert greedy_difference(before, run([make_sample(50)], TableEngine({50: "A"}))) is None
