"""vLLM in whole runs: training, an evaluation of several benchmarks, and the quickstart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from curation.commands import configured, evr1
from easyvideor1.engines import vllm as engine_module
from easyvideor1.evaluation.certificate import find_results
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.recipes import toy

from .runs import train
from .test_benchmarks import OWN_BENCHMARK, measured, target, written

pytestmark = pytest.mark.model


def steps_of(stage: Path):
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def cores(monkeypatch):
    """vLLM's engines that were started and not yet closed, and the largest number of responses that one had at once."""
    seen = {"started": 0, "open": 0, "most": 0}
    start, stop = engine_module.open_core, engine_module.close_core

    def open_core(*arguments, **options):
        core = start(*arguments, **options)
        seen["started"] += 1
        seen["open"] += 1
        step = core.step

        def counted():
            seen["most"] = max(seen["most"], core.get_num_unfinished_requests())
            return step()

        core.step = counted
        return core

    def close_core(core):
        seen["open"] -= 1
        stop(core)

    monkeypatch.setattr(engine_module, "open_core", open_core)
    monkeypatch.setattr(engine_module, "close_core", close_core)
    return seen


def test_a_run_trains_on_responses_of_vllm(world, place):
    train(world.config(rollout__engine="vllm"))
    metrics = steps_of(place / "runs" / "small" / "stages" / "02-grpo")
    assert len(metrics) == 4
    assert any(step["grad_norm"] > 0 for step in metrics)
    assert max(step["mismatch/largest"] for step in metrics) < 1e-4, "every sync reached the engine, to the last weight"


def test_a_run_trains_adapters_with_vllm_in_a_process_of_its_own(world, place):
    pytest.importorskip("peft", reason="adapters need the extra lora")
    train(world.config(rollout__engine="vllm", rollout__workers=1, model__lora={"rank": 4}))
    metrics = steps_of(place / "runs" / "small" / "stages" / "02-grpo")
    assert len(metrics) == 4 and any(step["grad_norm"] > 0 for step in metrics)
    assert max(step["mismatch/largest"] for step in metrics) < 1e-4


def test_an_evaluation_of_two_benchmarks_uses_one_vllm_and_answers_as_the_local_engine(world, place, cores):
    settings = configured(world, place)
    benchmarks = ("--data", world.rows("train"), "--data", world.rows("test"))
    for engine in ("vllm", "local"):
        done = evr1("eval", settings, f"rollout.engine={engine}", *benchmarks, "--out", engine)
        assert done.exit_code == 0, done.output
        assert "train: 12 questions, 0 refused, 0 failed" in done.stdout
        assert "test: 4 questions, 0 refused, 0 failed" in done.stdout
    assert cores == {"started": 1, "open": 0, "most": 24}, "one engine; all responses of a benchmark at a time"
    for name in ("train", "test"):
        ours, theirs = (
            [json.loads(line) for line in next(Path(at, name).glob("*/result.jsonl")).read_text().splitlines()]
            for at in ("vllm", "local")
        )
        assert [row["sample"] for row in ours] == [row["sample"] for row in theirs]
        assert [row["greedy"]["response"] for row in ours] == [row["greedy"]["response"] for row in theirs]


def test_an_evaluation_without_a_result_closes_vllm(world, place, cores):
    settings = configured(world, place)
    done = evr1(
        "eval",
        settings,
        "rollout.engine=vllm",
        "rollout.batch_tokens=64",
        "rollout.max_new_tokens=5000",
        "--data",
        world.rows("test"),
    )
    assert (
        done.exit_code != 0 and "4 of 4 questions failed" in done.stderr and "raise rollout.batch_tokens" in done.stderr
    )
    assert cores["started"] == 1 and cores["open"] == 0


def test_a_run_with_vllm_is_measured_on_a_benchmark(world, place, cores):
    (place / "own_benchmark.py").write_text(OWN_BENCHMARK)
    short = {"stages__0__steps": 2, "evaluation__every": 1}
    train(measured(world, rollout__engine="vllm", **short))
    assert cores["started"] == 1 and cores["open"] == 0, "training and evaluations use one engine"
    run = place / "runs" / "small"
    metrics = steps_of(run / "stages" / "01-rl")
    assert [sorted(key for key in step if key.startswith("benchmark/")) for step in metrics] == [
        ["benchmark/kitchen/mean of tasks", "benchmark/kitchen/overall"]
    ] * 2
    for name, checkpoint in (("before", world.checkpoint), ("rl-000002", run)):
        words = ("--data", target(world), "--checkpoint", checkpoint, "--out", f"apart/{name}")
        done = evr1("eval", "run", written(measured(world, **short), place), *words)  # by the local engine
        assert done.exit_code == 0, done.output
        between, apart = Evaluation.load(run / "evaluations/kitchen", name), find_results([place / "apart" / name])[0]
        ours, theirs = (
            [record.greedy.response for record in each.records] for each in (between, Evaluation.load(apart, "result"))
        )
        assert ours == theirs


def test_the_quickstart_trains_with_vllm(tmp_path, monkeypatch):
    whole = toy.quickstart_world
    monkeypatch.setattr(toy, "quickstart_world", lambda seed: replace(whole(seed), train=14, validation=7, test=7))
    monkeypatch.chdir(tmp_path)
    small = ("stages.grpo.steps=2", "stages.grpo.prompts_per_step=4", "stages.grpo.group_size=4", "threads=1")
    done = evr1("quickstart", "--engine", "vllm", *small)
    assert done.exit_code == 0, done.output
    run = tmp_path / "runs" / "quickstart" / "run-0"
    (stage,) = (run / "stages").iterdir()
    metrics = steps_of(stage)
    assert len(metrics) == 2 and all(step["mismatch/largest"] < 1e-4 for step in metrics)
    assert "<answer>" in (run / "evaluations" / "before.jsonl").read_text(), "the warm start's answers, not noise"
    assert "rollout.engine=vllm" in done.stdout, "the command for the next run keeps the engine"
