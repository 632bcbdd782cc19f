from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.worlds import ASKING, TableEngine, letter_score, make_sample

from easyvideor1.benchmarks.benchmark import published_rows
from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.config.schema import EvaluationConfig, RunConfig, VideoBudget
from easyvideor1.engines.engine import Sampling
from easyvideor1.evaluation import BENCHMARKS, Benchmark, evaluate, open_benchmark
from easyvideor1.evaluation.asking import Asking
from easyvideor1.types import ConfigError, DataError, Sample


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "colours.jsonl"
    lines = [
        {"problem": f"Is {i} even?", "answer": "yes" if i % 2 == 0 else "no", "problem_type": "boolean", "level": i}
        | {"data_type": "text", "problem_id": f"q{i}"}
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_of_rows_is_a_benchmark(rows: Path) -> None:
    benchmark = open_benchmark(str(rows))
    assert benchmark == open_benchmark(f"rows={rows}") == BENCHMARKS.resolve("rows")(str(rows))
    assert benchmark.name == "colours"
    config = benchmark.configure(RunConfig())
    assert config.data.test == (benchmark.source(),)
    loaded = benchmark.load(config)
    assert [sample.id for sample in loaded.samples] == ["q0", "q1", "q2", "q3"]
    assert loaded.samples[1].answer == "no"


def test_settings_of_the_benchmark_win(rows: Path) -> None:
    text = rows.read_text().replace('"problem"', '"text"')
    rows.write_text(text)
    benchmark = Benchmark(
        name="mine",
        version="2",
        rows=str(rows),
        columns={"question_key": "text"},
        adapt=lambda sample: replace(sample, question=f"Level {sample.extra['level']}: {sample.question}"),
        video=VideoBudget(max_frames=16),
    )
    base = RunConfig()
    config = benchmark.configure(base)
    assert config.data.video.max_frames == 16
    assert config.data.max_prompt_tokens == base.rollout.batch_tokens > base.data.max_prompt_tokens
    own = RunConfig.model_validate({"data": {"max_prompt_tokens": 900}})
    assert benchmark.configure(own).data.max_prompt_tokens == 900
    assert (config.data.image, config.prompts) == (base.data.image, base.prompts)
    assert benchmark.load(config).samples[3].question == "Level 3: Is 3 even?"
    assert base.data.test == ()


def test_wrong_settings_are_refused(rows: Path) -> None:
    with pytest.raises(ValueError, match="question_kye"):
        Benchmark("mine", "1", str(rows), columns={"question_kye": "text"}).configure(RunConfig())


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl: no such data file"):
        open_benchmark(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(ConfigError, match="unknown benchmark 'row'"):
        open_benchmark("row=x.jsonl")
    with pytest.raises(DataError, match="no location"):
        open_benchmark("rows")
    with pytest.raises(ConfigError, match="must return a Benchmark"):
        open_benchmark("pathlib:Path=x")


def test_quoted_numbers(rows: Path) -> None:
    def samples(kinds: list[str]) -> list[Sample]:
        return [make_sample(i, kind) for i, kind in enumerate(kinds)]

    engine = TableEngine({0: "A", 1: "A", 2: "A", 3: "B", 4: "B"})
    asking = Asking(engine, ASKING, EvaluationConfig(samples=0), Sampling(), seed=0)
    result = evaluate("mine", samples(["boolean"] * 4 + ["math"]), asking, letter_score)
    answers = greedy_answers(result.records)
    found = {metric.name: metric(answers) for metric in published_rows(str(rows)).metrics}
    assert found == {"accuracy": 0.6, "task_average": 0.375}
