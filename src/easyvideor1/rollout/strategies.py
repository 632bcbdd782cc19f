"""How a sample becomes trajectories, turn by turn: the strategies of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from easyvideor1.registry import Registry
from easyvideor1.types import DataError, MediaPlan, MediaRef, Prompt, Sample, Trajectory, TurnError

if TYPE_CHECKING:
    from easyvideor1.families.family import Family  # loads torch, which reports and comparisons do without


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Makes the prompts of a strategy.

    ``render`` makes the prompt of a sample as the configuration says. ``family.extend`` makes the prompt of a further
    turn. ``plan`` plans a medium that a further turn shows.
    """

    render: Callable[[Sample], Prompt]
    family: Family
    plan: Callable[[MediaRef], MediaPlan]


class Strategy(Protocol):
    """A state machine per trajectory, whose whole state is the trajectory so far.

    It is made as ``Class(prompts)`` and keeps no state of its own, so that any number of trajectories are under way
    together, and a resumed run does the same again. A ``DataError`` or ``MediaError`` that ``next`` raises is a fault
    of that sample alone.
    """

    def start(self, sample: Sample) -> Prompt:
        """The prompt of the first turn, which all trajectories of a sample share."""
        ...

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """The prompt of the next turn, which begins with the last prompt and its response; ``None`` ends it."""
        ...


@dataclass(frozen=True, slots=True)
class CheckedStrategy:
    """A strategy whose further prompts are held to ``data.max_prompt_tokens``, as the first one is by ``render``."""

    strategy: Strategy
    max_prompt_tokens: int

    def start(self, sample: Sample) -> Prompt:
        return self.strategy.start(sample)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``.

        Raises:
            TurnError: the strategy raises ``DataError``, or the prompt is too long.
        """
        try:
            prompt = self.strategy.next(sample, trajectory)
            if prompt is not None and len(prompt) > self.max_prompt_tokens:
                raise DataError(
                    f"the prompt has {len(prompt)} tokens, data.max_prompt_tokens is {self.max_prompt_tokens} - raise "
                    "the limit, or end the trajectory earlier"
                )
        except DataError as error:
            where, turn = sample.where or sample.id, len(trajectory.turns) + 1
            raise TurnError(f"{where}, turn {turn}: {error}") from error
        return prompt


#: Name -> class of a strategy; ``rollout.strategy`` names one.
STRATEGIES: Registry[Callable[[PromptBuilder], Strategy]] = Registry("rollout strategy")


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
        asked = trajectory.last.prompt.followed_by(trajectory.last.response_ids)
        return self.prompts.family.extend(asked, self.CHECK, (), ())
