"""Samples of a step, and what that step and the next ones read, begun in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyvideor1.types import MediaError, MediaPlan, MediaRef, Sample
from easyvideor1.video.memory_cache import Prefetcher


class SamplePrefetcher:
    """Draws the samples of a step, announces their media, and draws and announces those of the next ``depth`` steps.

    Samples are a function of the step alone, so a step gets the same ones whenever they were drawn. What drawing a
    later step raises is raised when that step comes.

    Args:
        draw: samples of a 1-based step; pure.
        plan: of a medium; one that raises ``MediaError`` is left to its step.
        wanted: whether the frames of a plan will be read.
        prefetcher: loads what is announced.
        steps: last step there is.
        depth: steps to look ahead; above 0.
    """

    def __init__(
        self,
        draw: Callable[[int], list[Sample]],
        plan: Callable[[MediaRef], MediaPlan],
        wanted: Callable[[MediaPlan], bool],
        prefetcher: Prefetcher,
        *,
        steps: int,
        depth: int,
    ) -> None:
        self._draw = draw
        self._plan = plan
        self._wanted = wanted
        self._prefetcher = prefetcher
        self._steps = steps
        self._depth = depth
        self._drawn: dict[int, list[Sample] | Exception] = {}

    def __call__(self, step: int) -> list[Sample]:
        """The samples of ``step``; steps come in ascending order."""
        self._prefetcher.begin(step)
        drawn = self._drawn.pop(step) if step in self._drawn else self._draw(step)
        if isinstance(drawn, Exception):
            raise drawn
        self._announce(step, drawn)
        for later in range(step + 1, min(step + self._depth, self._steps) + 1):
            self._look_at(later)
        return drawn

    def _look_at(self, step: int) -> None:
        if step not in self._drawn:
            try:
                self._drawn[step] = self._draw(step)
            except Exception as error:  # noqa: BLE001 - kept, and raised by the step it belongs to
                self._drawn[step] = error
        drawn = self._drawn[step]
        if not isinstance(drawn, Exception):
            self._announce(step, drawn)

    def _announce(self, step: int, samples: Sequence[Sample]) -> None:
        media: list[tuple[MediaRef, MediaPlan]] = []
        for ref in dict.fromkeys(ref for sample in samples for ref in sample.media):
            try:
                plan = self._plan(ref)
            except MediaError:
                continue  # the step renders the sample, meets the same error, and records it
            if self._wanted(plan):
                media.append((ref, plan))
        self._prefetcher.announce(step, media)
