"""Decoding a batch token by token: how the next token is drawn, and how responses grow until they end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.types import Prompt, Trajectory, Turn

#: Tokens that are summed at a time when one is drawn: a divisor of it and of the size of the vocabulary.
BLOCK = 128


def uniforms(seed: int, response: int, count: int) -> NDArray[np.float64]:
    """The random numbers of one response: a function of its seed and index, whatever else is in the batch."""
    # As an array of this type: numpy takes a list with a number beyond 2**63 for floats, and seeds would coincide.
    key = np.array([seed % 2**64, response], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def draw(
    logits_RV: torch.Tensor,
    uniforms_R: torch.Tensor,
    sampling: Sampling,
    drawn_from_RV: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids by inverting the cumulative distribution at the given uniforms, and their log-probabilities.

    Nothing waits for the device.

    Args:
        logits_RV: the policy's.
        uniforms_R: in [0, 1), float64.
        sampling: of all ``R`` responses.
        drawn_from_RV: logits to draw from in place of the policy's; log-probabilities are the policy's either way.

    Returns:
        int64 ``(R,)`` and float32 ``(R,)``.
    """
    log_RV = torch.log_softmax(logits_RV, dim=-1)
    if sampling.greedy:
        ids = log_RV.argmax(-1)
    else:
        full = log_RV.exp() if drawn_from_RV is None else torch.softmax(drawn_from_RV, dim=-1)
        ids = _inverse(truncate(full, sampling), uniforms_R)
    return ids, log_RV.gather(-1, ids[:, None]).squeeze(-1).float()


