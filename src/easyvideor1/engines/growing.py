"""The responses of one batch while they grow by a token a step, and what becomes of them when they are complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.engines.engine import OnAnswer, Request
from easyvideor1.types import Trajectory, Turn


class GrowingResponses:
    """Token ids and log-probs of ``P`` requests with ``n`` responses each.

    Args:
        requests: of the batch, all with the same ``n``.
        stop: token ids that end a response.
        tokenizer: makes text of them.
        on_answer: is told of a request as soon as all its responses have ended.
    """

    def __init__(
        self, requests: Sequence[Request], stop: NDArray[np.int64], tokenizer: Any, on_answer: OnAnswer | None = None
    ) -> None:
        self._requests = requests
        self._stop = stop
        self._tokenizer = tokenizer
        self._on_answer = on_answer
        self._ids: list[NDArray[np.int64]] = []
        self._logprobs: list[NDArray[np.float32]] = []
        self._answers: dict[int, tuple[Trajectory, ...]] = {}

    def add(self, ids: NDArray[np.int64], logprobs: NDArray[np.float32], finished: NDArray[np.bool_]) -> None:
        """Take the next token of every response; all arrays hold ``P * n`` values, requests first.

        What stands behind the end of a response is not looked at.
        """
        self._ids.append(ids)
        self._logprobs.append(logprobs)
        if self._on_answer is None:
            return
        for row in np.flatnonzero(finished.reshape(len(self._requests), -1).all(axis=1)).tolist():
            if row not in self._answers:
                self._answer(row, self._on_answer)

    def collect(self) -> list[tuple[Trajectory, ...]]:
        """All responses, those that have not ended as they are."""
        for row in range(len(self._requests)):
            if row not in self._answers:
                self._answer(row, self._on_answer)
        return [self._answers[row] for row in range(len(self._requests))]

    def _answer(self, row: int, on_answer: OnAnswer | None) -> None:
        request = self._requests[row]
        shape = (len(self._requests), request.n)
        ids_nT = np.stack([ids.reshape(shape)[row] for ids in self._ids], axis=-1)
        logprobs_nT = np.stack([logprobs.reshape(shape)[row] for logprobs in self._logprobs], axis=-1)
        group = []
        for ids_T, logprobs_T in zip(ids_nT, logprobs_nT, strict=True):
            ended = np.flatnonzero(np.isin(ids_T, self._stop))
            length = int(ended[0]) + 1 if len(ended) else len(ids_T)
            ids = ids_T[:length]
            turn = Turn(
                prompt=request.prompt,
                response_ids=ids,
                response_mask=np.ones(length, dtype=bool),
                logprobs=logprobs_T[:length],
                finish="stop" if len(ended) else "length",
                text=self._tokenizer.decode(ids[: length - bool(len(ended))]),
            )
            group.append(Trajectory((turn,)))
        self._answers[row] = tuple(group)
        if on_answer is not None:
            on_answer(row, self._answers[row])
