"""The updates of a step: one of the whole rollout, or several of its parts, again and again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.rollout.collector import StepCollector
from easyvideor1.rollout.samples import StageMedia
from easyvideor1.training.learner import Learner
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import Sources, TrainBatch, make_train_batch
from tiny import update

from .runs import World

pytestmark = pytest.mark.model


class Step:
    """A stage's policy, and the training batch of one rollout of it."""

    def __init__(self, world: World, **options: Any) -> None:
        stage = {
            "name": "rl",
            "steps": 4,
            "prompts_per_step": 3,
            "group_size": 4,
            "selection": {"drop_flat_groups": False},
            "optimizer": {"lr": 3e-3, "max_grad_norm": 1e9},
            **options,
        }
        self.config: RunConfig = world.short(stages=[stage])
        (self.options,) = self.config.stages
        self.components = Components.open(self.config)
        self.policy = Policy.open(self.config.model)
        self.policy.begin(self.options)
        self.said: list[str] = []

    def learning(self) -> Learner:
        return Learner(self.options, self.config, self.components, self.policy, self.media(), self.said.append)

    def media(self) -> StageMedia:
        return StageMedia("rl", self.components.load, self.components.ledger)

    def train_batch(self) -> TrainBatch:
        (loaded,) = self.components.load_sources(self.config.data.train)
        engine = self.components.open_engine(self.policy.model)
        collector = StepCollector(
            self.options,
            self.components.sampling(),
            self.config.seed,
            family=self.policy.family,
            engine=engine,
            draw=lambda step, round_: loaded.samples[:3],
            strategy=self.components.strategy,
            media=self.media(),
            scorer=self.components.scorer,
            overlap=False,
        )
        groups = collector.collect(1, Timings()).groups
        learning = self.learning()
        sources = Sources(learning.kl, learning.values, lambda: 0.0)
        advantage, needs = ADVANTAGES.resolve(self.options.advantage.name), stage_needs(self.options)
        return make_train_batch(groups, advantage, self.options, 16, needs, sources, 1)

    def weights(self) -> torch.Tensor:
        return torch.cat([tensor.flatten() for tensor in dict(self.policy.weights()).values()])

    def by_hand(self, train_batch: TrainBatch, groups: list[int], before: list[torch.Tensor]) -> dict[str, float]:
        """An update of some groups, as ``Policy`` makes it."""
        part = train_batch.part(groups, overlong_filter=False)
        turns = [
            n for n, owner in enumerate(train_batch.rows.owner.tolist()) if int(train_batch.rows.group[owner]) in groups
        ]
        return update(
            self.policy,
            part.rows.turns,
            part.advantages,
            temperature=self.components.sampling().temperature,
            load=self.components.load,
            group=part.rows.group[part.rows.owner],
            offline=part.rows.offline[part.rows.owner],
            trajectory=part.rows.owner,
            rollout_logprobs=[before[n] for n in turns],
        )

    def before(self, train_batch: TrainBatch) -> list[torch.Tensor]:
        temperature = self.components.sampling().temperature
        found = self.policy.logprobs(train_batch.rows.turns, temperature=temperature, load=self.components.load)
        return list(found.values())


@pytest.mark.usefixtures("place")
def test_epochs_are_updates_against_the_policy_before_the_first(world: World) -> None:
    found, wanted = (Step(world, ppo_epochs=3) for _ in range(2))
    train_batch = found.train_batch()
    metrics = found.learning().update(train_batch, 1)
    before = wanted.before(train_batch)
    each = [wanted.by_hand(train_batch, [0, 1, 2], before) for _ in range(3)]
    torch.testing.assert_close(found.weights(), wanted.weights(), rtol=0, atol=1e-6)
    assert metrics["policy/updates"] == 3
    for name in ("loss", "policy/ratio", "policy/clip_fraction", "grad_norm"):
        assert metrics[name] == pytest.approx(sum(one[name] for one in each) / 3, abs=1e-5)
    assert each[0]["policy/ratio"] == pytest.approx(1, abs=1e-5) and each[0]["policy/clip_fraction"] == 0
    assert each[2]["policy/clip_fraction"] > 0.02, "the policy has moved beyond the clip range"


