"""Curricula are functions of what they observed; a step sees what it would see in any run, resumed or ahead."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from pydantic import BaseModel

from easyvideor1.config.transforms import (
    CURRICULUM_OPTIONS,
    CustomCurriculum,
    DropSettled,
    PassRateHistory,
    RewardHistory,
)
from easyvideor1.data import CURRICULA, CurriculumTrack, Observation, SampleStream
from easyvideor1.data.curricula import make_curriculum, observations
from easyvideor1.options import with_options
from easyvideor1.types import ConfigError, Group, Sample, Score, Trajectory
from tiny import make_turn


def history(**options):
    return make_curriculum(RewardHistory(name="reward_history", **options))


def seen(count: int, seed: int = 0) -> list[list[Observation]]:
    """Observations of some steps: three of five samples in each, of four responses."""
    rng = np.random.default_rng(seed)
    return [
        [
            Observation(f"s{place}", tuple(rng.random(4).tolist()), tuple(f"{step}-{place}-{k}" for k in range(4)))
            for place in rng.permutation(5)[:3]
        ]
        for step in range(count)
    ]


class OwnOptions(BaseModel):
    decay: float = 0.5


@with_options(OwnOptions)
class Decaying:
    """A curriculum of a user's own."""

    def __init__(self, options: OwnOptions) -> None:
        self.options, self.value = options, 0.0

    def observe(self, step, observation):
        self.value += self.options.decay * (max(observation.rewards) - self.value)

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


OWN = CustomCurriculum(name="data.test_curricula:Decaying", decay=0.25)
EVERY = [
    *(CURRICULUM_OPTIONS[name](name=name) for name in CURRICULA.names()),
    RewardHistory(name="reward_history", window=2, successes=True, success=0.7),
    OWN,
]


@pytest.mark.parametrize("options", EVERY, ids=lambda each: each.name)
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_the_contract_of_curricula(options, lag) -> None:
    """A resume from any step, through JSON, sees in every later step what an uninterrupted run sees; and a step that is
    drawn ahead sees what it sees when it is due."""
    steps, make = seen(8), partial(make_curriculum, options)
    whole = CurriculumTrack(make, lag)
    states, views = [whole.state()], {}
    for step in range(1, 9):
        for ahead in range(step, step + lag + 1):  # as samples are drawn up to ``lag`` steps ahead
            view = json.dumps(whole.at(ahead).state_dict())
            assert views.setdefault(ahead, view) == view
        whole.observe(step, steps[step - 1])
        states.append(whole.state())
    for step, view in views.items():  # by definition: what was observed up to step - 1 - lag
        plain = make()
        for number in range(1, step - lag):
            for one in steps[number - 1]:
                plain.observe(number, one)
        assert json.dumps(plain.state_dict()) == view
    for done in range(9):
        resumed = CurriculumTrack(make, lag)
        resumed.restore(json.loads(json.dumps(states[done])))
        for step in range(done + 1, 9):
            assert json.dumps(resumed.at(step).state_dict()) == views[step]
            resumed.observe(step, steps[step - 1])
        assert json.loads(json.dumps(resumed.state())) == json.loads(json.dumps(states[8]))


def test_the_reference_is_the_mean_of_the_last_steps() -> None:
    steps, found = seen(6), history(window=2)
    assert found.reference is None and found.mean("s0") is None and found.difficulty("s0") is None
    for step, observed in enumerate(steps, 1):
        for one in observed:
            found.observe(step, one)
    last = [np.mean(one.rewards) for observed in steps[-2:] for one in observed]
    assert found.reference == pytest.approx(np.mean(last))
    latest = {one.sample_id: np.mean(one.rewards) for observed in steps for one in observed}
    for name, mean in latest.items():
        assert found.mean(name) == pytest.approx(mean)
        assert found.difficulty(name) == pytest.approx(np.mean(last) - mean)
    assert found.success("s0") == ""


