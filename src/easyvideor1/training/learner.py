"""One step of training: updates of critic and policy, and the next weight of the KL.

A step trains on one rollout. It makes one update, or several: of parts of the rollout, or of all of it again (Schulman
et al. 2017, PPO, algorithm 1). Ratios are then against the policy as it was before the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from easyvideor1.algorithms.kl import next_weight
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.config.algorithms import RatioOptions
from easyvideor1.packing.micro_batch import engine_logprobs
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import Observations, UpdateBatch, update_metrics
from easyvideor1.rollout.samples import StageMedia
from easyvideor1.seeds import derive_seed
from easyvideor1.training.mismatch import MismatchWatch
from easyvideor1.training.train_batch import TrainBatch
from easyvideor1.types import Turn


class Learner:
    """The updates of a stage.

    Args:
        options: of the stage.
        config: of the run.
        components: load frames.
        policy: that is trained.
        media: of the stage.
        say: takes warnings.
        first: steps of the run before the stage: step ``s`` trains the weights of version ``first + s - 1``.
    """

    def __init__(
        self,
        options: StageConfig,
        config: RunConfig,
        components: Components,
        policy: Policy,
        media: StageMedia,
        say: Callable[[str], None],
        first: int = 0,
    ) -> None:
        self.options = options
        self.policy = policy
        self.load = components.load
        self.features = media.features
        self.seed = config.seed
        self.watch = MismatchWatch(options.mismatch, say)
        # Without staleness all tokens are of the weights that are trained.
        self.stale = config.rollout.max_staleness > 0 and options.trajectories == "policy"
        self.first = first
        # Offline trajectories were drawn from another distribution; supervised learning is at temperature 1.
        self.temperature = components.sampling().temperature if options.trajectories == "policy" else 1.0
        # Without a critic there is nothing that warms up.
        self.warmup = options.critic.warmup_steps if "values" in stage_needs(options) else 0

    def kl(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """KL of the policy to its reference at the tokens of every turn."""
        found = self.policy.kl(turns, temperature=self.temperature, load=self.load, features=self.features)
        return list(found.values())

    def values(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """The critic's values at the tokens of every turn."""
        return list(self.policy.values(turns, load=self.load, features=self.features).values())

    def update(self, train_batch: TrainBatch, step: int) -> dict[str, float]:
        """The updates of a step. Metrics are means over them.

        Raises:
            MismatchError: engine and trainer disagree, and the stage stops there.
            DivergedError: a gradient is not finite.
        """
        if not train_batch.has_trained_tokens:
            return dict(train_batch.metrics)  # groups/used says that nothing is trained on
        # For objectives that draw, and for dropout: a resumed step must draw the same.
        torch.manual_seed(derive_seed(self.seed, self.options.name, "update", step))
        self.watch.begin(train_batch.rows, step, self.first + step - 1 if self.stale else None)
        several = self.options.mini_batches * self.options.ppo_epochs > 1
        if several:
            train_batch = self._with_rollout_logprobs(train_batch, step)
            found = [self._update(part, step) for part in self._parts(train_batch, step)]
        else:
            found = [self._update(train_batch, step, self.watch)]
        metrics = train_batch.metrics | _means(found)
        if step <= self.warmup:
            return metrics
        if several:
            metrics["policy/updates"] = float(len(found))
        self._steer(metrics, len(train_batch.rows.trajectories))
        if self.stale:  # the watch measures it without tokens of older weights
            metrics.pop("mismatch/logprob_abs", None)
        return metrics | self.watch.metrics()

    def _with_rollout_logprobs(self, train_batch: TrainBatch, step: int) -> TrainBatch:
        """The batch with the policy's log-probs before its first update, which the mismatch is measured with, too.

        They are not computed where nothing reads them: trajectories that were written before, under an objective
        without a ratio.
        """
        unread = self.options.trajectories != "policy" and not isinstance(self.options.objective, RatioOptions)
        if unread or step <= self.warmup:
            return train_batch
        rows = train_batch.rows
        found = self.policy.logprobs(rows.turns, temperature=self.temperature, load=self.load, features=self.features)
        before = list(found.values())
        turn_T = torch.repeat_interleave(torch.arange(len(rows.turns)), torch.tensor([len(each) for each in before]))
        self.watch.look(Observations(turn_T, torch.cat(before), engine_logprobs(rows.turns), rows.trained))
        return replace(train_batch, rollout_logprobs=before)

    def _parts(self, train_batch: TrainBatch, step: int) -> Iterator[TrainBatch]:
        """The parts of a batch that the updates train on: all groups once per epoch, in ``mini_batches`` parts."""
        options, groups = self.options, len(train_batch.rows.groups)
        for epoch in range(options.ppo_epochs):
            rng = np.random.default_rng(derive_seed(self.seed, options.name, "parts", step, epoch))
            for numbers in np.array_split(rng.permutation(groups), min(options.mini_batches, groups)):
                part = train_batch.part(sorted(numbers.tolist()), overlong_filter=options.overlong.filter)
                if part.has_trained_tokens:
                    yield part

    def _update(self, train_batch: TrainBatch, step: int, watch: MismatchWatch | None = None) -> dict[str, float]:
        """One update of the critic, if there is one, and of the policy, unless the critic warms up.

        Raises:
            MismatchError: engine and trainer disagree, and the stage stops there; the policy has not moved.
        """
        metrics: dict[str, float] = {}
        policy, update = self.policy, self._update_batch(train_batch)
        if policy.critic is not None:
            metrics |= policy.critic_forward_backward(update, load=self.load, features=self.features)
            metrics |= policy.critic_step(step)
        if step <= self.warmup:
            return metrics
        found = policy.forward_backward(update, load=self.load, features=self.features)
        if watch is not None:
            watch.look(found.observations)
        return metrics | update_metrics(found.sums) | policy.optimizer_step(step)

    def _update_batch(self, train_batch: TrainBatch) -> UpdateBatch:
        rows = train_batch.rows
        return UpdateBatch.of(
            rows.turns,
            train_batch.advantages,
            self.options,
            trajectory=rows.owner,
            temperature=self.temperature,
            group=rows.group[rows.owner],
            offline=rows.offline[rows.owner] if self.options.trajectories == "policy" else None,
            pairs=train_batch.pairs,
            kl_coef=self.policy.kl_weight.coefficient,
            rollout_logprobs=train_batch.rollout_logprobs,
            values=train_batch.values,
            returns=train_batch.returns,
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
