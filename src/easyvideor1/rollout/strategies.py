"""How a sample becomes trajectories, turn by turn: the contract of rollout strategies, and those without options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from easyvideor1.config.strategies import StrategyOptions
from easyvideor1.options import own_options
from easyvideor1.registry import Registry
from easyvideor1.rewards.tags import ANSWER, Grammar
from easyvideor1.types import DataError, MediaPlan, MediaRef, Prompt, Sample, Trajectory, TurnError

if TYPE_CHECKING:
    from easyvideor1.families.family import Family  # loads torch, which reports and comparisons do without

#: A medium and its plan.
Medium = tuple[MediaRef, MediaPlan]


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Makes the prompts of a strategy.

    ``render`` makes the prompt of a sample as the configuration says. ``family.extend`` makes the prompt of a further
    turn that continues the last one. ``plan`` plans a medium that a further turn shows.

    ``compose`` makes a fresh prompt of a text, with one ``<image>`` or ``<video>`` for each of its media. ``text`` is
    the user message of a sample by its template, and ``media`` gives what ``render`` would show: the sample, which a
    benchmark may have changed, and its media with their plans. ``grammar`` is that of responses.
    """

    render: Callable[[Sample], Prompt]
    family: Family
    plan: Callable[[MediaRef], MediaPlan]
    text: Callable[[Sample], str] = lambda sample: sample.question
    shown: Callable[[Sample], tuple[Sample, tuple[MediaPlan, ...]]] | None = None
    grammar: Grammar = ANSWER
    system: str = ""

    def media(self, sample: Sample) -> tuple[Sample, tuple[Medium, ...]]:
        """The sample as it is asked, and its media with their plans, in order."""
        if self.shown is None:
            return sample, tuple((ref, self.plan(ref)) for ref in sample.media)
        asked, plans = self.shown(sample)
        return asked, tuple(zip(asked.media, plans, strict=True))

    def compose(self, text: str, media: Sequence[Medium]) -> Prompt:
        """A fresh prompt.

        Raises:
            DataError: text and media disagree, or the text holds control tokens.
        """
        return self.family.render(text, [ref for ref, _ in media], [plan for _, plan in media], system=self.system)

    def extend(self, trajectory: Trajectory, text: str, media: Sequence[Medium] = ()) -> Prompt:
        """The prompt that continues the last turn of a trajectory with a user message.

        Raises:
            DataError: as ``compose``.
        """
        asked = trajectory.last.prompt.followed_by(trajectory.last.response_ids)
        return self.family.extend(asked, text, [ref for ref, _ in media], [plan for _, plan in media])


class Strategy(Protocol):
    """A state machine per trajectory, whose whole state is the trajectory so far.

    It is made as ``Class(prompts)``, or as ``Class(prompts, options)`` where its second parameter has this name, and
    keeps no state of its own, so that any number of trajectories are under way together, and a resumed run does the
    same again. A ``DataError`` or ``MediaError`` that ``next`` raises is a fault of that sample alone.

    Two more methods are optional. ``max_new_tokens(sample, before)`` gives the length limit of the response to come,
    ``before`` being the trajectory so far or ``None``; it returns ``None`` for ``rollout.max_new_tokens``, which is
    never exceeded. ``counts(sample, trajectory)`` gives numbers by name, such as of turns that took a fallback; a step
    logs their sums as ``turns/NAME``.
    """

    def start(self, sample: Sample) -> Prompt:
        """The prompt of the first turn, which all trajectories of a sample share."""
        ...

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """The prompt of the next turn, which begins with the last prompt and its response, or is fresh; ``None`` ends
        the trajectory."""
        ...


