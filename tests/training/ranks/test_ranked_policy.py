"""A policy on several ranks learns what it learns in one process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.ranks.job import STAGES, play, resume, steps_of

from easyvideor1.config import ModelConfig
from easyvideor1.policy.policy import Policy

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[3]
#: Jobs by name: ranks, model, scenarios. "together": on the same micro-batches, by sequence parallelism.
JOBS = {
    "two": ({"ranks": 2}, {}, ["grpo", "ppo", "dpo", "one turn"]),
    "two with adapters": ({"ranks": 2}, {"lora": {"rank": 4}}, ["adapters"]),
    "two together": ({"ranks": 2, "sequence_parallel": 2}, {"lora": {"rank": 4}}, ["adapters", "ppo"]),
    "four": (
        {"ranks": 4, "shard_size": 2, "sequence_parallel": 2},
        {"gradient_checkpointing": True, "offload": ["activations", "optimizer", "parameters"], "mlp_chunk": 8},
        ["grpo"],
    ),
}
CASES = [(job, name) for job, (_, _, names) in JOBS.items() for name in names]
BFLOAT16 = ({"ranks": 2}, {"dtype": "bfloat16"}, ["brief"])
DEADLINE = 900.0


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, tmp_path_factory):
    """What one process makes of a scenario, by model and name."""
    made = {}

    def get(model, name):
        key = (json.dumps(model), name)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("alone")
            policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", **model))
            play(policy, name, tiny_checkpoint, made[key])
        return made[key]

    return get


@pytest.fixture(scope="module")
def job(tiny_checkpoint, tmp_path_factory, alone):
    """What the ranks of a job wrote, by its name."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = out = tmp_path_factory.mktemp("job")
            cluster, model, scenarios = {**JOBS, "bfloat16": BFLOAT16}[name]
            again = {"ppo": str(alone(model, "ppo") / "ppo 5")} if name == "two" else {}
            asked = {"checkpoint": str(tiny_checkpoint), "cluster": cluster, "model": model, "scenarios": scenarios}
            (out / "job.json").write_text(json.dumps(asked | {"resume": again}))
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            }
            done = subprocess.run(
                [sys.executable, "-m", "tests.training.ranks.job", str(out)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        return made[name]

    return get


def close(found, wanted, what):
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        rtol = 1e-4 if key == "kl" else 1e-5  # an exponential of log-probs
        torch.testing.assert_close(
            found[key], tensor, rtol=rtol, atol=1e-5, msg=lambda text, key=key: f"{what}, {key}: {text}"
        )


@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_ten_steps_are_those_of_one_process(job, alone, name, scenario) -> None:
    expected, found = alone(JOBS[name][1], scenario), job(name) / "out"
    wanted = json.loads((expected / f"{scenario}.json").read_text())
    metrics = json.loads((found / f"{scenario}.json").read_text())
    assert len(metrics) == steps_of(scenario)
    for step, (mine, theirs) in enumerate(zip(metrics, wanted, strict=True), 1):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5), f"step {step}"
    assert max(each["grad_norm"] for each in wanted) > STAGES[scenario].optimizer.max_grad_norm, "nothing is clipped"
    close(load_file(found / f"{scenario}.safetensors"), load_file(expected / f"{scenario}.safetensors"), scenario)


@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_checkpoints_and_gradients_are_those_of_one_process(job, alone, name, scenario) -> None:
    """After the first step the optimiser's first moment is a tenth of the gradient.

    The checkpoint of the fifth step was written while ranks did the sixth.
    """
    one, other = alone(JOBS[name][1], scenario), job(name) / "out"
    expected, found = one / f"{scenario} 1", other / f"{scenario} 1"
    for place in [expected] if scenario == "one turn" else [one / f"{scenario} 5", expected]:
        assert sorted(p.name for p in (other / place.name).iterdir()) == sorted(p.name for p in place.iterdir())
        for file in place.glob("*.safetensors"):
            close(load_file(other / place.name / file.name), load_file(file), f"{place.name}, {file.name}")
    moments = [tensor for key, tensor in load_file(found / "optimizer.safetensors").items() if "exp_avg/" in key]
    # Of adapters it is half: with B at 0, A has no gradient yet.
    assert sum(bool(tensor.any()) for tensor in moments) >= len(moments) / 2
    assert (found / "config.json").read_bytes() == (expected / "config.json").read_bytes()


@pytest.mark.parametrize("name", JOBS)
def test_a_rank_that_stalls_is_named(job, name) -> None:
    said = (job(name) / "stalled.txt").read_text()
    assert said.startswith("no rank has done anything for "), said
    assert re.search(r"they wait for rank [123], which reads the media of micro-batch \d of \d; run the same", said), (
        said
    )


def gradient_of(out: Path) -> torch.Tensor:
    """That of the first step: a tenth of it is the optimiser's first moment."""
    moments = load_file(out / "brief 1" / "optimizer.safetensors")
    return torch.cat([tensor.flatten() for key, tensor in sorted(moments.items()) if "exp_avg/" in key])


def test_ranks_in_bfloat16_are_one_process_in_bfloat16(job, alone) -> None:
    """Within 3% of the gradient, and 0.03 nats of a token's log-prob after three steps.

    Weights are gathered in that type, those of norms too, which autocast leaves in float32: so ranks are as far from
    one process as that is from float32. What is trained stays float32.
    """
    found, one, exact = job("bfloat16") / "out", alone(BFLOAT16[1], "brief"), alone({}, "brief")

    def apart(first: Path, second: Path) -> tuple[float, float]:
        gradients, logprobs = [], []
        for each in (first, second):
            gradients.append(gradient_of(each))
            logprobs.append(load_file(each / "brief.safetensors")["logprobs"])
        difference = torch.linalg.vector_norm(gradients[0] - gradients[1]) / torch.linalg.vector_norm(gradients[1])
        return float(difference), float((logprobs[0] - logprobs[1]).abs().mean())

    near, rounding = apart(found, one), apart(one, exact)
    assert max(near) < 0.03
    assert all(mine < 1.5 * theirs for mine, theirs in zip(near, rounding, strict=True)), (near, rounding)
    mine, theirs = (load_file(out / "brief.safetensors") for out in (found, one))
    for key in theirs.keys() - {"logprobs", "kl"}:
        assert mine[key].dtype == torch.float32
        assert (mine[key] - theirs[key]).abs().max() < 3e-3, f"{key}: three steps at a rate of 1e-3"


def test_ranks_resume_what_one_process_wrote(job, alone) -> None:
    """Critic, moving reference and optimiser included."""
    expected, found = alone({}, "ppo"), job("two") / "resumed"
    close(load_file(found / "ppo.safetensors"), load_file(expected / "ppo.safetensors"), "resumed")
    wanted = json.loads((expected / "ppo.json").read_text())[5:]
    for mine, theirs in zip(json.loads((found / "ppo.json").read_text()), wanted, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_one_process_resumes_what_ranks_wrote(job, alone, tiny_checkpoint, tmp_path) -> None:
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
    resume(policy, "ppo", tiny_checkpoint, job("two") / "out" / "ppo 5", tmp_path)
    close(load_file(tmp_path / "ppo.safetensors"), load_file(alone({}, "ppo") / "ppo.safetensors"), "resumed")