@pytest.mark.usefixtures("place")
def test_a_clip_range_holds_the_policy_back(world: World) -> None:
    """What clipping is for: with several updates, a narrow range moves less than none."""
    moved = []
    for clip in (0.02, 1e6):
        step = Step(world, ppo_epochs=4, objective={"clip_low": min(clip, 1.0), "clip_high": clip})
        train_batch = step.train_batch()
        before = torch.cat(step.before(train_batch))
        step.learning().update(train_batch, 1)
        moved.append(float((torch.cat(step.before(train_batch)) - before).abs().mean()))
    assert moved[0] < 0.9 * moved[1]


@pytest.mark.usefixtures("place")
def test_mini_batches_go_through_every_group_once_an_epoch(world: World) -> None:
    step = Step(world, mini_batches=2, ppo_epochs=2)
    train_batch = step.train_batch()
    learning = step.learning()
    parts = [[group.sample.id for group in part.rows.groups] for part in learning._parts(train_batch, 1)]
    ids = sorted(group.sample.id for group in train_batch.rows.groups)
    assert [len(part) for part in parts] == [2, 1, 2, 1]
    assert sorted(parts[0] + parts[1]) == sorted(parts[2] + parts[3]) == ids
    assert parts == [[group.sample.id for group in part.rows.groups] for part in step.learning()._parts(train_batch, 1)]
    orders = {
        tuple(map(tuple, ([g.sample.id for g in p.rows.groups] for p in learning._parts(train_batch, n))))
        for n in range(9)
    }
    assert len(orders) > 1, "steps differ in their order"
    assert learning.update(train_batch, 1)["policy/updates"] == 4


@pytest.mark.usefixtures("place")
def test_the_mismatch_is_that_of_the_rollout(world: World) -> None:
    """Not of a policy that has moved: engine and trainer agree, however many updates follow."""
    step = Step(world, ppo_epochs=3, mismatch={"bound": 1e-3})
    metrics = step.learning().update(step.train_batch(), 1)
    assert metrics["mismatch/logprob_abs"] < 1e-4 and metrics["mismatch/worst"] < 1e-3
    assert metrics["mismatch/beyond_bound"] == 0 and not step.said


@pytest.mark.usefixtures("place")
def test_values_are_clipped_against_those_before_the_first_update(world: World) -> None:
    """Within a step the critic moves, too, and its clip range is there to be met."""
    clipped = []
    for epochs in (1, 4):
        step = Step(world, advantage="gae", ppo_epochs=epochs, critic={"lr": 3e-3, "value_clip": 0.01})
        clipped.append(step.learning().update(step.train_batch(), 1)["critic/clip_fraction"])
    assert clipped[0] == 0 and clipped[1] > 0.1


@pytest.mark.usefixtures("place")
def test_offline_trajectories_have_a_ratio_too(world: World) -> None:
    """Where the objective reads one: they are held near the policy as it was, like all others."""
    options = {"trajectories": "offline", "advantage": "reward", "ppo_epochs": 3}
    clipped = Step(world, **options, objective="ppo_clip")
    metrics = clipped.learning().update(clipped.train_batch(), 1)
    assert metrics["policy/ratio"] != pytest.approx(1, abs=1e-3) and metrics["policy/updates"] == 3
    plain = Step(world, **options, objective="sft")
    train_batch = plain.train_batch()
    assert plain.learning()._with_rollout_logprobs(train_batch, 1) is train_batch, "nothing reads its log-probs"


@pytest.mark.usefixtures("place")
def test_a_kl_is_added_to_an_objective_of_ones_own_and_steered(world: World) -> None:
    step = Step(world, objective="own_parts:noisy", kl={"estimator": "k3", "coef": 0.1, "control": "adaptive"})
    metrics = step.learning().update(step.train_batch(), 1)
    assert metrics["policy/kl"] == pytest.approx(0, abs=1e-6) and "own/noise" in metrics
    assert step.policy.kl_weight.coefficient < metrics["policy/kl_coef"] == 0.1


def test_more_parts_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mini_batches \(9\) are parts of a step's 8 groups"):
        StageConfig(name="rl", prompts_per_step=8, mini_batches=9)
