"""Rewards in a process of their own: the loop there, and what it and the run say to each other.

All messages can be pickled, and none holds pixels. ``OpenScorer`` comes first and is answered by ``ScorerReady``; each
``ScoreGroup`` comes back in a ``GroupScored`` with the same number.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from easyvideor1.config import RewardConfig
from easyvideor1.engines.packed import Fault, PackedPrompt, Response
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.judge.asking import Usage
from easyvideor1.spans import Span
from easyvideor1.types import Completion, EasyVideoError, Prompt, Sample, Score, Trajectory

#: Responses by task type and reason, see ``Scorer.counts``.
Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, eq=False)
class PackedCompletion:
    """A completion; ``turns`` are those of its trajectory, each with the place of its prompt, where rewards read it."""

    completion: Completion
    turns: tuple[tuple[int, Response], ...] = ()
    origin: Any = "online"


@dataclass(frozen=True, slots=True)
class OpenScorer:
    """Score as ``config`` says; ``environment`` is what of the run's it needs, such as the key of a judge."""

    config: RewardConfig
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreGroup:
    """Score the responses to a sample.

    Those of ``training`` are a group; others are scored each by itself. Comparisons begin within ``seconds``.
    """

    number: int
    sample: Sample
    completions: tuple[PackedCompletion, ...]
    prompts: tuple[PackedPrompt, ...]
    training: bool
    seconds: float | None

    @classmethod
    def of(
        cls,
        number: int,
        sample: Sample,
        completions: Sequence[Completion],
        *,
        training: bool,
        seconds: float | None,
        trajectories: bool,
    ) -> ScoreGroup:
        """The message; with ``trajectories`` completions keep theirs."""
        places: dict[int, int] = {}
        prompts: list[PackedPrompt] = []

        def place_of(prompt: Prompt) -> int:
            if id(prompt) not in places:
                places[id(prompt)] = len(prompts)
                prompts.append(PackedPrompt.of(prompt))
            return places[id(prompt)]

        packed = []
        for one in completions:
            bare, trajectory = replace(one, trajectory=None), one.trajectory
            if trajectory is None or not trajectories:
                packed.append(PackedCompletion(bare))
                continue
            turns = tuple((place_of(turn.prompt), Response.of_turn(turn)) for turn in trajectory.turns)
            packed.append(PackedCompletion(bare, turns, trajectory.origin))
        return cls(number, sample, tuple(packed), tuple(prompts), training, seconds)

    def unpacked(self) -> list[Completion]:
        """The completions."""
        prompts = [prompt.unpacked() for prompt in self.prompts]
        found = []
        for one in self.completions:
            turns = tuple(response.turn(prompts[place]) for place, response in one.turns)
            trajectory = Trajectory(turns, one.origin) if turns else None
            found.append(replace(one.completion, trajectory=trajectory))
        return found


@dataclass(frozen=True, slots=True)
class ScorerReady:
    """The scorer is open, or has a fault; ``pid`` is its process, for people and tests."""

    pid: int
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, eq=False)
class GroupScored:
    """The scores of a group, or the fault of the reward that stops the run.

    ``counts`` and ``spans`` are what scoring it adds to those of the scorer, ``usage`` what the judge was asked so far.
    ``hangs`` says that a call of a reward was given up (``rewards.timeout``), which goes on in this process.
    """

    number: int
    scores: tuple[Score, ...]
    fault: Fault | None
    counts: Counts
    spans: tuple[Span, ...]
    usage: Usage
    hangs: bool = False


def serve(port: Any) -> None:
    """Score until the process is ended: nothing here is worth an orderly end.

    An error that is not for users (``EasyVideoError``) is raised: the process ends with it.

    Args:
        port: a ``Port`` (``engines/worker_messages.py``) for the messages above.

    Raises:
        EOFError: the run is gone.
    """
    scorer: Scorer | None = None
    while True:
        message = port.receive(None)
        if isinstance(message, OpenScorer):
            os.environ.update(message.environment)
            try:
                scorer = Scorer(message.config, most_hanging=sys.maxsize)  # they end with the process
            except EasyVideoError as error:
                port.send(ScorerReady(os.getpid(), Fault.of(error)))
            else:
                port.send(ScorerReady(os.getpid()))
        elif scorer is not None:
            port.send(_scored(scorer, message))


def _scored(scorer: Scorer, asked: ScoreGroup) -> GroupScored:
    before, completions = scorer.counts, asked.unpacked()
    scores: tuple[Score, ...] = ()
    fault = None
    try:
        if asked.training:
            (scores,) = scorer.score_groups([(asked.sample, completions)], scorer.comparisons(asked.seconds))
        else:
            scores = tuple(scorer.score_each([(asked.sample, one) for one in completions]))
    except EasyVideoError as error:
        fault = Fault.of(error)
    counts = dict(Counter(scorer.counts) - Counter(before))
    judge = scorer.reviewer.judge
    usage = Usage() if judge is None else judge.usage
    return GroupScored(asked.number, scores, fault, counts, tuple(scorer.spans.take()), usage, scorer.hangs)


def raised(fault: Fault) -> EasyVideoError:
    """The error of a fault; what scoring raises by itself is a ``RewardError``."""
    error = fault.error()
    return RewardError(str(error)) if type(error) is EasyVideoError else error
