"""Two ranks make the same calls whatever their micro-batches hold, and learn what one process would."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from benchmarks.family_cases import load_noise
from safetensors.torch import load_file
from tests.packing.two_ranks import HEADS, SCENARIOS, TOGETHER, backward, batches_of, open_policy, update_of

from easyvideor1.families.vision_tower import least_visual, tower_is_sharded
from easyvideor1.packing.micro_batch import equal_micro_batches, idle_batch

pytestmark = pytest.mark.model

#: Features of their own for early layers; windows of attention in the tower; layers that cannot branch.
FAMILIES = ["qwen3_vl", "qwen2_5_vl", "qwen3_5", "glm4v"]
#: Towers that learn in part, or nothing: their ranks still meet.
FROZEN = ["qwen3_vl without vision", "qwen3_vl without vision and merger"]
POLICIES = [*FAMILIES, *FROZEN]
DEADLINE = 180.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoints(family_checkpoints, glm_checkpoint):
    found = {**family_checkpoints, "glm4v": glm_checkpoint}
    return {name: str(found[name.partition(" ")[0]]) for name in POLICIES}


@pytest.fixture(scope="module")
def job(checkpoints, tmp_path_factory):
    """What two ranks wrote; they are ended, and the tests fail, if they wait for each other too long."""
    out = tmp_path_factory.mktemp("ranks")
    (out / "job.json").write_text(json.dumps(checkpoints))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "tests.packing.two_ranks", str(out)]
    logs = [out / f"log.{rank}" for rank in range(2)]
    ranks = []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            ranks.append(subprocess.Popen([*command, str(rank)], cwd=ROOT, env=environment, stdout=file, stderr=file))
    until = time.monotonic() + DEADLINE
    try:
        codes = [rank.wait(max(until - time.monotonic(), 0.1)) for rank in ranks]
    except subprocess.TimeoutExpired:
        codes = []
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert codes == [0, 0], "\n".join(["a hang" if not codes else str(codes), *(log.read_text() for log in logs)])
    return out


@pytest.fixture(scope="module")
def calls(job):
    return [json.loads((job / f"calls.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", POLICIES)
def test_ranks_that_share_the_tower_call_it_once_a_pass(calls, name) -> None:
    for rank in calls:
        assert rank[f"{name}, text beside media"] == [1]
        assert rank[f"{name}, fewer beside more"] == [1, 1, 1]
        assert rank[f"{name}, no gradient"] == [1, 1]


@pytest.mark.parametrize("name", POLICIES)
def test_ranks_with_towers_of_their_own_do_not(calls, name) -> None:
    """Calls that would differ, were the tower shared: what the dummy is for."""
    assert [rank[f"{name}, whole"] for rank in calls] == [[0], [1]]


def test_shared_towers_have_no_cache_of_features(job) -> None:
    """Only the rank that has something new to encode would call it."""
    for rank in range(2):
        refused = json.loads((job / f"refused.{rank}.json").read_text())
        assert list(refused) == POLICIES
        assert all("ranks share the vision tower" in text for text in refused.values())


def same_gradients(job, policy, micro_batches, scenario) -> dict[str, torch.Tensor]:
    """Those of ``micro_batches`` in this process are those that the ranks wrote; they are returned."""
    policy.model.train()
    for order, batch in batches_of(policy.family, micro_batches):
        backward(policy, order, batch)
    expected = {key: p.grad for key, p in policy.model.named_parameters() if p.grad is not None}
    found = load_file(job / f"{scenario}.safetensors")
    assert expected.keys() <= found.keys()
    for key, grad in found.items():
        wanted = expected.get(key, torch.zeros_like(grad))
        torch.testing.assert_close(grad, wanted, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    return expected


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", POLICIES)
def test_gradients_are_those_of_one_process(job, checkpoints, name, scenario) -> None:
    policy = open_policy(name, checkpoints[name])
    micro_batches = [cases for rank in SCENARIOS[scenario] for cases in rank]
    expected = same_gradients(job, policy, micro_batches, f"{name}, {scenario}")
    learning = sum("visual" in key and bool(grad.any()) for key, grad in expected.items())
    assert learning > (10 if name in FAMILIES else 5) or (name == FROZEN[-1] and learning == 0)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "qwen3_5"])
def test_ranks_that_compute_a_row_together_learn_what_one_process_does(job, checkpoints, name) -> None:
    same_gradients(job, open_policy(name, checkpoints[name]), TOGETHER, f"{name}, together")


def test_heads_that_go_to_ranks_attend_as_they_do_together(job) -> None:
    for rank in range(2):
        apart = json.loads((job / f"heads.{rank}.json").read_text())
        assert len(apart) == len(HEADS) and max(apart) < 1e-12, apart


@pytest.mark.parametrize("name", POLICIES)
def test_an_update_that_two_ranks_share_is_that_of_one_process(job, checkpoints, name) -> None:
    """The rank with fewer micro-batches runs idle ones, of which it returns nothing."""
    policy = open_policy(name, checkpoints[name])
    batch, plan = update_of(policy)
    assert len(plan) > 2
    whole = policy.forward_backward(batch, load=load_noise)
    ranks = [json.loads((job / f"updates.{rank}.json").read_text())[name] for rank in range(2)]
    assert sorted(ranks[0]["turns"] + ranks[1]["turns"]) == sorted(whole.observations.turn.tolist())
    for key, value in whole.sums.items():
        assert sum(rank["sums"][key] for rank in ranks) == pytest.approx(value, abs=1e-5), key
    found = load_file(job / f"{name}, update.safetensors")
    expected = {key: p.grad for key, p in policy.model.named_parameters() if p.grad is not None}
    assert expected.keys() <= found.keys()
    for key, grad in found.items():
        wanted = expected.get(key, torch.zeros_like(grad))
        torch.testing.assert_close(grad, wanted, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_single_process_leaves_the_tower_alone(checkpoints, name) -> None:
    policy = open_policy(name, checkpoints[name])
    count = []
    policy.model.model.visual.register_forward_hook(lambda *_: count.append(1))
    given = equal_micro_batches(batches_of(policy.family, [["text"]]), 1, policy.family, torch.device("cpu"))
    for order, batch in given:
        backward(policy, order, batch)
    assert not count
    assert all(p.grad is None for p in policy.model.model.visual.parameters())


def test_a_group_of_one_has_nobody_to_wait_for(checkpoints, tmp_path) -> None:
    from torch.distributed.fsdp import fully_shard

    policy = open_policy("qwen3_vl", checkpoints["qwen3_vl"])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        fully_shard(policy.model.model.visual, mesh=dist.init_device_mesh("cpu", (1,)))
        assert not tower_is_sharded(policy.family, policy.model)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_least_picture_is_one_token(checkpoints, name) -> None:
    policy = open_policy(name, checkpoints[name])
    seen = policy.family.encode(policy.model, least_visual(policy.family.geometry, torch.device("cpu")))
    assert {part.shape[0] for part in (seen.tokens, *seen.deepstack)} == {1}
    assert seen.tokens.isfinite().all()


def test_an_idle_micro_batch_teaches_nothing(checkpoints) -> None:
    policy = open_policy("qwen3_vl", checkpoints["qwen3_vl"])
    batch = idle_batch(policy.family, torch.device("cpu"))
    assert batch.visual is None and batch.sequence.tolist() == [-1]
    backward(policy, (), batch)
    grads = [p.grad for p in policy.model.parameters() if p.grad is not None]
    assert grads and not any(bool(grad.any()) for grad in grads)


def test_micro_batches_are_as_many_as_announced(checkpoints) -> None:
    family = open_policy("qwen3_vl", checkpoints["qwen3_vl"]).family
    with pytest.raises(ValueError, match="1 micro-batches where 2 were announced"):
        list(equal_micro_batches(batches_of(family, [["text"]]), 2, family, torch.device("cpu")))
