"""Curricula: what transforms may know of the rewards of earlier steps.

A curriculum observes the scored groups of every step, in order, and is only read by transforms. Its state is in every
checkpoint. The samples of step ``s`` are made from a curriculum that has observed the steps up to
``s - 1 - rollout.max_staleness``, no matter when they are drawn: so a resumed run gets the samples of an uninterrupted
one, also where they are drawn ahead of training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from easyvideor1.config.transforms import CurriculumOptions, PassRateHistory, RewardHistory
from easyvideor1.options import own_options
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, Group


@dataclass(frozen=True, slots=True)
class Observation:
    """The policy's own scored responses to one sample in one step: total rewards and texts, one of each."""

    sample_id: str
    rewards: tuple[float, ...]
    responses: tuple[str, ...] = ()


class Curriculum(Protocol):
    """The state of a curriculum: a function of its options and of what it has observed, in this order."""

    def observe(self, step: int, observation: Observation) -> None:
        """Take up a sample of a step, counted from 1. Steps ascend; samples come in the order of the step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The whole state as JSON: a curriculum that loads it does as this one would do."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""
        ...


#: A class or function ``options -> Curriculum``.
MakeCurriculum = Callable[[Any], Curriculum]

CURRICULA: Registry[MakeCurriculum] = Registry("curriculum")


@CURRICULA.register("reward_history")
class RewardHistoryCurriculum:
    """The mean reward of each sample when it was last seen, and of all samples over the last ``window`` steps.

    Their difference is the difficulty of DeepVideo-R1 (Park et al. 2025): positive for a sample that is harder than
    what the policy meets at the moment.
    """

    def __init__(self, options: RewardHistory) -> None:
        self.options = options
        self._means: dict[str, float] = {}
        self._steps: dict[int, tuple[float, int]] = {}
        self._best: dict[str, tuple[float, str]] = {}

    def observe(self, step: int, observation: Observation) -> None:
        """See ``Curriculum``."""
        mean = sum(observation.rewards) / len(observation.rewards)
        self._means[observation.sample_id] = mean
        total, count = self._steps.get(step, (0.0, 0))
        self._steps[step] = (total + mean, count + 1)
        for old in [number for number in self._steps if number <= step - self.options.window]:
            del self._steps[old]
        if not self.options.successes or not observation.responses:
            return
        reward, text = max(zip(observation.rewards, observation.responses, strict=True), key=lambda pair: pair[0])
        kept = self._best.get(observation.sample_id)
        if reward >= self.options.success and (kept is None or reward > kept[0]):
            self._best[observation.sample_id] = (reward, text)

    @property
    def reference(self) -> float | None:
        """Mean reward of the samples of the last ``window`` observed steps; ``None`` before the first."""
        count = sum(count for _, count in self._steps.values())
        return sum(total for total, _ in self._steps.values()) / count if count else None

    def mean(self, sample_id: str) -> float | None:
        """Mean reward of a sample when it was last seen; ``None`` if it was not."""
        return self._means.get(sample_id)

    def difficulty(self, sample_id: str) -> float | None:
        """How far the mean reward of a sample lies below the reference; negative above it, ``None`` if unknown."""
        mean, reference = self.mean(sample_id), self.reference
        return None if mean is None or reference is None else reference - mean

    def success(self, sample_id: str) -> str:
        """The response of a sample that was rewarded best; empty if none was kept."""
        return self._best.get(sample_id, (0.0, ""))[1]

    def state_dict(self) -> dict[str, Any]:
        """See ``Curriculum``."""
        steps = [[step, total, count] for step, (total, count) in self._steps.items()]
        return {
            "means": dict(self._means),
            "steps": steps,
            "best": {name: [*kept] for name, kept in self._best.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See ``Curriculum``."""
        self._means = dict(state["means"])
        self._steps = {step: (total, count) for step, total, count in state["steps"]}
        self._best = {name: (reward, text) for name, (reward, text) in state["best"].items()}


@CURRICULA.register("pass_rate")
class PassRateCurriculum:
    """The share of the responses to each sample that passed when it was last seen."""

    def __init__(self, options: PassRateHistory) -> None:
        self.options = options
        self._rates: dict[str, float] = {}

    def observe(self, step: int, observation: Observation) -> None:
        """See ``Curriculum``."""
        passed = sum(reward >= self.options.passing for reward in observation.rewards)
        self._rates[observation.sample_id] = passed / len(observation.rewards)

    def pass_rate(self, sample_id: str) -> float | None:
        """Pass rate of a sample when it was last seen, in [0, 1]; ``None`` if it was not."""
        return self._rates.get(sample_id)

    def state_dict(self) -> dict[str, Any]:
        """See ``Curriculum``."""
        return {"rates": dict(self._rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See ``Curriculum``."""
        self._rates = dict(state["rates"])


def make_curriculum(options: CurriculumOptions, place: str = "curriculum") -> Curriculum:
    """A curriculum that has observed nothing.

    Raises:
        ConfigError: there is none of this name, its options are wrong, or what was made is none.
    """
    make = CURRICULA.resolve(options.name)
    if not callable(make):
        raise ConfigError(f"{place}: {options.name!r} is {type(make).__name__}, not a class of curricula")
    made = make(own_options(make, options, place))
    if missing := [name for name in ("observe", "state_dict", "load_state_dict") if not hasattr(made, name)]:
        raise ConfigError(f"{place}: {options.name!r} makes {type(made).__name__}, which has no {missing[0]}")
    return made


def observations(groups: Sequence[Group]) -> list[Observation]:
    """What a curriculum observes of the scored groups of a step: the policy's own responses that have a score."""
    found = []
    for group in groups:
        own = [
            (score.total, trajectory.text)
            for trajectory, score in zip(group.trajectories, group.scores, strict=False)
            if trajectory.origin == "online" and score.applicable
        ]
        if own:
            rewards, texts = zip(*own, strict=True)
            found.append(Observation(group.sample.id, rewards, texts))
    return found


class CurriculumTrack:
    """The curriculum of a stage as each step may see it.

    Args:
        make: a curriculum that has observed nothing.
        lag: steps that samples are drawn ahead of training (``rollout.max_staleness``).
    """

    def __init__(self, make: Callable[[], Curriculum], lag: int = 0) -> None:
        self._lag = lag
        self._base = make()
        self._waiting: dict[int, list[Observation]] = {}

    def at(self, step: int) -> Curriculum:
        """The curriculum for the samples of a step, counted from 1; the caller only reads it, and at once."""
        due = [number for number in self._waiting if number < step - self._lag]
        if not due:
            return self._base
        found = copy.deepcopy(self._base)
        for number in due:
            _observe(found, number, self._waiting[number])
        return found

    def observe(self, step: int, found: Sequence[Observation]) -> None:
        """Take up a step that was collected; steps ascend."""
        self._waiting[step] = list(found)
        for number in [number for number in self._waiting if number <= step - self._lag]:
            _observe(self._base, number, self._waiting.pop(number))

    def state(self) -> dict[str, Any]:
        """The whole state as JSON, for a checkpoint."""
        waiting = [
            [step, [[one.sample_id, one.rewards, one.responses] for one in found]]
            for step, found in self._waiting.items()
        ]
        return {"observed": self._base.state_dict(), "waiting": waiting}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self._base.load_state_dict(state["observed"])
        self._waiting = {
            step: [Observation(name, tuple(rewards), tuple(texts)) for name, rewards, texts in found]
            for step, found in state["waiting"]
        }


def _observe(curriculum: Curriculum, step: int, found: Sequence[Observation]) -> None:
    for observation in found:
        curriculum.observe(step, observation)
