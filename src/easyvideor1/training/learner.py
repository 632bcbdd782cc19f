"""One step of learning from a lesson: critic, policy, and the weight of the KL.

A step learns from one rollout. It makes one update of it, or several, of parts of the rollout or of all of it again
(Schulman et al. 2017, PPO, algorithm 1); ratios are then against the policy as it was before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from easyvideor1.algorithms.assembly import stage_needs
from easyvideor1.algorithms.kl import next_weight
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.config.algorithms import RatioOptions
from easyvideor1.packing.micro_batch import engine_logprobs
from easyvideor1.policy.policy import Observe, Policy
from easyvideor1.rollout.samples import StageMedia
from easyvideor1.seeds import derive_seed
from easyvideor1.training.mismatch import MismatchWatch
from easyvideor1.training.train_batch import TrainBatch
from easyvideor1.types import Turn


class Learner:
    """The update of a stage.

    Args:
        options: of the stage.
        config: of the run.
        bench: loads frames.
        policy: that learns.
        media: of the stage.
        say: takes warnings.
    """

    def __init__(
        self,
        options: StageConfig,
        config: RunConfig,
        components: Components,
        policy: Policy,
        media: StageMedia,
        say: Callable[[str], None],
    ) -> None:
        self.options = options
        self.policy = policy
        self.load = components.load
        self.features = media.features
        self.seed = config.seed
        self.objective = OBJECTIVES.resolve(options.objective.name)
        self.watch = MismatchWatch(options.mismatch, say)
        # Offline trajectories were drawn from another distribution; supervised learning is at temperature 1.
        self.temperature = components.sampling().temperature if options.trajectories == "policy" else 1.0
        # Without a critic there is nothing that warms up.
        self.warmup = options.critic.warmup_steps if "values" in stage_needs(options) else 0

    def kl(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """KL of the policy to its reference at the tokens of every turn."""
        return self.policy.kl(turns, temperature=self.temperature, load=self.load, features=self.features)

    def values(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """The critic's values at the tokens of every turn."""
        return self.policy.values(turns, load=self.load, features=self.features)

    def update(self, train_batch: TrainBatch, step: int) -> dict[str, float]:
        """The updates of a step. Metrics are means over them.

        Raises:
            MismatchError: engine and trainer disagree, and the stage stops there.
            DivergedError: a gradient is not finite.
        """
        if not train_batch.has_trained_tokens:
            return dict(train_batch.metrics)  # nothing to learn from in this step; groups/used says so
        # For objectives that draw, and for dropout: a resumed step has to draw the same.
        torch.manual_seed(derive_seed(self.seed, self.options.name, "update", step))
        self.watch.begin(train_batch.rows, step)
        several = self.options.mini_batches * self.options.ppo_epochs > 1
        if several:
            train_batch = self._as_it_was(train_batch, step)
            found = [self._learn(part, step, None) for part in self._parts(train_batch, step)]
        else:
            found = [self._learn(train_batch, step, self.watch)]
        metrics = train_batch.metrics | _means(found)
        if step <= self.warmup:
            return metrics
        if several:
            metrics["policy/updates"] = float(len(found))
        self._steer(metrics, len(train_batch.rows.trajectories))
        return metrics | self.watch.metrics()

    def _as_it_was(self, train_batch: TrainBatch, step: int) -> TrainBatch:
        """The lesson with the policy's log-probs before its first update, which the watch over the mismatch is told.

        Where trajectories are of no policy that is watched, and the objective has no ratio, nobody asks for them.
        """
        unasked = self.options.trajectories == "offline" and not isinstance(self.options.objective, RatioOptions)
        if unasked or step <= self.warmup:
            return train_batch
        rows = train_batch.rows
        before = self.policy.logprobs(rows.turns, temperature=self.temperature, load=self.load, features=self.features)
        turn_T = torch.repeat_interleave(torch.arange(len(rows.turns)), torch.tensor([len(each) for each in before]))
        self.watch(turn_T, torch.cat(before), engine_logprobs(rows.turns), rows.learnt)
        return replace(train_batch, rollout_logprobs=before)

    def _parts(self, train_batch: TrainBatch, step: int) -> Iterator[TrainBatch]:
        """What is learnt from in each update: all groups once per epoch, in as many parts as there are mini-batches."""
        options, groups = self.options, len(train_batch.rows.groups)
        for epoch in range(options.ppo_epochs):
            rng = np.random.default_rng(derive_seed(self.seed, options.name, "parts", step, epoch))
            for numbers in np.array_split(rng.permutation(groups), min(options.mini_batches, groups)):
                part = train_batch.part(sorted(numbers.tolist()), overlong_filter=options.overlong.filter)
                if part.has_trained_tokens:
                    yield part

    def _learn(self, train_batch: TrainBatch, step: int, observe: Observe | None) -> dict[str, float]:
        """One update of the critic, if there is one, and of the policy, unless the critic warms up."""
        metrics: dict[str, float] = {}
        rows = train_batch.rows
        if train_batch.values is not None and train_batch.returns is not None:
            metrics |= self.policy.update_critic(
                rows.turns,
                train_batch.values,
                train_batch.returns,
                step=step,
                load=self.load,
                features=self.features,
                trajectory_N=rows.owner,
            )
        if step <= self.warmup:
            return metrics
        return metrics | self.policy.update(
            rows.turns,
            train_batch.advantages,
            self.objective,
            step=step,
            temperature=self.temperature,
            load=self.load,
            features=self.features,
            group_N=rows.group[rows.owner],
            offline_N=rows.offline[rows.owner] if self.options.trajectories == "policy" else None,
            trajectory_N=rows.owner,
            step_pairs=train_batch.pairs,
            kl_coef=self.policy.kl_weight.coefficient,
            rollout_logprobs=train_batch.rollout_logprobs,
            observe=observe,
        )

    def _steer(self, metrics: dict[str, float], sequences: int) -> None:
        """The next weight of an adaptive KL."""
        weight = self.policy.kl_weight
        if not weight.adaptive:
            return
        metrics["policy/kl_coef"] = weight.coefficient
        self.policy.kl_weight = next_weight(weight, metrics["policy/kl"], sequences)


def _means(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over the updates that have it."""
    names = dict.fromkeys(name for metrics in found for name in metrics)
    columns = {name: [metrics[name] for metrics in found if name in metrics] for name in names}
    return {name: sum(column) / len(column) for name, column in columns.items()}