def _inverse(probabilities_RV: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """The tokens at which the cumulative sums pass the uniforms' share of the total, int64 ``(R,)``.

    The vocabulary is summed in blocks, and only the block that is hit token by token: cumulative sums of all tokens in
    float64 would cost more than the softmax. A token of probability 0 is never hit.
    """
    rows, vocabulary = probabilities_RV.shape
    blocks = probabilities_RV.view(rows, -1, math.gcd(vocabulary, BLOCK))
    sums = blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    threshold = uniforms_R[:, None] * cumulative[:, -1:]
    # right=True skips what has probability 0, whose cumulative value equals its predecessor's.
    block = torch.searchsorted(cumulative, threshold, right=True).clamp_max(blocks.shape[1] - 1)
    mass = sums.gather(1, block)
    share = (threshold - cumulative.gather(1, block) + mass).clamp_min(0.0) / mass
    within = blocks.gather(1, block[..., None].expand(-1, -1, blocks.shape[2])).squeeze(1).double().cumsum(-1)
    # A share must not be rounded up to the whole, behind which there is no token.
    token = torch.searchsorted(within, share.clamp_max(1 - 2**-53) * within[:, -1:], right=True)
    return (block * blocks.shape[2] + token).squeeze(1)


def truncate(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Zero what ``top_k`` and then ``top_p`` cut; the caller renormalises.

    Equal probabilities rank by token id, as in ``argmax``, so that exactly ``top_k`` tokens stay.
    """
    if not 0 < sampling.top_k < probabilities.shape[-1] and sampling.top_p >= 1.0:
        return probabilities
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k > 0:
        ranked[..., sampling.top_k :] = 0.0
    if sampling.top_p < 1.0:
        total = ranked.sum(-1, keepdim=True)
        ranked = ranked.masked_fill((ranked.cumsum(-1) - ranked) >= sampling.top_p * total, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, order, ranked)


class SeenTokens:
    """The tokens of ``R`` growing responses and of their prompts.

    ``repetition_penalty`` is that of CTRL (Keskar et al. 2019), over prompt and response, as transformers and vLLM have
    it; ``presence_penalty`` and ``frequency_penalty`` are OpenAI's, over the response alone.
    """

    def __init__(self, prompts: Sequence[Prompt], vocabulary: int, device: torch.device) -> None:
        """``prompts`` are those of the responses, one for each."""
        self._in_prompt_RV = torch.zeros(len(prompts), vocabulary, dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            self._in_prompt_RV[row, torch.from_numpy(prompt.token_ids).to(device)] = True
        # Counts are whole numbers below the length of a response, which float32 holds exactly.
        self._counts_RV = torch.zeros(len(prompts), vocabulary, device=device)

    def add(self, ids_R: torch.Tensor) -> None:
        """Note the next token of every response."""
        once = torch.ones_like(ids_R, dtype=self._counts_RV.dtype)[:, None]
        self._counts_RV.scatter_add_(-1, ids_R[:, None], once)

    def select(self, kept: torch.Tensor) -> None:
        """Keep these responses only."""
        self._in_prompt_RV, self._counts_RV = self._in_prompt_RV[kept], self._counts_RV[kept]

    def penalised(self, logits_RV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        """Logits of what is drawn from, of logits that are divided by the temperature already.

        The repetition penalty is the same before and after that division; the others are divided, too.
        """
        said = self._counts_RV > 0
        factor = sampling.repetition_penalty
        repeated = torch.where(logits_RV > 0, logits_RV / factor, logits_RV * factor)
        out = torch.where(self._in_prompt_RV | said, repeated, logits_RV)
        taken = sampling.frequency_penalty * self._counts_RV + sampling.presence_penalty * said
        return out - taken / sampling.temperature


class StopStrings:
    """The strings that end a response."""

    def __init__(self, strings: Sequence[str], tokenizer: Any) -> None:
        self._strings = tuple(strings)
        self._tokenizer = tokenizer
        #: Last tokens that are looked at: one of a byte-level vocabulary holds at least one byte.
        self.tokens = max((len(string.encode()) for string in strings), default=0) + 4

    def __bool__(self) -> bool:
        return bool(self._strings)

    def said(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens completes a string; earlier ones have been asked about."""
        if not self._strings:
            return False
        text = self._tokenizer.decode(ids[-self.tokens :])
        return any(string in text for string in self._strings)


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
        self._stop = StopStrings(requests[0].sampling.stop, tokenizer)
        count, limit = len(requests) * requests[0].n, requests[0].sampling.max_new_tokens
        #: Tokens drawn so far.
        self.length = 0
        self._ids = np.zeros((count, limit), dtype=np.int64)
        self._logprobs = np.zeros((count, limit), dtype=np.float32)
        self._versions = np.zeros(limit, dtype=np.int64)
        #: Tokens of each response that has ended, else 0.
        self._lengths = np.zeros(count, dtype=np.int64)
        self._open = np.ones(len(requests), dtype=bool)
        #: Which responses have ended, or belong to a dropped request, bool ``(N,)``.
        self.finished = np.zeros(count, dtype=bool)

    def add(
        self, rows: NDArray[np.int64], ids_R: NDArray[np.int64], logprobs_R: NDArray[np.float32], version: int
    ) -> int:
        """Take the next token of the responses ``rows``, drawn from the weights of ``version``.

        All responses that have not ended are among them; values of others are ignored. Returns how many are not.
        """
        grown = ~self.finished[rows]
        rows, ids_R, step = rows[grown], ids_R[grown], self.length
        self._ids[rows, step], self._logprobs[rows, step] = ids_R, logprobs_R[grown]
        self._versions[step] = version
        self.length += 1
        ended = (ids_R[:, None] == self._stop_ids).any(axis=1)  # faster than np.isin for the few that there are
        if self._stop:
            first = max(self.length - self._stop.tokens, 0)
            ended |= [self._stop.said(tail) for tail in self._ids[rows, first : self.length].tolist()]
        self._lengths[rows[ended]] = self.length
        self.finished[rows[ended]] = True
        return len(rows)

    def drop(self, request: int) -> None:
        """Generate no more for a request."""
        self.finished.reshape(len(self._requests), -1)[request] = True
        self._open[request] = False

    @property
    def open(self) -> list[int]:
        """The requests that were neither taken nor dropped, in order."""
        return np.flatnonzero(self._open).tolist()

    @property
    def complete(self) -> list[int]:
        """The open requests whose responses have all ended."""
        return np.flatnonzero(self._open & self.finished.reshape(len(self._requests), -1).all(1)).tolist()

    def said(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens so far of responses that have not ended, ``(R, length)``."""
        return self._ids[rows, : self.length]

    def so_far(self, request: int) -> list[list[int]]:
        """The tokens so far of every response of a request."""
        return [self._ids[row, : self._length(row)].tolist() for row in self._rows(request)]

    def take(self, request: int) -> tuple[Trajectory, ...]:
        """The responses of a request, those that have not ended as they are."""
        self._open[request] = False
        return tuple(Trajectory((self._turn(self._requests[request], row),)) for row in self._rows(request))

    def _rows(self, request: int) -> range:
        n = self._requests[request].n
        return range(request * n, (request + 1) * n)

    def _length(self, row: int) -> int:
        return int(self._lengths[row]) or self.length

    def _turn(self, request: Request, row: int) -> Turn:
        stopped, length = bool(self._lengths[row]), self._length(row)
        ids_T = self._ids[row, :length].copy()
        text_ids = ids_T[:-1] if stopped and ids_T[-1] in self._stop_ids else ids_T
        return Turn(
            prompt=request.prompt,
            response_ids=ids_T,
            response_mask=np.ones(length, dtype=bool),
            logprobs=self._logprobs[row, :length].copy(),
            finish="stop" if stopped else "length",
            text=self._tokenizer.decode(text_ids),
            versions=self._versions[:length].copy(),
        )
