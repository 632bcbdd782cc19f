"""A whole run with ranks in a Ray cluster that loses machines and is given others."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyvideor1.config import write_config
from training.ranks.test_run import TRAIN
from training.runs import json_lines, train

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
pytestmark = pytest.mark.model

#: Never returns in the second step, once the first is saved; the program that begins in its place goes on.
HOLDING = """
import os
import time
from pathlib import Path

from own_parts import vowels

STAGE = Path("runs/ranked/stages/01-rl")


def reward(sample, response):
    while (STAGE / "checkpoints/step_000001").exists() and "EVR1_RESTARTS" not in os.environ:
        Path("waits").touch()
        time.sleep(0.01)
    return vowels(sample, response)
"""


@pytest.fixture
def machines():
    """Two, with a CPU each; whether one is gone is soon known."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def until(holds, process, said: Path) -> None:
    limit = time.monotonic() + 120
    while not holds():
        assert process.poll() is None and time.monotonic() < limit, said.read_text()
        time.sleep(0.05)


def test_a_run_that_loses_a_machine_waits_for_another_and_resumes(machines, world, place, monkeypatch) -> None:
    (place / "holding.py").write_text(HOLDING)
    changes = {"save_every": 1, "optimizer": {"lr": 1e-3, "eps": 1e-4}}  # rounding is not to be a step of AdamW
    changes = {f"stages__0__{key}": value for key, value in changes.items()}
    config = world.short(name="ranked", rewards__custom={"*": "holding:reward"}, **changes)
    write_config(config, place / "run.yaml")
    paths = os.pathsep.join(each for each in sys.path if each)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": machines.address}
    said = place / "said"
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *TRAIN, "cluster.nodes=2", "cluster.ranks=2"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until((place / "waits").exists, process, said)
        (lost,) = machines.worker_nodes
        machines.remove_node(lost, allow_graceful=False)
        until(lambda: "the run waits 300 s for another machine" in said.read_text(), process, said)
        machines.add_node(num_cpus=1)
        assert process.wait(120) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    words = said.read_text()
    assert "error: rank 1" in words and "the run resumes by itself from the last checkpoint (restart 1 of 2)" in words
    assert "the ranks need 2 machines with 1 CPUs each, and the Ray cluster has 1" in words
    assert "resuming after step 1" in words
    shutil.move(place / "runs/ranked", place / "found")
    monkeypatch.setenv("EVR1_RESTARTS", "0")  # the reward returns
    train(config)
    found, wanted = (json_lines(run / "stages/01-rl/metrics.jsonl") for run in (place / "found", place / "runs/ranked"))
    assert len(found) == len(wanted) == 2
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
