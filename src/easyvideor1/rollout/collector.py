"""Collecting: the scored groups of a step, and those of them that are trained on.

``StepCollector`` is the synchronous collector: it generates the groups of a step when the step asks for them, under the
weights of that moment, and returns when all are scored. ``AheadCollector`` (``rollout/ahead.py``) generates those of
later steps while the policy is updated. What both draw is the same, because samples are a function of the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from easyvideor1.algorithms.selection import needs_more
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.config import StageConfig
from easyvideor1.engines.engine import Engine, Sampling
from easyvideor1.families.family import Family
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.concurrency import EarlyScoring
from easyvideor1.rollout.groups import attach_scores, response_rewards, selector
from easyvideor1.rollout.hybrid import Hybrid
from easyvideor1.rollout.requests import OnGroup, generate_online, read_offline, ready_prompts
from easyvideor1.rollout.samples import DrawSamples, StageMedia
from easyvideor1.rollout.stored import StoredGroups
from easyvideor1.rollout.strategies import Strategy, turn_counts
from easyvideor1.types import Group, MediaError, Prompt, Sample, Trajectory

#: Metric: tokens of responses that were generated and gave way to offline ones, so that no group holds them.
REPLACED_TOKENS = "hybrid/replaced_tokens"

#: Measures a named phase of a step: ``with timings("rollout"): ...``.
Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Collected:
    """The groups of a step: all of them, scored; those that are trained on; and the metrics of collecting."""

    groups: list[Group]
    used: list[Group]
    metrics: dict[str, float]


class Collector(Protocol):
    """Where the groups of a step come from."""

    #: Whether requests of later steps are pending when ``collect`` returns: the engine must not sleep then.
    runs_ahead: bool

    def collect(self, step: int, timings: Timed) -> Collected:
        """The groups of 1-based ``step``; ``timings`` measures the phases ``sample``, ``rollout`` and ``score``."""
        ...

    def updating(self, timings: Timed) -> AbstractContextManager[None]:
        """Around an update of the engine's weights: what was pending before is finished, goes on or is drawn again."""
        ...

    def settle(self) -> None:
        """Wait until nothing is scored in the background, as before an evaluation, which uses the same rewards."""
        ...

    def close(self) -> None:
        """The stage is over, or was left: nothing more begins to be scored."""
        ...