@dataclass(frozen=True, slots=True)
class CheckedStrategy:
    """A strategy whose prompts are held to ``data.max_prompt_tokens``, as ``render`` holds those that it makes."""

    strategy: Strategy
    max_prompt_tokens: int

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``.

        Raises:
            DataError: the prompt is too long.
        """
        return self._checked(self.strategy.start(sample))

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``.

        Raises:
            TurnError: the strategy raises ``DataError``, or the prompt is too long.
        """
        try:
            prompt = self.strategy.next(sample, trajectory)
            return None if prompt is None else self._checked(prompt)
        except DataError as error:
            where, turn = sample.where or sample.id, len(trajectory.turns) + 1
            raise TurnError(f"{where}, turn {turn}: {error}") from error

    def max_new_tokens(self, sample: Sample, before: Trajectory | None) -> int | None:
        """See ``Strategy``."""
        return turn_limit(self.strategy, sample, before)

    def counts(self, sample: Sample, trajectory: Trajectory) -> Mapping[str, float]:
        """See ``Strategy``."""
        return turn_counts(self.strategy, sample, trajectory)

    def _checked(self, prompt: Prompt) -> Prompt:
        if len(prompt) > self.max_prompt_tokens:
            raise DataError(
                f"the prompt has {len(prompt)} tokens, data.max_prompt_tokens is {self.max_prompt_tokens} - raise "
                "the limit, or end the trajectory earlier"
            )
        return prompt


@dataclass(frozen=True, slots=True)
class OfflineStrategy:
    """What asks the questions that rows' offline trajectories answer.

    Where these have several turns, it is the ``strategy`` of the run, whose next prompts hold the responses of the row.
    Else it is ``whole``, which asks a question with its media whole.
    """

    strategy: Strategy
    whole: Strategy

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``."""
        return (self.strategy if has_turns(sample) else self.whole).start(sample)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``."""
        return self.strategy.next(sample, trajectory)


def has_turns(sample: Sample) -> bool:
    """Whether an offline trajectory of a row has several turns."""
    return any(trajectory.before for trajectory in sample.offline)


def turn_limit(strategy: Strategy, sample: Sample, before: Trajectory | None) -> int | None:
    """``max_new_tokens`` of a strategy, ``None`` from one without."""
    asked: Callable[[Sample, Trajectory | None], int | None] | None = getattr(strategy, "max_new_tokens", None)
    return None if asked is None else asked(sample, before)


def turn_counts(strategy: Strategy, sample: Sample, trajectory: Trajectory) -> Mapping[str, float]:
    """``counts`` of a strategy, empty from one without."""
    counts: Callable[[Sample, Trajectory], Mapping[str, float]] | None = getattr(strategy, "counts", None)
    return {} if counts is None else counts(sample, trajectory)


#: Name -> class of a strategy; ``rollout.strategy`` names one.
STRATEGIES: Registry[Callable[..., Strategy]] = Registry("rollout strategy")


def check_strategy(options: StrategyOptions) -> None:
    """Resolve the strategy that a configuration names, and check the options of one of the user's own.

    Raises:
        ConfigError: the name means nothing, or the options are not what the class declares.
    """
    own_options(STRATEGIES.resolve(options.name), options, "rollout.strategy")


def open_strategy(options: StrategyOptions, prompts: PromptBuilder, max_prompt_tokens: int) -> CheckedStrategy:
    """The strategy of a configuration.

    A class of the user's own declares its options with ``with_options`` (``options.py``), or is given the
    section as it is.

    Raises:
        ConfigError: as ``check_strategy``.
    """
    kind = STRATEGIES.resolve(options.name)
    takes_options = "options" in inspect.signature(kind).parameters
    arguments: tuple[Any, ...] = (own_options(kind, options, "rollout.strategy"),) if takes_options else ()
    return CheckedStrategy(kind(prompts, *arguments), max_prompt_tokens)


@STRATEGIES.register("single_turn")
class SingleTurn:
    """One prompt, one response."""

    def __init__(self, prompts: PromptBuilder) -> None:
        self._render = prompts.render

    def start(self, sample: Sample) -> Prompt:
        return self._render(sample)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        return None


@STRATEGIES.register("second_look")
class SecondLook:
    """Two turns: the model answers, is asked to check its answer, and answers again; the second answer is scored.

    A first answer that was cut at the length limit stays the last.
    """

    #: The message of the second turn.
    CHECK = (
        "Check your answer: look at the question and at what is shown again, and correct what is wrong. Then give your "
        "final answer in the same form."
    )

    def __init__(self, prompts: PromptBuilder) -> None:
        self.prompts = prompts

    def start(self, sample: Sample) -> Prompt:
        return self.prompts.render(sample)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        if len(trajectory.turns) > 1 or trajectory.finish != "stop":
            return None
        return self.prompts.extend(trajectory, self.CHECK)
