"""The responses of one batch while they grow by a token a step, and what becomes of them when they are complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.engines.engine import Request
from easyvideor1.types import Trajectory, Turn


class GrowingResponses:
    """Token ids and log-probs of ``P`` requests with ``n`` responses each, ``N = P * n`` in all, requests first.

    Args:
        requests: of the batch, all with the same ``n`` and sampling.
        stop_ids: token ids that end a response.
        tokenizer: makes text of them.
    """

    def __init__(self, requests: Sequence[Request], stop_ids: NDArray[np.int64], tokenizer: Any) -> None:
        self._requests = requests
        self._stop_ids = stop_ids
        self._tokenizer = tokenizer
        self._ids: list[NDArray[np.int64]] = []
        self._logprobs: list[NDArray[np.float32]] = []
        self._versions: list[int] = []
        self._strings = requests[0].sampling.stop
        # A token of a byte-level vocabulary holds at least one byte: a string lies within this many tokens.
        self._tail = max((len(string.encode()) for string in self._strings), default=0) + 4
        count = len(requests) * requests[0].n
        #: Tokens of each response that has ended, else 0.
        self._lengths = np.zeros(count, dtype=np.int64)
        self._open = set(range(len(requests)))
        #: Which responses have ended, or belong to a dropped request, bool ``(N,)``.
        self.finished = np.zeros(count, dtype=bool)

    def add(self, ids_N: NDArray[np.int64], logprobs_N: NDArray[np.float32], version: int) -> list[int]:
        """Take the next token of every response, drawn from the weights of ``version``.

        Values of responses that have ended are ignored.

        Returns:
            The requests whose last response ended with this token.
        """
        self._ids.append(ids_N)
        self._logprobs.append(logprobs_N)
        self._versions.append(version)
        ended = ~self.finished & np.isin(ids_N, self._stop_ids)
        if self._strings:
            ended |= [not done and self._says_stop(row) for row, done in enumerate(self.finished.tolist())]
        self._lengths[ended] = len(self._ids)
        self.finished |= ended
        rows_Pn = self.finished.reshape(len(self._requests), -1).tolist()
        return sorted(request for request in self._open if all(rows_Pn[request]))

    def drop(self, request: int) -> None:
        """Generate no more for a request."""
        self.finished.reshape(len(self._requests), -1)[request] = True
        self._open.discard(request)

    @property
    def open(self) -> list[int]:
        """The requests that were neither taken nor dropped, in order."""
        return sorted(self._open)

    def take(self, request: int) -> tuple[Trajectory, ...]:
        """The responses of a request, those that have not ended as they are."""
        self._open.discard(request)
        n = self._requests[request].n
        rows = range(request * n, (request + 1) * n)
        return tuple(Trajectory((self._turn(self._requests[request], row),)) for row in rows)

    def _turn(self, request: Request, row: int) -> Turn:
        stopped = bool(self._lengths[row])
        length = int(self._lengths[row]) or len(self._ids)
        ids_T = np.stack([ids[row] for ids in self._ids[:length]])
        spoken = ids_T[:-1] if stopped and ids_T[-1] in self._stop_ids else ids_T
        return Turn(
            prompt=request.prompt,
            response_ids=ids_T,
            response_mask=np.ones(length, dtype=bool),
            logprobs=np.stack([logprobs[row] for logprobs in self._logprobs[:length]]),
            finish="stop" if stopped else "length",
            text=self._tokenizer.decode(spoken),
            versions=np.array(self._versions[:length], dtype=np.int64),
        )

    def _says_stop(self, row: int) -> bool:
        text = self._tokenizer.decode([int(ids[row]) for ids in self._ids[-self._tail :]])
        return any(string in text for string in self._strings)