class StepCollector:
    """Generates in up to ``generation_rounds`` rounds until ``prompts_per_step`` groups can be trained on (DAPO, Yu et
    al. 2025, sec. 3.2); cuts a surplus.

    Groups hold the policy's responses, the rows' offline trajectories, or both. A stage that needs greedy baselines
    asks for the greedy response to a sample in the same submission as for its group (``Group.baseline``).

    Args:
        options: of the stage.
        sampling: how responses are drawn.
        seed: of the run.
        family: tokenises offline trajectories.
        engine: generates.
        draw: gives the samples of a round.
        strategy: makes the prompts of a sample, turn by turn.
        media: of the stage.
        scorer: scores whole groups.
        overlap: whether scores that wait for a process begin as soon as the responses of their group are there.
        stored: makes the groups of a stage of earlier rollouts, which have their scores.
    """

    runs_ahead = False

    def __init__(
        self,
        options: StageConfig,
        sampling: Sampling,
        seed: int,
        *,
        family: Family,
        engine: Engine,
        draw: DrawSamples,
        strategy: Strategy,
        media: StageMedia,
        scorer: Scorer,
        overlap: bool,
        stored: StoredGroups | None = None,
    ) -> None:
        self.options = options
        self.sampling = sampling
        self.seed = seed
        self.family = family
        self.engine = engine
        self.draw = draw
        self.strategy = strategy
        self.media = media
        self.scorer = scorer
        self.overlap = overlap
        self.stored = stored
        self.select = selector(options, sampling.max_new_tokens)
        self.hybrid = Hybrid.of(options, family, sampling.max_new_tokens, seed)
        self.baselines = "greedy" in stage_needs(options)

    def collect(self, step: int, timings: Timed) -> Collected:
        """See ``Collector``."""
        options, groups, used = self.options, list[Group](), list[Group]()
        counts: dict[str, float] = defaultdict(float)
        rounds = 0
        while rounds == 0 or needs_more(
            len(used), options.prompts_per_step, rounds, options.selection.generation_rounds
        ):
            made = self._round(step, rounds, timings, counts)
            groups += made
            used += self.select(made)
            rounds += 1
        counts["groups/visual_mismatch"] = self._mismatches()
        return self._collected(groups, used, rounds, counts)

    @contextmanager
    def updating(self, timings: Timed) -> Iterator[None]:
        """Nothing is pending while weights are updated."""
        yield

    def settle(self) -> None:
        """Nothing is scored in the background."""

    def close(self) -> None:
        """Nothing is scored in the background."""

    def _collected(self, groups: list[Group], used: list[Group], rounds: int, counts: dict[str, float]) -> Collected:
        """What a step gets: a surplus of groups that could be trained on is cut."""
        surplus = max(len(used) - self.options.prompts_per_step, 0)
        metrics = {"groups/rounds": float(rounds), "groups/surplus": float(surplus), **counts}
        metrics |= _turn_metrics(self.strategy, groups)
        return Collected(groups, used[: self.options.prompts_per_step], metrics)

    def _mismatches(self) -> float:
        """How many files were found, since this was asked last, whose frames are not those of their visual tokens."""
        count = len(self.media.mismatches)
        self.media.mismatches.clear()
        return float(count)

    def _round(self, step: int, round_: int, timings: Timed, counts: dict[str, float]) -> list[Group]:
        """The scored groups of one round."""
        with timings("sample"):
            samples = self.draw(step, round_)
        if self.stored is not None:
            with timings("rollout"):
                return self.stored.groups(samples, self._prompts(samples))
        with timings("rollout"):
            prompts = self._prompts(samples)
            if self.options.trajectories == "offline":
                limit = self.sampling.max_new_tokens
                groups = read_offline(samples, prompts, family=self.family, max_tokens=limit, strategy=self.strategy)
                begun = None
                baselines: list[Group] = []
            else:
                placed = self._placed(samples, prompts, step, round_, counts)
                with self._scoring_ahead(samples, placed) as (on_group, begun):
                    groups, baselines = generate_online(
                        samples,
                        prompts,
                        engine=self.engine,
                        strategy=self.strategy,
                        sampling=self.sampling,
                        group_size=self.options.group_size,
                        seed=self._seeds(step, round_),
                        on_failure=self.media.failed,
                        offline=placed,
                        baselines=self.baselines,
                        on_group=on_group,
                    )
        with timings("score"):
            scored = self._scored(groups, baselines, begun)
            return self._hybrid_below(scored, step, round_, counts)

    def _prompts(self, samples: Sequence[Sample]) -> list[Prompt | None]:
        return ready_prompts(samples, self.strategy.start, self.media.check, self.media.failed)

    def _seeds(self, step: int, round_: int) -> tuple[int | str, ...]:
        """What the seeds of a round's responses are derived from."""
        return (self.seed, self.options.name, step, *(("round", round_) if round_ else ()))

    def _placed(
        self,
        samples: Sequence[Sample],
        prompts: Sequence[Prompt | None],
        step: int,
        round_: int,
        counts: dict[str, float],
    ) -> list[tuple[Trajectory, ...]] | None:
        """The offline trajectories that stand in the groups of a round before it is generated."""
        if self.hybrid is None or self.hybrid.options.policy == "below":
            return None
        placement = self.hybrid.place(samples, prompts, step, round_)
        _add(counts, placement.metrics)
        return placement.chosen

    @contextmanager
    def _scoring_ahead(
        self, samples: Sequence[Sample], placed: Sequence[tuple[Trajectory, ...]] | None
    ) -> Iterator[tuple[OnGroup | None, EarlyScoring | None]]:
        """What begins to score groups as they come, and what has begun. Those that are ``placed`` belong to them."""
        if not self.overlap:
            yield None, None
            return
        begun = self.scorer.comparisons()

        def on_group(position: int, responses: tuple[Trajectory, ...]) -> None:
            whole = (*responses, *(placed[position] if placed and position < len(samples) else ()))
            begun.begin(position, samples[position % len(samples)], [one.completion for one in whole])

        try:
            yield on_group, begun
        except BaseException:
            begun.cancel()
            raise

    def _scored(self, groups: list[Group], baselines: list[Group], begun: EarlyScoring | None) -> list[Group]:
        """The groups with their scores and, if there are ``baselines``, the rewards of these: one for each group."""
        scorer = self.scorer.score_groups
        scored = attach_scores([*groups, *baselines], scorer if begun is None else partial(scorer, begun=begun))
        return self._with_baselines(scored[: len(groups)], scored[len(groups) :])

    def _with_baselines(self, groups: list[Group], greedy: list[Group]) -> list[Group]:
        """The groups with the rewards of their greedy responses, if there are any: one for each group."""
        if not greedy:
            return groups
        return [replace(group, baseline=self._baseline(one)) for group, one in zip(groups, greedy, strict=True)]

    def _baseline(self, greedy: Group) -> float | None:
        """The reward of a greedy response, which loses to length what the responses of its group lose to it."""
        if not any(score.applicable for score in greedy.scores):
            return None
        (reward,) = response_rewards(greedy, self.options, self.sampling.max_new_tokens)
        return reward

    def _hybrid_below(self, scored: list[Group], step: int, round_: int, counts: dict[str, float]) -> list[Group]:
        """Under ``hybrid.policy: below`` groups that fail are changed and scored again."""
        hybrid = self.hybrid
        if hybrid is None or hybrid.options.policy != "below":
            return scored
        changed, placed = hybrid.replace_failing(scored, step, round_)
        _add(counts, placed.metrics | {REPLACED_TOKENS: float(_replaced_tokens(scored, changed))})
        unscored = [group for group in changed if not group.scores and group.trajectories]
        again = iter(self._score_again(unscored))
        return [next(again) if not group.scores and group.trajectories else group for group in changed]

    def _score_again(self, groups: list[Group]) -> list[Group]:
        """The scores of groups that were changed."""
        return attach_scores(groups, self.scorer.score_groups)


def _turn_metrics(strategy: Strategy, groups: Sequence[Group]) -> dict[str, float]:
    """Sums of what a strategy counts in the policy's trajectories."""
    found: dict[str, float] = {}
    for group in groups:
        for trajectory in group.trajectories:
            if trajectory.origin == "online":
                with suppress(MediaError):  # a file that has gone since is found, and recorded, by the next step
                    for name, value in turn_counts(strategy, group.sample, trajectory).items():
                        found[f"turns/{name}"] = found.get(f"turns/{name}", 0.0) + value
    return found


def _add(counts: dict[str, float], metrics: dict[str, float]) -> None:
    """Add up over rounds, but for the share, which is the same in all of them."""
    for name, value in metrics.items():
        counts[name] = value if name == "hybrid/share" else counts[name] + value


def _replaced_tokens(before: Sequence[Group], after: Sequence[Group]) -> int:
    """Tokens of the trajectories that are no longer in their groups."""
    kept = {id(trajectory) for group in after for trajectory in group.trajectories}
    gone = [trajectory for group in before for trajectory in group.trajectories if id(trajectory) not in kept]
    return sum(trajectory.response_tokens for trajectory in gone)
