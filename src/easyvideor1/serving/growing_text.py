"""The text of a response while it grows: whole characters only, and nothing that a stop string takes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: What bytes that are no whole character are shown as.
_INCOMPLETE = "\ufffd"


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string; a response of an engine ends with that string."""
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]


class GrowingText:
    """Turns the token ids of one response into text, piece by piece; the pieces together are the whole text.

    A character of several tokens comes when its last token is there. What may become a stop string waits until it is
    none. Only the tokens since the last whole character are decoded again, so that long responses cost no more per
    token than short ones.

    Args:
        tokenizer: of the model; used by one thread at a time.
        stop: strings that end a response and are no part of it.
        stop_ids: tokens that end a response and are no text.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), stop_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._stop_ids = frozenset(stop_ids)
        self._begin = self._read = 0
        self._text = ""
        #: Characters that were given away.
        self._given = 0

    def grow(self, ids: Sequence[int]) -> str:
        """What can be shown since the last call.

        Args:
            ids: all tokens of the response so far.
        """
        if len(ids) and int(ids[-1]) in self._stop_ids:
            ids = ids[:-1]
        if len(ids) > self._read:
            before = self._decoded(ids[self._begin : self._read])
            after = self._decoded(ids[self._begin :])
            if not after.endswith(_INCOMPLETE):
                self._text += after[len(before) :]
                self._begin, self._read = self._read, len(ids)
        shown = len(before_stop(self._text, self._stop))
        return self._give(shown if shown < len(self._text) else shown - self._held_back())

    def finish(self, text: str) -> str:
        """The rest of the response, whose whole text is known now."""
        self._text = text
        return self._give(len(before_stop(text, self._stop)))

    def _give(self, until: int) -> str:
        piece = self._text[self._given : until]
        self._given = max(self._given, until)
        return piece

    def _held_back(self) -> int:
        """Characters at the end that a stop string may begin with."""
        longest = 0
        for one in self._stop:
            for length in range(min(len(one) - 1, len(self._text)), longest, -1):
                if self._text.endswith(one[:length]):
                    longest = length
                    break
        return longest

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode([int(token) for token in ids]))
