"""How long a function of the user may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from easyvideor1.rewards.answer import RewardError

T = TypeVar("T")

#: Calls that may hang at a time. Python cannot end a thread, so each of them is left behind and costs memory.
_HANGING = 8


class Patience:
    """Calls functions of the user, each within a time limit.

    A call runs in a thread of its own, which ends with the process at the latest.

    Args:
        seconds: of one call; ``None`` calls directly and waits for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._left: list[threading.Thread] = []
        self._lock = threading.Lock()

    def call(self, name: str, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises.

        Raises:
            TimeoutError: it did not return in time.
            RewardError: so many calls hang already that going on would not help.
        """
        if self._seconds is None:
            return function()
        found: list[T] = []
        raised: list[BaseException] = []

        def work() -> None:
            try:
                found.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again, in the thread that asked
                raised.append(error)

        thread = threading.Thread(target=work, name=f"reward {name}", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if raised:
            raise raised[0]
        if found:
            return found[0]
        self._leave(name, thread)
        raise TimeoutError(f"no result within {self._seconds:g} s (rewards.timeout)")

    def _leave(self, name: str, thread: threading.Thread) -> None:
        with self._lock:
            self._left = [each for each in (*self._left, thread) if each.is_alive()]
            count = len(self._left)
        if count >= _HANGING:
            raise RewardError(
                f"{count} calls of rewards do not return, the last one of {name!r} after {self._seconds:g} s: correct "
                "the reward, give what it waits for a time limit of its own, or raise rewards.timeout"
            )
