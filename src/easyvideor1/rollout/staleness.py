"""How old the tokens of a step are, and how long responses are going to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import EasyVideoError, Group, Sample, Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Ages:
    """Of the policy's own responses in some groups.

    ``steps`` is int64 ``(T,)``: by how many updates the weights that drew a token are older than those that are
    trained. ``straddling`` counts responses (of trajectories) with tokens of several versions among ``responses``.
    ``unversioned`` and ``unknown`` count turns without versions and without log-probs.
    """

    steps: NDArray[np.int64]
    responses: int
    straddling: int
    unversioned: int
    unknown: int

    @classmethod
    def of(cls, groups: Sequence[Group], version: int) -> Ages:
        """Ages against the ``version`` of the weights that are trained."""
        own = [each for group in groups for each in group.trajectories if each.origin == "online"]
        turns = [turn for trajectory in own for turn in trajectory.turns]
        found = [turn.versions for turn in turns if turn.versions is not None]
        steps = version - np.concatenate([np.zeros(0, np.int64), *found])
        straddling = sum(len({*_versions(trajectory)}) > 1 for trajectory in own)
        unknown = sum(turn.logprobs is None for turn in turns)
        return cls(steps, len(own), straddling, len(turns) - len(found), unknown)

    @property
    def largest(self) -> int:
        """Of the oldest token; 0 without any."""
        return int(self.steps.max(initial=0))

    def metrics(self) -> dict[str, float]:
        """``staleness/mean`` and ``staleness/max`` in steps, per token; the share of tokens that are not of the
        present weights; the share of responses with tokens of several versions. Empty without a token."""
        if not len(self.steps):
            return {}
        return {
            "staleness/mean": float(self.steps.mean()),
            "staleness/max": float(self.largest),
            "staleness/older_tokens": float((self.steps > 0).mean()),
            "staleness/straddling": self.straddling / self.responses,
        }

    def require(self, engine: str, *, logprobs: bool) -> None:
        """Raise ``EasyVideoError`` if staleness cannot be known or, with ``logprobs``, not be corrected."""
        if self.unversioned:
            raise EasyVideoError(
                f"engine {engine} does not say which weights drew its tokens (Turn.versions), so that "
                "rollout.max_staleness cannot be kept: set it to 0, or use another engine"
            )
        if logprobs and self.unknown:
            raise EasyVideoError(
                f"engine {engine} returns no log-probs, so that what older weights wrote cannot be corrected: use "
                "another engine or other sampling, set rollout.max_staleness to 0, or set correction: none for the "
                "stage to train without a correction"
            )


def _versions(trajectory: Trajectory) -> list[int]:
    return [
        version
        for turn in trajectory.turns
        if turn.versions is not None
        for version in np.unique(turn.versions).tolist()
    ]


class ExpectedLengths:
    """Lengths of responses to come, from earlier ones: to the same sample, else to samples of its task type.

    Requests take as long as their longest response, so that of a group counts. Nothing is saved: a resumed run learns
    the lengths again.
    """

    def __init__(self) -> None:
        self._samples: dict[str, float] = {}
        self._tasks: dict[str, tuple[float, int]] = {}

    def note(self, sample: Sample, trajectories: Sequence[Trajectory]) -> None:
        """Remember how long the responses to a sample were."""
        if not trajectories:
            return
        longest = float(max(trajectory.response_tokens for trajectory in trajectories))
        self._samples[sample.id] = longest
        total, count = self._tasks.get(sample.task, (0.0, 0))
        self._tasks[sample.task] = (total + longest, count + 1)

    def expected(self, sample: Sample) -> float:
        """Tokens of the longest response; of an unknown task the mean of all others, 0 if nothing is known."""
        if sample.id in self._samples:
            return self._samples[sample.id]
        known = [self._tasks[sample.task]] if sample.task in self._tasks else list(self._tasks.values())
        return sum(total for total, _ in known) / max(sum(count for _, count in known), 1)

    def long_first(self, items: Sequence[int], sample_of: Callable[[int], Sample]) -> list[int]:
        """Items by the length expected of their samples' responses, long ones first; else in their order."""
        return sorted(items, key=lambda item: -self.expected(sample_of(item)))
