"""One step of learning from a lesson: critic, policy, and the weight of the KL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from easyvideor1.algorithms.assembly import stage_needs
from easyvideor1.algorithms.kl import next_weight
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.models.policy import Policy
from easyvideor1.seeds import derive_seed
from easyvideor1.training.lesson import Lesson
from easyvideor1.training.mismatch import MismatchWatch
from easyvideor1.training.responses import StageMedia
from easyvideor1.types import Turn
from easyvideor1.workbench import Workbench


class Learning:
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
        bench: Workbench,
        policy: Policy,
        media: StageMedia,
        say: Callable[[str], None],
    ) -> None:
        self.options = options
        self.policy = policy
        self.load = bench.load
        self.features = media.features
        self.seed = config.seed
        self.objective = OBJECTIVES.resolve(options.objective)
        self.watch = MismatchWatch(options.mismatch, say)
        # Offline trajectories were drawn from another distribution; supervised learning is at temperature 1.
        self.temperature = bench.sampling().temperature if options.trajectories == "policy" else 1.0
        # Without a critic there is nothing that warms up.
        self.warmup = options.critic.warmup_steps if "values" in stage_needs(options) else 0

    def kl(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """KL of the policy to its reference at the tokens of every turn."""
        return self.policy.kl(turns, temperature=self.temperature, load=self.load, features=self.features)

    def values(self, turns: Sequence[Turn]) -> list[torch.Tensor]:
        """The critic's values at the tokens of every turn."""
        return self.policy.values(turns, load=self.load, features=self.features)

    def update(self, lesson: Lesson, step: int) -> dict[str, float]:
        """One optimiser step of the critic, if there is one, and of the policy, unless the critic warms up.

        Raises:
            MismatchError: engine and trainer disagree, and the stage stops there.
            DivergedError: a gradient is not finite.
        """
        metrics = dict(lesson.metrics)
        if not lesson.teaches:
            return metrics  # nothing to learn from in this step; groups/used says so
        rows = lesson.rows
        # For objectives that draw, and for dropout: a resumed step has to draw the same.
        torch.manual_seed(derive_seed(self.seed, self.options.name, "update", step))
        if lesson.values is not None and lesson.returns is not None:
            metrics |= self.policy.update_critic(
                rows.turns,
                lesson.values,
                lesson.returns,
                step=step,
                load=self.load,
                features=self.features,
                trajectory_N=rows.owner,
            )
        if step <= self.warmup:
            return metrics
        self.watch.begin(rows, step)
        weight = self.policy.kl_weight
        metrics |= self.policy.update(
            rows.turns,
            lesson.advantages,
            self.objective,
            step=step,
            temperature=self.temperature,
            load=self.load,
            features=self.features,
            group_N=rows.group[rows.owner],
            offline_N=rows.offline[rows.owner] if self.options.trajectories == "policy" else None,
            trajectory_N=rows.owner,
            step_pairs=lesson.pairs,
            kl_coef=weight.coefficient,
            observe=self.watch,
        )
        if weight.adaptive:
            metrics["policy/kl_coef"] = weight.coefficient
            self.policy.kl_weight = next_weight(weight, metrics["policy/kl"], len(rows.trajectories))
        return metrics | self.watch.metrics()
