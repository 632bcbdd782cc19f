"""Frames of the windows to come, read or decoded in threads while an engine works on the windows before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from easyvideor1.rollout.strategies import Strategy, turn_limit
from easyvideor1.spans import SpanRecorder
from easyvideor1.types import DataError, EasyVideoError, MediaError, MediaPlan, MediaRef, Prompt, Sample, Trajectory

#: Windows whose frames are asked for before they are needed.
AHEAD = 2


class FramesAhead:
    """Has the frames of windows ready, in order; those of ``AHEAD`` further windows are made meanwhile.

    A question whose prompt cannot be made, or whose frames cannot be had, has a ``fault``. Frames of one plan are made
    once per pass, whichever questions show them.

    Args:
        windows: the samples of each window.
        strategy: makes the prompts, which say what is shown; called in the thread that asks for windows.
        load: has the frames of a medium ready; raises ``MediaError`` or ``DataError`` for that medium alone. It is
            called in ``threads`` threads.
        threads: media that are made at the same time.
        spans: records ``frames`` while media are made, and ``wait for frames`` while a window waits for them.
    """

    def __init__(
        self,
        windows: Sequence[Sequence[Sample]],
        strategy: Strategy,
        load: Callable[[MediaRef, MediaPlan], object],
        threads: int,
        spans: SpanRecorder | None = None,
    ) -> None:
        self._windows = windows
        self._strategy = strategy
        self._load = load
        self._spans = spans or SpanRecorder()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frames")
        self._made: dict[str, Future[None]] = {}
        self._shown: list[dict[int, EasyVideoError | tuple[str, ...]]] = []

    def ready(self, window: int) -> bool:
        """Whether the frames of a window are there, or known not to be had."""
        self._announce(window)
        return all(self._made[digest].done() for digest in self._digests(window))

    def wait(self, window: int) -> None:
        """Return when they are.

        Raises:
            EasyVideoError: frames cannot be kept, as on a full disk.
        """
        if not self.ready(window):
            with self._spans("wait for frames"):
                wait([self._made[digest] for digest in self._digests(window)])
        for digest in self._digests(window):
            error = self._made[digest].exception()
            if error is not None and not isinstance(error, MediaError | DataError):
                raise error

    def fault(self, sample: Sample) -> BaseException | None:
        """Why a sample of a window that was waited for cannot be asked; ``None`` if it can."""
        shown = next(found[id(sample)] for found in self._shown if id(sample) in found)
        if isinstance(shown, EasyVideoError):
            return shown
        return next((error for digest in shown if (error := self._made[digest].exception()) is not None), None)

    def close(self) -> None:
        """Make nothing more; does not wait for what is being made."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _digests(self, window: int) -> list[str]:
        return [digest for shown in self._shown[window].values() if isinstance(shown, tuple) for digest in shown]

    def _announce(self, window: int) -> None:
        while len(self._shown) < min(window + 1 + AHEAD, len(self._windows)):
            self._shown.append({id(sample): self._begin(sample) for sample in self._windows[len(self._shown)]})

    def _begin(self, sample: Sample) -> EasyVideoError | tuple[str, ...]:
        """Begin to make what a sample shows; returns the digests of its plans."""
        try:
            prompt = self._strategy.start(sample)
        except EasyVideoError as error:
            return error
        for ref, plan in zip(prompt.media, prompt.plans, strict=True):
            if plan.digest not in self._made:
                self._made[plan.digest] = self._pool.submit(self._one, ref, plan)
        return tuple(plan.digest for plan in prompt.plans)

    def _one(self, ref: MediaRef, plan: MediaPlan) -> None:
        with self._spans("frames"):
            self._load(ref, plan)


class WithFrames:
    """A strategy that begins a sample only once its frames are there."""

    def __init__(self, strategy: Strategy, frames: FramesAhead) -> None:
        self._strategy = strategy
        self._frames = frames

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``.

        Raises:
            EasyVideoError: its prompt cannot be made, or a medium cannot be read or decoded.
        """
        if (fault := self._frames.fault(sample)) is not None:
            raise fault
        return self._strategy.start(sample)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``."""
        return self._strategy.next(sample, trajectory)

    def max_new_tokens(self, sample: Sample, before: Trajectory | None) -> int | None:
        """See ``Strategy``."""
        return turn_limit(self._strategy, sample, before)
