"""A stage of a pipeline: threads that work off a bounded queue, behind the thread that fills it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from easyvideor1.spans import SpanRecorder

T = TypeVar("T")

#: Items that may wait for a stage; whoever has more waits.
WAITING = 256
#: Seconds between two looks at whether a stage that is full has failed.
_POLL = 0.05


class Stage(Generic[T]):
    """Calls ``work`` with items in the order in which they came, in threads of its own.

    The first error of ``work`` ends the stage and is raised where items are put or where ``finish`` is called. The
    threads are daemons: work that hangs does not keep the process alive.

    Args:
        name: of the threads and of the spans.
        work: is given the items that wait, at least one and at most ``most`` of them.
        threads: how many calls of ``work`` run at the same time.
        most: items of one call.
        spans: records when ``work`` runs.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[T]], None],
        *,
        threads: int = 1,
        most: int = 64,
        spans: SpanRecorder | None = None,
    ) -> None:
        self._work = work
        self._most = most
        self._name = name
        self._spans = spans or SpanRecorder()
        self._queue: queue.Queue[T | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; waits where ``WAITING`` others do.

        Raises:
            Exception: what ``work`` raised before.
        """
        self._put(item)

    def finish(self) -> None:
        """Return when all items have been worked off, and end the threads.

        Raises:
            Exception: what ``work`` raised.
        """
        for _ in self._threads:
            self._put(None)
        for thread in self._threads:
            thread.join()
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave early: what waits is dropped, and the threads end after their present call. Returns at once."""
        self._error = self._error or LeftError()
        for _ in self._threads:
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                return  # the threads see the error before they take more

    def _put(self, item: T | None) -> None:
        while True:
            self._check()
            try:
                return self._queue.put(item, timeout=_POLL)
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (items := self._take()) and self._error is None:
            try:
                with self._spans(self._name):
                    self._work(items)
            except BaseException as error:  # noqa: BLE001 - raised again, in the thread that fills the queue
                self._error = self._error or error
                return

    def _take(self) -> list[T]:
        """The items that wait, at least one; none at the end."""
        items: list[T] = []
        while len(items) < self._most:
            try:
                item = self._queue.get() if not items else self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                if items:
                    self._queue.put(None)
                break
            items.append(item)
        return items


class LeftError(Exception):
    """A stage was left before its end."""
