"""Whole runs whose responses are older than the weights they train: complete, bounded, corrected, resumed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from easyvideor1.config import RunConfig, write_config
from easyvideor1.types import ConfigError

from .runs import OWN_PARTS, World, json_lines, lasting, train
from .test_resume import start

pytestmark = pytest.mark.model

#: An engine with weights of its own. ``Last`` finishes all that is pending before it takes new weights, so that
#: responses are as old as can be; ``Midway`` draws 30 tokens of each, so that they go on with the new weights.
OWN_ENGINES = """
from copy import deepcopy
from itertools import islice

from easyvideor1.engines.local import LocalEngine


class Own(LocalEngine):
    def __init__(self, family, model, load, **options):
        super().__init__(family, deepcopy(model).requires_grad_(False), load, **options)


class Last(Own):
    runs_ahead = True
    pauses = None

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.ready = {}

    def results(self):
        while self.ready:
            yield self.ready.pop(next(iter(self.ready)))
        yield from super().results()

    def cancel(self, tickets):
        super().cancel(tickets)
        for ticket in tickets:
            self.ready.pop(ticket, None)

    def update_weights(self, version, tensors):
        for result in islice(super().results(), self.pauses):
            if result is not None:
                self.ready[result.ticket] = result
        super().update_weights(version, tensors)


class Midway(Last):
    pauses = 30
"""


@pytest.fixture
def engines(place: Path) -> Path:
    (place / "own_engines.py").write_text(OWN_ENGINES)
    return place


def stale(world: World, engine: str = "Last", staleness: int = 1, **changes: Any) -> RunConfig:
    values = {"rollout__engine": f"own_engines:{engine}", "rollout__max_staleness": staleness, **changes}
    return world.config(**values)


def trained(run_dir: Path) -> list[list[str]]:
    """The samples of every step, from its rollouts."""
    files = sorted(run_dir.glob("stages/*-[gr]*/rollouts/step_*.jsonl"))
    return [[row["sample"] for row in json_lines(path)] for path in files]


def test_an_engine_with_weights_of_its_own_gives_the_same_run(finished: Path, world: World, engines: Path) -> None:
    train(stale(world, "Own", 0))
    found, wanted = lasting(engines / "runs/small"), lasting(finished)
    assert [name for name in found | wanted if found.get(name) != wanted.get(name)] == ["config.yaml"]


@pytest.mark.parametrize(("engine", "staleness"), [("Last", 2), ("Midway", 1)])
def test_a_stale_run_is_complete_and_within_its_bound(
    finished: Path, world: World, engines: Path, engine: str, staleness: int
) -> None:
    train(stale(world, engine, staleness, rollout__at_update="continue"))
    run = engines / "runs/small"
    assert trained(run) == trained(finished), "the samples of every step, each once"
    rows = json_lines(run / "stages/02-grpo/metrics.jsonl")
    assert [row["staleness/max"] for row in rows] == [min(step, staleness) for step in range(4)]
    assert rows[0]["staleness/mean"] == rows[0]["staleness/older_tokens"] == 0
    for row in rows[1:]:
        assert row["staleness/logprob_abs"] > 1e-3 and row["mismatch/weight"] != 1
        if engine == "Last":
            assert row["staleness/older_tokens"] == 1 and "mismatch/logprob_abs" not in row
        else:
            assert row["staleness/straddling"] > 0.5 and 0.2 < row["staleness/older_tokens"] < 0.8
            assert row["mismatch/largest"] < 1e-4, "tokens of the present weights agree, behind older ones too"
    text = (run / "config.yaml").read_text()
    assert "name: tis" in text and json.loads((run / "summary.json").read_text())["accuracy_after"] is not None


def short(world: World, **changes: Any) -> RunConfig:
    """Four steps of reinforcement learning, saved after each second one."""
    stage = {**world.values()["stages"][1], "name": "rl", "kl": "none"}
    return world.short(**{"stages": [stage], "rollout__max_new_tokens": 24, **changes})


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The samples of every step of a run without staleness."""
    place = tmp_path_factory.mktemp("whole")
    (place / "own_parts.py").write_text(OWN_PARTS)
    with contextlib.chdir(place):
        train(short(world))
    return trained(place / "runs/small")


