"""A collector whose groups the curriculum of the stage observes."""

from __future__ import annotations

from contextlib import AbstractContextManager

from easyvideor1.data.curricula import CurriculumTrack, observations
from easyvideor1.rollout.collector import Collected, Collector, Timed


class ObservedCollector:
    """Collects what another collector does, and has all scored groups of a step observed once it is there."""

    def __init__(self, collector: Collector, track: CurriculumTrack) -> None:
        self._collector = collector
        self._track = track
        self.runs_ahead = collector.runs_ahead

    def collect(self, step: int, timings: Timed) -> Collected:
        """See ``Collector``."""
        found = self._collector.collect(step, timings)
        self._track.observe(step, observations(found.groups))
        return found

    def updating(self, timings: Timed) -> AbstractContextManager[None]:
        """See ``Collector``."""
        return self._collector.updating(timings)

    def settle(self) -> None:
        """See ``Collector``."""
        self._collector.settle()

    def close(self) -> None:
        """See ``Collector``."""
        self._collector.close()
