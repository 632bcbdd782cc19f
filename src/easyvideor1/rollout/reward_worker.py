"""Rewards in a process of their own: the loop there, and what it and the run say to each other.

All messages can be pickled, and none holds pixels. ``OpenScorer`` comes first and is answered by ``ScorerReady``; each
``ScoreGroup`` comes back in a ``GroupScored`` with the same number.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

from easyvideor1.config import RewardConfig
from easyvideor1.engines.packed import Fault, PackedPrompt, Response
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.custom import check_turns
from easyvideor1.rewards.judge.asking import Usage
from easyvideor1.spans import Span
from easyvideor1.types import Completion, EasyVideoError, Prompt, Sample, Score, Trajectory

#: Responses by task type and reason, see ``Scorer.counts``.
Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, eq=False)
class PackedCompletion:
    """A completion; ``turns`` are those of its trajectory, each with the place of its prompt, where rewards read it.

    ``turn_count`` is their number in any case; ``None`` for a completion without a trajectory.
    """

    completion: Completion
    turns: tuple[tuple[int, Response], ...] = ()
    origin: Any = "online"
    turn_count: int | None = None


@dataclass(frozen=True, slots=True)
class OpenScorer:
    """Score as ``config`` says; ``environment`` is what of the run's it needs, such as the key of a judge."""

    config: RewardConfig
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreGroup:
    """Score the responses to a sample.

    With ``training`` they are scored together, as the group of a training step (``Scorer.score_groups``); without, each
    by itself, as in an evaluation. What has not begun to be compared after ``seconds`` is masked.
    ``judge_answers`` says that the judge has answered some process of the run before.
    """

    number: int
    sample: Sample
    completions: tuple[PackedCompletion, ...]
    prompts: tuple[PackedPrompt, ...]
    training: bool
    seconds: float | None
    judge_answers: bool = False

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
        judge_answers: bool = False,
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
                packed.append(PackedCompletion(bare, turn_count=None if trajectory is None else len(trajectory.turns)))
                continue
            turns = tuple((place_of(turn.prompt), Response.of_turn(turn)) for turn in trajectory.turns)
            packed.append(PackedCompletion(bare, turns, trajectory.origin, len(turns)))
        return cls(number, sample, tuple(packed), tuple(prompts), training, seconds, judge_answers)

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
    ``hangs`` says that a call of a reward was given up (``rewards.timeout``), which goes on in this process;
    ``judge_answers`` is as in ``ScoreGroup``.
    """

    number: int
    scores: tuple[Score, ...]
    fault: Fault | None
    counts: Counts
    spans: tuple[Span, ...]
    usage: Usage
    hangs: bool = False
    judge_answers: bool = False


def serve(port: Any) -> None:
    """Score until the process is ended: nothing here is worth an orderly end.

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
            except BaseException as error:  # noqa: BLE001 - raised again in the run
                port.send(ScorerReady(os.getpid(), _fault(error, "the rewards cannot be opened")))
            else:
                port.send(ScorerReady(os.getpid()))
        elif scorer is not None:
            port.send(_scored(scorer, message))


def _scored(scorer: Scorer, asked: ScoreGroup) -> GroupScored:
    before, judge = scorer.counts, scorer.reviewer.judge
    scores: tuple[Score, ...] = ()
    fault = None
    if judge is not None:
        judge.has_answered = judge.has_answered or asked.judge_answers
    try:
        scores = _scores(scorer, asked)
    except BaseException as error:  # noqa: BLE001 - raised again in the run, also where a reward calls sys.exit
        scores, fault = (), _fault(error, f"scoring the responses to {asked.sample.id!r} failed")
    return GroupScored(
        asked.number,
        scores,
        fault,
        dict(Counter(scorer.counts) - Counter(before)),
        tuple(scorer.spans.take()),
        Usage() if judge is None else judge.usage,
        scorer.hangs,
        judge is not None and judge.has_answered,
    )


def _scores(scorer: Scorer, asked: ScoreGroup) -> tuple[Score, ...]:
    """Scores that can be sent.

    Raises:
        RewardError: as a reward, or one returned another number of rewards of turns than there are turns.
    """
    completions = asked.unpacked()
    scores: tuple[Score, ...]
    if asked.training:
        (scores,) = scorer.score_groups([(asked.sample, completions)], scorer.comparisons(asked.seconds))
    else:
        scores = tuple(scorer.score_each([(asked.sample, one) for one in completions]))
    for one, score in zip(asked.completions, scores, strict=True):
        check_turns(scorer.reward_name(asked.sample), score.turns, one.turn_count)  # the scorer need not know them
    ForkingPickler.dumps(scores)  # a score of a class of the user's need not be one that can be sent
    return scores


def _fault(error: BaseException, what: str) -> Fault:
    """An error for the run; of one that is not for users all is told that is known."""
    if isinstance(error, EasyVideoError):
        return Fault.of(error)
    return Fault.of(EasyVideoError(f"{what}:\n{''.join(traceback.format_exception(error)).rstrip()}"))


def scoring_error(fault: Fault) -> EasyVideoError:
    """The error that a fault in scoring stands for: a ``RewardError`` where it has no class of its own."""
    error = fault.error()
    return RewardError(str(error)) if type(error) is EasyVideoError else error