def test_a_killed_stale_run_trains_on_every_step_once(world: World, engines: Path, whole: list[list[str]]) -> None:
    settings = {"rollout__engine": "own_engines:Last", "rollout__max_staleness": 2}
    write_config(short(world, **settings), engines / "run.yaml")
    process = start([str(Path(__file__).with_name("faults.py")), "run.yaml", "32", "5"], engines)
    out, errors = process.communicate(timeout=300)
    ends = [json.loads(line) for line in out.splitlines() if line.startswith('{"moment"')]
    assert ends[-1] == {"moment": None, "killed": False, "status": 0}, errors
    assert sum(end["killed"] for end in ends) == 2 and "resuming after step 2" in errors
    assert trained(engines / "runs/small") == whole
    rows = json_lines(engines / "runs/small/stages/01-rl/metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and [row["staleness/max"] for row in rows] == [0, 1, 0, 1]


def test_over_sampling_without_staleness_is_the_same_after_a_stop(world: World, engines: Path) -> None:
    """Ctrl-C while a reward is computed, which is in another thread."""
    (engines / "stopping_ahead.py").write_text(
        "from pathlib import Path\n"
        "from own_parts import vowels\n"
        "left = 24\n"
        "def reward(sample, response):\n"
        "    global left\n"
        "    left -= Path('stop').exists()\n"
        "    if left < 0 and Path('stop').exists():\n"
        "        raise KeyboardInterrupt\n"
        "    return vowels(sample, response)\n"
    )
    settings = {"rollout__over_sample_rate": 0.5, "rewards__custom": {"*": "stopping_ahead:reward"}}
    train(short(world, **settings, name="whole"))
    (engines / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        train(short(world, **settings))
    (engines / "stop").unlink()
    _, said = train(short(world, **settings))
    assert "resuming after step 2" in said
    one, other = lasting(engines / "runs/whole"), lasting(engines / "runs/small")
    assert [name for name in one | other if one.get(name) != other.get(name)] == ["config.yaml"]
    rows = json_lines(engines / "runs/small/stages/01-rl/metrics.jsonl")
    assert all(row["groups/cut"] == 1 for row in rows), "of three, the first two to be complete"


@pytest.mark.usefixtures("engines")
def test_settings_that_do_not_go_with_staleness_are_refused_by_name(world: World) -> None:
    (_, grpo) = stale(world).stages
    assert grpo.correction.name == "tis" and stale(world).stages[0].correction.name == "none"
    assert stale(world, staleness=0).stages[1].correction.name == "none"
    assert stale(world, stages__1__correction="none").stages[1].correction.name == "none"
    assert stale(world, stages__1__objective={"old_logprobs": "engine"}).stages[1].correction.name == "none"
    with pytest.raises(ValidationError, match=r"rollout.top_p \(0.9\).*stages.grpo.correction: none"):
        stale(world, rollout__top_p=0.9)
    with pytest.raises(ValidationError, match=r"rollout.top_k \(5\)"):
        stale(world, rollout__top_k=5, stages__1__objective={"old_logprobs": "engine"})
    assert stale(world, rollout__top_p=0.9, stages__1__correction="none").rollout.top_p == 0.9
    with pytest.raises(ValidationError, match="objective dpo cannot be corrected"):
        stale(world, stages__1__objective="dpo", stages__1__aggregation="sequence", stages__1__kl="none")
    with pytest.raises(ConfigError, match=r"engine Own cannot do this: set rollout.workers"):
        train(world.short(rollout__engine="own_engines:Own", rollout__max_staleness=1))


def test_a_worker_generates_while_the_policy_is_updated(world: World, engines: Path, whole: list[list[str]]) -> None:
    train(short(world, rollout__workers=1, rollout__max_staleness=1))
    assert trained(engines / "runs/small") == whole
    rows = json_lines(engines / "runs/small/stages/01-rl/metrics.jsonl")
    assert [row["staleness/max"] for row in rows] == [0, *[1] * (len(rows) - 1)]
    assert all(row["staleness/straddling"] == 0 for row in rows) and rows[0]["mismatch/largest"] < 1e-4
