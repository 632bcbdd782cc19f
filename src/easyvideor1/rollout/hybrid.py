"""Offline trajectories in the policy's groups: which groups get them, which trajectories, and what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from easyvideor1.config import StageConfig
from easyvideor1.config.stage_sections import HybridConfig
from easyvideor1.families.family import Family
from easyvideor1.rollout.requests import offline_turn
from easyvideor1.seeds import derive_seed
from easyvideor1.types import DataError, Group, Prompt, Sample, Trajectory


@dataclass(frozen=True, slots=True)
class Placement:
    """The offline trajectories of one round: ``chosen[i]`` stand in the group of sample ``i``; the metrics count."""

    chosen: list[tuple[Trajectory, ...]]
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The rules of a stage. Everything random follows from the seed, the step and the sample, so that nothing is kept.

    A trajectory is used as it is if it fits. Its rules, none of which stops a run:

    - Without a stop token at its end it is given one, whose log-prob is unknown unless it came with it.
    - Longer than ``max_new_tokens``: left out, or cut there if ``too_long`` says so.
    - With visual or stop tokens inside, or empty: left out; the model could never have written it.
    - With log-probs of another tokenization: used without them.

    A group whose sample has nothing that can be used stays on-policy.
    """

    options: HybridConfig
    family: Family
    max_new_tokens: int
    steps: int
    seed: tuple[int | str, ...]

    @classmethod
    def of(cls, stage: StageConfig, family: Family, max_new_tokens: int, seed: int) -> Hybrid | None:
        """The rules of a stage, if it mixes."""
        if stage.hybrid is None:
            return None
        return cls(stage.hybrid, family, max_new_tokens, stage.step_count, (seed, stage.name, "hybrid"))

    def place(
        self, samples: Sequence[Sample], prompts: Sequence[Prompt | None], step: int, round_: int = 0
    ) -> Placement:
        """What stands in the groups of a round that is about to be generated."""
        usable, unusable = self._usable(samples, prompts, step, round_)
        candidates = [index for index, found in enumerate(usable) if found]
        share = self.share(step)
        if share < 1:
            rng = np.random.default_rng(derive_seed(*self.seed, "groups", step, round_))
            # Rounded up or down by chance, so that small steps have the share on average.
            count = min(int(share * len(candidates) + rng.random()), len(candidates))
            candidates = sorted(rng.permutation(candidates)[:count].tolist())
        took = set(candidates)
        chosen = [found if index in took else () for index, found in enumerate(usable)]
        return Placement(chosen, _counts(usable, chosen, unusable) | {"hybrid/share": share})

    def replace_failing(self, groups: Sequence[Group], step: int, round_: int = 0) -> tuple[list[Group], Placement]:
        """Scored groups in which those that fail have offline trajectories in the last places, without their scores.

        A group fails if its judged responses have a mean accuracy below ``threshold``; one that nobody could judge does
        not.
        """
        prompts = [group.trajectories[0].prompt if group.trajectories else None for group in groups]
        usable, unusable = self._usable([group.sample for group in groups], prompts, step, round_)
        chosen: list[tuple[Trajectory, ...]] = []
        changed = []
        for group, found in zip(groups, usable, strict=True):
            judged = [score.accuracy for score in group.scores if score.applicable]
            failing = bool(judged) and sum(judged) / len(judged) < self.options.threshold
            chosen.append(found if failing else ())
            if chosen[-1]:
                kept = group.trajectories[: len(group.trajectories) - len(found)]
                group = replace(group, trajectories=(*kept, *found), scores=())
            changed.append(group)
        return changed, Placement(chosen, _counts(usable, chosen, unusable))

    def share(self, step: int) -> float:
        """The part of the groups with something to use that get it in ``step``."""
        options = self.options
        if options.policy == "fraction":
            return options.fraction
        if options.policy == "schedule":
            last = options.fraction_steps or self.steps
            done = min((step - 1) / max(last - 1, 1), 1.0)
            return options.fraction + done * (options.fraction_end - options.fraction)
        return 1.0

    def _usable(
        self, samples: Sequence[Sample], prompts: Sequence[Prompt | None], step: int, round_: int
    ) -> tuple[list[tuple[Trajectory, ...]], int]:
        """Per sample up to ``responses`` trajectories, others of several in each step; how many cannot be used."""
        usable, unusable = [], 0
        for index, (sample, prompt) in enumerate(zip(samples, prompts, strict=True)):
            found: list[Trajectory] = []
            rng = np.random.default_rng(derive_seed(*self.seed, step, round_, index, sample.id))
            for number in rng.permutation(len(sample.offline)).tolist() if prompt is not None else ():
                assert prompt is not None
                if len(found) == self.options.responses:
                    break
                try:
                    turn = offline_turn(
                        self.family,
                        prompt,
                        sample.offline[number],
                        self.max_new_tokens,
                        cut=self.options.too_long == "cut",
                        strict=False,
                    )
                except DataError:
                    unusable += 1
                else:
                    found.append(Trajectory((turn,), "offline"))
            usable.append(tuple(found))
        return usable, unusable


def _counts(
    usable: Sequence[tuple[Trajectory, ...]], chosen: Sequence[tuple[Trajectory, ...]], unusable: int
) -> dict[str, float]:
    placed = [trajectory for found in chosen for trajectory in found]
    unknown = sum(not trajectory.has_logprobs for trajectory in placed)
    return {
        "hybrid/candidates": float(sum(bool(found) for found in usable)),
        "hybrid/groups": float(sum(bool(found) for found in chosen)),
        "hybrid/responses": float(len(placed)),
        "hybrid/without_logprobs": float(unknown),
        "hybrid/unusable": float(unusable),
    }
