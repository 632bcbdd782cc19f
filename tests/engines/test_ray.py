"""Workers as actors of Ray, in a cluster of this machine that the tests start and end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch

from easyvideor1.config import RewardConfig
from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.engines.worker_pool import WorkerPool
from easyvideor1.rewards import Scorer
from easyvideor1.rollout.reward_workers import RewardWorkers
from easyvideor1.types import Completion, ConfigError, Sample
from tiny import load_frames, make_plan, make_prompt

from .serving import tokens_of
from .workers import kill, opening_of, scaled

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def cluster():
    """A small cluster; its address."""
    torch.set_num_threads(1)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def pool(cluster, tiny_checkpoint):
    with closing(WorkerPool(opening_of(tiny_checkpoint), workers=2, placement="ray")) as pool:
        yield pool


@pytest.fixture
def requests(tiny_family):
    prompts = [make_prompt(tiny_family, f"<video>What {i}?", make_plan("video", frames=4, seed=i)) for i in range(6)]
    return [Request(f"r{i}", prompt, 3, Sampling(max_new_tokens=40), i) for i, prompt in enumerate(prompts)]


def test_actors_answer_as_an_engine_in_this_process(pool, tiny_model, tiny_family, requests):
    weights = scaled(tiny_model, 1.2)
    pool.update_weights(1, weights)
    found = tokens_of(generate(pool, requests))
    own = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=2000)
    own.update_weights(1, weights)
    assert found == tokens_of(generate(own, requests))
    assert pool.stats()["sync_bytes"] == 2 * sum(tensor.nbytes for _, tensor in weights)


def test_actors_that_are_killed_are_replaced_and_lose_no_sample(pool, requests):
    expected = tokens_of(generate(pool, requests))
    restarts, pid = pool.stats()["restarts"], pool._members[0].engine.ready().pid
    tickets = pool.submit(requests)
    kill(pid)  # both at once: a little later they may have finished
    ray.kill(pool._channels[1]._actor)
    found = {result.ticket: result for result in finished(pool)}
    assert sorted(found) == tickets and not any(result.fault for result in found.values())
    assert tokens_of([found[ticket].trajectories for ticket in tickets]) == expected
    assert pool.stats()["restarts"] == restarts + 2 and pool.stats()["engines"] == 2


def test_a_cluster_is_joined_by_its_address_and_left_running(cluster, tmp_path):
    program = "import ray; from easyvideor1.engines.ray_channel import *; join_cluster(); print(len(ray.nodes()))"
    environment = {**os.environ, "RAY_ADDRESS": cluster}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
    assert ray.is_initialized() and ray.get(ray.put(5)) == 5


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    from easyvideor1.engines import ray_channel

    monkeypatch.setenv("RAY_ADDRESS", "nowhere at all")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="nowhere at all cannot be joined"):
        ray_channel.join_cluster()


def test_more_gpus_than_there_are_are_refused(cluster, tiny_checkpoint):
    needed = int(ray.cluster_resources().get("GPU", 0)) + 1
    with pytest.raises(ConfigError, match=f"need {needed} GPUs"):
        WorkerPool(opening_of(tiny_checkpoint), workers=needed, placement="ray", gpus_per_worker=1)


def test_rewards_in_actors_score_as_in_this_process_and_a_killed_one_is_replaced(cluster):
    """Beside engines, which may have all CPUs."""
    sample = Sample("s", "Which?", "multiple_choice", "B", options=("A. red", "B. blue"))
    groups = [(sample, [Completion(f"<answer>{letter}</answer>") for letter in letters]) for letters in ("AB", "BBA")]
    settings = {"parts": [{"name": "varied", "reward": "diversity"}]}
    with closing(RewardWorkers(RewardConfig(processes=1, **settings), by_ray=True)) as rewards:
        wanted = Scorer(RewardConfig(**settings)).score_groups(groups)
        assert rewards.score_groups(groups) == wanted
        first = rewards.open_pool().pids
        kill(first[0])
        until = time.monotonic() + 60
        while rewards.open_pool().pids in ([], first):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert rewards.score_groups(groups) == wanted


def is_gone(actor):
    try:
        ray.get(actor.place.remote(), timeout=20)
    except ray.exceptions.RayActorError:
        return True
    return False


def test_closing_a_pool_ends_its_actors_and_not_the_cluster(pool):
    actors = [channel._actor for channel in pool._channels.values()]
    pool.close()
    until = time.monotonic() + 60  # the cluster ends them in its own time
    while not all(is_gone(actor) for actor in actors):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert ray.get(ray.put(5)) == 5
