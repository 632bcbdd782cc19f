"""Ranks as actors of Ray, in a cluster of two machines (as far as Ray can tell) that the tests start and end."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.tiny import load_frames
from tests.training.ranks.job import STAGES, open_media, step_of, turns_of

from easyvideor1.config import ClusterConfig, ModelConfig
from easyvideor1.engines.ray_channel import RayChannel
from easyvideor1.policy.policy import Policy
from easyvideor1.training.ranks.actors import Actors, _Seat, gpu_number
from easyvideor1.training.ranks.leader import RankLost, Ranks
from easyvideor1.training.ranks.policy import RankedPolicy
from easyvideor1.training.ranks.processes import Launched, by_ray
from easyvideor1.types import ConfigError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
pytestmark = pytest.mark.model

TWO = ClusterConfig(nodes=2)
#: The watch of beats may be before Ray.
ONE_SENTENCE = r"^rank 1 (ended while it|has been silent).*; run the same command to resume from the last checkpoint$"


@pytest.fixture(scope="module")
def machines():
    """Two, with a CPU and two GPUs each; the GPUs are numbers, and nobody computes on them."""
    from ray.cluster_utils import Cluster

    torch.set_num_threads(1)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    size = {"num_cpus": 1, "num_gpus": 2}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    cluster.add_node(**size)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def gpu_and_machine(seat):
    machine = seat.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
    return tuple(ray.get([machine, seat.gpu.remote()]))


def test_every_rank_has_a_gpu_and_engines_share_them(machines) -> None:
    actors = Actors(ClusterConfig(nodes=2, gpus_per_node=2), gpus=0.75)
    assert actors.own_gpu() in (0, 1)
    seats = [actors._seat, *(actors._start(_Seat, bundle) for bundle in (0, 1, 1))]
    places = [gpu_and_machine(seat) for seat in seats]
    assert len(set(places)) == 4
    assert places[0][0] == places[1][0] == ray.get_runtime_context().get_node_id()
    assert places[2][0] == places[3][0] != places[0][0]
    channel = RayChannel(gpus=0.25, group=actors.group, number=1)
    assert ray.get(channel._place)[0] == places[2][0]
    channel.kill()
    actors.kill()
    until = time.monotonic() + 60  # Ray ends it in its own time
    with pytest.raises(ray.exceptions.RayActorError):
        while time.monotonic() < until:
            ray.get(seats[0].gpu.remote(), timeout=20)


def rank_process(machines) -> int:
    """The process of the one rank that is an actor."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in machines.list_all_nodes()}
    for status in Path("/proc").glob("[0-9]*/stat"):
        text = status.read_text()
        parent = int(text.rpartition(")")[2].split()[1])
        if parent in raylets and b"_RankHost.follow" in (status.parent / "cmdline").read_bytes():
            return int(status.parent.name)
    raise AssertionError("there is none")


def test_ranks_on_two_machines_learn_as_one_process_and_a_lost_one_is_told(machines, tiny_checkpoint, tmp_path) -> None:
    """First the rank's process is killed, then its machine is lost."""
    model = ModelConfig(path=str(tiny_checkpoint), device="cpu")
    alone = Policy.open(model)
    alone.begin(STAGES["grpo"])
    wanted = step_of(alone, "grpo", 1)
    opening = (model, tiny_checkpoint, [STAGES["grpo"]], partial(open_media, tmp_path))

    def until_it_fails(policy):
        while True:
            policy.logprobs(turns_of(policy.family)[0], temperature=1.0, load=load_frames)

    with pytest.raises(RankLost, match=ONE_SENTENCE), Ranks(TWO, None) as ranks:
        policy = RankedPolicy.open_on(ranks, *opening)
        policy.begin(STAGES["grpo"])
        assert step_of(policy, "grpo", 1) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        assert ranks.sent_bytes > 0
        os.kill(rank_process(machines), signal.SIGKILL)
        until_it_fails(policy)

    with pytest.raises(RankLost, match=ONE_SENTENCE), Ranks(TWO, None) as ranks:
        policy = RankedPolicy.open_on(ranks, *opening)
        (other,) = machines.worker_nodes
        machines.remove_node(other, allow_graceful=False)
        until_it_fails(policy)
    assert ray.is_initialized() and ray.get(ray.put(5)) == 5, "the cluster of others ends with them"


def test_the_gpu_of_the_first_rank_is_found_by_number_and_by_name(monkeypatch) -> None:
    first, second = "MIG-7c5b1c9e-0001", "GPU-8932f937-d72c-4106"
    assert gpu_number("3", "1,3") == 1
    assert gpu_number(first, f"{second}, {first}") == 1
    assert gpu_number(second, "MIG-1,GPU-8932f937") == 1, "CUDA takes the beginning of a name"
    with pytest.raises(ConfigError, match=r"has reserved GPU MIG-7c5b1c9e-0001 .* and this process sees GPU-8932f937"):
        gpu_number(first, "GPU-8932f937")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_number("2") == 2
    with pytest.raises(ConfigError, match="start it with CUDA_VISIBLE_DEVICES=MIG-7c5b1c9e-0001, or with all names"):
        gpu_number(first)


def test_what_cannot_be_placed_is_refused(machines) -> None:
    with pytest.raises(ConfigError, match=r"need 3 machines with 1 CPUs each, and the Ray cluster has [12]; add"):
        Actors(ClusterConfig(nodes=3), gpus=0.0)
    with pytest.raises(ConfigError, match="the first rank is this process, whose machine offers Ray fewer than 4 GPUs"):
        Actors(ClusterConfig(gpus_per_node=4), gpus=1.0)
    with pytest.raises(ConfigError, match="a launcher has started this process"):
        by_ray(ClusterConfig(placement="ray", ranks=2), Launched(0, 2, 0, "localhost", 1, True, ""))
    with pytest.raises(ConfigError, match="this process starts ranks on its own machine alone"):
        by_ray(ClusterConfig(placement="process", nodes=2), None)
