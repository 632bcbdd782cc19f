"""Steps without a usable group for a cause outside the policy: they are reported, and stop the stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from easyvideor1.types import Group, StoppedError

#: Causes that a message names.
_SHOWN = 3
_MEDIA = "media that cannot be read, or do not fit their visual tokens"
_TURN = "a further turn that has no prompt"
_REQUEST = "a request that the engine did not answer"
_STORED = "a group of an earlier stage that cannot be made again"


def outside_causes(groups: Sequence[Group]) -> Counter[str]:
    """The causes of unusable groups, with counts; empty if any group is usable, or unusable because of the policy.

    A cause is outside the policy if the media of the group could not be read, a further turn has no prompt, the engine
    did not answer, it is of an earlier stage and cannot be made again, or none of its responses could be scored. Equal
    scores of all responses are the policy's own doing.
    """
    causes: Counter[str] = Counter()
    for group in groups:
        if any(score.applicable for score in group.scores):
            return Counter()
        reasons = Counter(f"{group.sample.task}: {score.reason}" for score in group.scores)
        causes[reasons.most_common(1)[0][0] if reasons else _fault(group)] += 1
    return causes


def _fault(group: Group) -> str:
    if group.request_failed:
        return _REQUEST
    if group.stored_failed:
        return _STORED
    return _TURN if group.fault else _MEDIA


class UnusableStepWatch:
    """Watches one start of a stage for steps without a usable group.

    While such steps follow each other no checkpoint is saved (``saves``), so that a resumed run repeats them once the
    cause is fixed.

    Args:
        stage: its name, for messages.
        limit: steps in a row that stop the stage.
        steps: of the stage.
        say: takes the line about each such step.
    """

    def __init__(self, stage: str, limit: int, steps: int, say: Callable[[str], None]) -> None:
        self._stage = stage
        self._limit = limit
        self._steps = steps
        self._say = say
        self._streak: list[int] = []
        self._causes: Counter[str] = Counter()

    def look(self, step: int, groups: Sequence[Group]) -> None:
        """Take in all groups of a finished step.

        Raises:
            StoppedError: it is the last of ``limit`` in a row, or of all steps of the stage.
        """
        causes = outside_causes(groups)
        if not causes:
            self._streak, self._causes = [], Counter()
            return
        self._streak.append(step)
        self._causes += causes
        self._say(f"step {step}: none of {len(groups)} groups could be used: {_words(causes)}")
        if len(self._streak) in (self._limit, self._steps):
            first, last = self._streak[0], self._streak[-1]
            steps = f"step {last}" if first == last else f"steps {first} to {last}"
            raise StoppedError(
                f"stage {self._stage}: no group of {steps} could be used, for a cause outside the policy: "
                f"{_words(self._causes)}. The run will repeat these steps: {self._remedy()}, then run the same command "
                "again"
            )

    def saves(self, step: int) -> bool:
        """Whether the state after a step may be kept."""
        return not self._streak or step == self._steps

    def _remedy(self) -> str:
        if self._causes[_MEDIA] == self._causes.total():
            return "`evr1 cache doctor CONFIG` lists the files with remedies; restore them, or remove their rows"
        if self._causes[_TURN] == self._causes.total():
            return "correct the strategy, or raise data.max_prompt_tokens"
        if self._causes[_REQUEST] == self._causes.total():
            return "see above what the engine printed when it ended, give it more memory or raise rollout.deadline"
        if self._causes[_STORED] == self._causes.total():
            return (
                "see above what is missing or has changed, and restore the rows, the media and the files of "
                "stages/*/rollouts; or remove from_rollouts.json of this stage, which then chooses again"
            )
        return "correct the reward, or restart the judge"


def _words(causes: Counter[str]) -> str:
    own = (_MEDIA, _TURN, _REQUEST, _STORED)
    shown = [f"{count} with {what}" if what in own else f"{count} {what}" for what, count in causes.most_common()]
    return "; ".join(shown[:_SHOWN]) + (f"; and {len(shown) - _SHOWN} other causes" if len(shown) > _SHOWN else "")
