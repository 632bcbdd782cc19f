"""What a rank is doing, for whoever watches it from another thread."""

from __future__ import annotations

import time


class Phase:
    """The last thing that a rank began, and when.

    ``marks`` counts what it began. ``alone`` says that no other rank takes part in it, so that others may wait for this
    one, and it for nobody.
    """

    def __init__(self) -> None:
        self.words, self.marks, self.alone = "starts", 0, True
        self._since = time.monotonic()

    def at(self, words: str, *, alone: bool = False) -> None:
        """Begin something."""
        self.words, self.alone = words, alone
        self._since = time.monotonic()
        self.marks += 1

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._since
