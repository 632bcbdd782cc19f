"""How the groups of a stage come to be, and are scored."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data.visual import VISUAL_MISMATCH
from easyvideor1.engines.engine import Engine, OnAnswer
from easyvideor1.packing.features import FeatureCache
from easyvideor1.policy.policy import Policy, chosen_device
from easyvideor1.rewards.comparisons import Comparisons
from easyvideor1.rollout.groups import response_rewards, score_groups
from easyvideor1.rollout.hybrid import Hybrid
from easyvideor1.rollout.requests import generate_online, greedy_responses, read_offline, ready_prompts
from easyvideor1.types import ConfigError, Group, MediaError, MediaPlan, MediaRef, Sample, Trajectory

#: Metric: tokens of responses that were generated and gave way to offline ones, so that no group holds them.
REPLACED_TOKENS = "hybrid/replaced_tokens"


@dataclass(frozen=True, slots=True)
class MediaReader:
    """How the media of a stage are read; ``features``, where they are kept, stand for frames."""

    stage: str
    components: Components
    features: FeatureCache | None
    #: Files of the step under way whose frames do not give one feature for each visual token.
    mismatches: list[str] = field(default_factory=list)

    def reads_frames(self, plan: MediaPlan) -> bool:
        """Whether the frames of a plan are needed at all."""
        return self.features is None or not self.features.has(plan)

    def check(self, ref: MediaRef, plan: MediaPlan) -> None:
        """Raises ``MediaError`` when a medium that is needed cannot be read."""
        if self.reads_frames(plan):
            self.components.load(ref, plan)

    def failed(self, error: MediaError) -> None:
        """Note what costs a sample its place in a step."""
        if error.reason == VISUAL_MISMATCH:
            self.mismatches.append(error.path)
        self.components.ledger.record(error.path, error.reason, str(error), f"left out of a step of stage {self.stage}")


class RolloutCollector:
    """Groups of a stage: the policy's, the rows' offline trajectories, or both.

    Args:
        options: of the stage.
        config: of the run.
        bench: renders prompts and scores.
        policy: whose family tokenises offline trajectories.
        engine: generates.
        media: of the stage.
    """

    def __init__(
        self,
        options: StageConfig,
        config: RunConfig,
        components: Components,
        policy: Policy,
        engine: Engine,
        media: MediaReader,
    ) -> None:
        self.options = options
        self.components = components
        self.policy = policy
        self.engine = engine
        self.media = media
        self.seed = config.seed
        self.limit = config.rollout.max_new_tokens
        self.hybrid = Hybrid.of(options, policy.family, self.limit, config.seed)
        self._counts: dict[str, float] = {}
        self._begun: Comparisons | None = None
        self._overlap = _overlaps(config, engine)

    def generate(self, samples: list[Sample], step: int, round_: int) -> list[Group]:
        """The groups of one round, not scored."""
        prompts = ready_prompts(samples, self.components.render, self.media.check, self.media.failed)
        if self.options.trajectories == "offline":
            return read_offline(samples, prompts, family=self.policy.family, max_tokens=self.limit)
        offline = None
        if self.hybrid is not None and self.hybrid.options.policy != "below":
            placed = self.hybrid.place(samples, prompts, step, round_)
            offline = placed.chosen
            self._count(placed.metrics)
        with self._scoring_ahead(samples) as on_answer:
            return generate_online(
                samples,
                prompts,
                engine=self.engine,
                sampling=self.components.sampling(),
                group_size=self.options.group_size,
                seed=(self.seed, self.options.name, step, *(("round", round_) if round_ else ())),
                offline=offline,
                on_answer=on_answer,
            )

    @contextmanager
    def _scoring_ahead(self, samples: Sequence[Sample]) -> Iterator[OnAnswer | None]:
        """What begins the comparisons of responses as they come in; ``score`` takes up what has begun."""
        if not self._overlap:
            yield None
            return
        self._begun = begun = self.components.scorer.comparisons()

        def on_answer(position: int, answers: tuple[Trajectory, ...]) -> None:
            begun.begin(position, samples[position], [one.completion for one in answers])

        try:
            yield on_answer
        except BaseException:
            begun.cancel()
            raise

    def score(self, groups: list[Group], step: int, round_: int) -> list[Group]:
        """The groups with their scores; under ``hybrid.policy: below`` those that fail are changed and scored anew."""
        begun, self._begun = self._begun, None
        scorer = self.components.scorer.score_groups
        scored = score_groups(groups, scorer if begun is None else partial(scorer, begun=begun))
        if self.hybrid is None or self.hybrid.options.policy != "below":
            return scored
        changed, placed = self.hybrid.replace_failing(scored, step, round_)
        self._count(placed.metrics | {REPLACED_TOKENS: float(_replaced_tokens(scored, changed))})
        again = iter(
            score_groups([g for g in changed if not g.scores and g.trajectories], self.components.scorer.score_groups)
        )
        return [next(again) if not group.scores and group.trajectories else group for group in changed]

    def greedy_rewards(self, groups: Sequence[Group]) -> list[float]:
        """The reward of the greedy response to every group's sample; where it is not applicable, the group's mean.

        Both lose to length what the responses that they are compared with lose to it.
        """
        found = []
        answers = greedy_responses(groups, engine=self.engine, sampling=self.components.sampling())
        for group, answer in zip(groups, answers, strict=True):
            (score,) = self.components.scorer.score_group(group.sample, [answer.completion])
            alone = replace(group, trajectories=(answer,), scores=(score,))
            rewards = response_rewards(alone if score.applicable else group, self.options, self.limit)
            found.append(sum(rewards) / len(rewards))
        return found

    def counts(self) -> dict[str, float]:
        """What was counted since the last call."""
        counts, self._counts = self._counts, {}
        return counts

    def _count(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            share = name == "hybrid/share"  # the same in all rounds
            self._counts[name] = value if share else self._counts.get(name, 0.0) + value


def _overlaps(config: RunConfig, engine: Engine) -> bool:
    """Whether comparisons begin while responses are still generated.

    Raises:
        ConfigError: they are to, and the engine does not tell of responses as they come in.
    """
    listens = "on_answer" in inspect.signature(engine.generate).parameters
    if config.rewards.overlap and not listens:
        raise ConfigError(
            f"rewards.overlap: the engine {config.rollout.engine!r} has no on_answer in generate(requests, on_answer), "
            "which tells of responses as they come in; add it, or set rewards.overlap to false"
        )
    if config.rewards.overlap is None:
        return listens and chosen_device(config.model).type != "cpu"
    return config.rewards.overlap


def _replaced_tokens(before: Sequence[Group], after: Sequence[Group]) -> int:
    """Tokens of the trajectories that are no longer in their groups."""
    kept = {id(trajectory) for group in after for trajectory in group.trajectories}
    gone = [trajectory for group in before for trajectory in group.trajectories if id(trajectory) not in kept]
    return sum(trajectory.response_tokens for trajectory in gone)