def test_the_best_response_is_kept_if_it_was_rewarded_enough() -> None:
    found = history(successes=True, success=0.5)
    found.observe(1, Observation("a", (0.2, 0.4), ("x", "y")))
    assert found.success("a") == ""
    found.observe(2, Observation("a", (0.6, 0.9), ("x", "y")))
    found.observe(3, Observation("a", (0.8, 0.7), ("later", "z")))
    assert found.success("a") == "y"


def test_a_pass_rate_is_that_of_the_last_time() -> None:
    found = make_curriculum(PassRateHistory(name="pass_rate", passing=0.6))
    found.observe(1, Observation("a", (1.0, 1.0)))
    assert found.pass_rate("a") == 1.0 and found.pass_rate("b") is None
    found.observe(2, Observation("a", (0.6, 0.59, 0.0, -1.0)))
    assert found.pass_rate("a") == 0.25


def test_settled_samples_make_room_for_the_others() -> None:
    """A step of the stream holds what can teach and what was never seen, and the rest as often as ``keep`` says."""
    rows = [Sample(f"s{n}", "q", "math", "1") for n in range(40)]
    rates = {row.id: (n % 5) / 4 for n, row in enumerate(rows[:30])}  # 0, 1/4, 1/2, 3/4, 1; the last ten are new
    known = make_curriculum(PassRateHistory(name="pass_rate"))
    for name, rate in rates.items():
        known.observe(1, Observation(name, tuple(float(k < 4 * rate) for k in range(4))))

    def drawn(**options) -> list[str]:
        stream = SampleStream([rows], [1.0], 3, [DropSettled(name="drop_settled", **options)])
        found = [stream.batch(step, 20, curriculum=known) for step in range(60)]
        assert [len(batch) for batch in found] == [20] * 60
        assert found == [stream.batch(step, 20, curriculum=known) for step in range(60)]
        return [sample.id for batch in found for sample in batch]

    settled = {name for name, rate in rates.items() if rate in (0, 1)}
    assert set(drawn(keep=1e-9)) == {row.id for row in rows} - settled
    narrow = set(drawn(keep=1e-9, above=0.25, below=0.75))
    assert narrow == {row.id for row in rows if rates.get(row.id, 0.5) == 0.5}
    # 12 of 40 rows are settled: of what is let through, 12 k of 28 + 12 k.
    share = np.mean([name in settled for name in drawn(keep=0.25)])
    assert share == pytest.approx(3 / 31, abs=0.03)
    assert np.mean([name in settled for name in drawn(keep=1.0)]) == pytest.approx(0.3, abs=0.01)
    with pytest.raises(ValueError, match=r"above \(1\) must be less than below \(1\)"):
        DropSettled(name="drop_settled", above=1.0)


def group(rewards, origins=None, applicable=None) -> Group:
    origins = origins or ["online"] * len(rewards)
    applicable = applicable or [True] * len(rewards)
    turns = [make_turn(None, [1]) for _ in rewards]
    return Group(
        Sample("s", "q", "math", "1"),
        tuple(Trajectory((turn,), origin) for turn, origin in zip(turns, origins, strict=True)),
        tuple(Score(r, 0.0, r, applicable=a) for r, a in zip(rewards, applicable, strict=True)),
    )


def test_only_scored_responses_of_the_policy_are_observed() -> None:
    groups = [
        group([0.1, 0.9, 0.5], ["online", "offline", "online"]),
        group([0.3, 0.4], applicable=[False, True]),
        group([1.0], applicable=[False]),
        Group(Sample("t", "q", "math", "1"), ()),
    ]
    assert [one.rewards for one in observations(groups)] == [(0.1, 0.5), (0.4,)]


def test_names_and_options_are_checked() -> None:
    assert make_curriculum(OWN).options.decay == 0.25
    with pytest.raises(ConfigError, match=r"curriculum\.decey: unknown key; valid keys here: decay"):
        make_curriculum(CustomCurriculum(name="data.test_curricula:Decaying", decey=1))
    with pytest.raises(ConfigError, match="makes dict, which has no observe"):
        make_curriculum(CustomCurriculum(name="builtins:dict"))
