"""Decoding a batch token by token: how the next token is drawn, and how responses grow until they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.types import Prompt, Trajectory, Turn


def uniforms(seed: int, response: int, count: int) -> NDArray[np.float64]:
    """The random numbers of one response: a function of its seed and index, whatever else is in the batch."""
    # As an array of this type: numpy takes a list with a number beyond 2**63 for floats, and seeds would coincide.
    key = np.array([seed % 2**64, response], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def draw(
    logits_PnV: torch.Tensor,
    uniforms_Pn: NDArray[np.float64],
    sampling: Sampling,
    drawn_from_PnV: torch.Tensor | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Token ids by inverting the cumulative distribution at the given uniforms, and their log-probabilities.

    ``drawn_from_PnV`` are logits to draw from in place of the policy's; log-probabilities are the policy's either way.
    """
    log_PnV = torch.log_softmax(logits_PnV, dim=-1)
    if sampling.greedy:
        ids = log_PnV.argmax(-1)
    else:
        full = log_PnV.exp() if drawn_from_PnV is None else torch.softmax(drawn_from_PnV, dim=-1)
        probabilities = truncate(full, sampling).double()
        cumulative = probabilities.cumsum(-1)
        threshold = torch.from_numpy(uniforms_Pn).to(logits_PnV.device)[..., None] * cumulative[..., -1:]
        # right=True skips tokens of probability 0, whose cumulative value equals their predecessor's.
        ids = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp_max(logits_PnV.shape[-1] - 1)
    picked = log_PnV.gather(-1, ids[..., None]).squeeze(-1)
    return ids.cpu().numpy(), picked.float().cpu().numpy()


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
    """The tokens of the prompts and of the growing responses of one batch of ``R`` rows with ``n`` responses each.

    ``repetition_penalty`` is that of CTRL (Keskar et al. 2019), over prompt and response, as transformers and vLLM have
    it; ``presence_penalty`` and ``frequency_penalty`` are OpenAI's, over the response alone.
    """

    def __init__(self, prompts: Sequence[Prompt], n: int, vocabulary: int, device: torch.device) -> None:
        self._in_prompt_R1V = torch.zeros(len(prompts), 1, vocabulary, dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            self._in_prompt_R1V[row, 0, torch.from_numpy(prompt.token_ids).to(device)] = True
        # Counts are whole numbers below the length of a response, which float32 holds exactly.
        self._counts_RnV = torch.zeros(len(prompts), n, vocabulary, device=device)

    def add(self, ids_Rn: torch.Tensor) -> None:
        """Note the next token of every response."""
        once = torch.ones_like(ids_Rn, dtype=self._counts_RnV.dtype)[..., None]
        self._counts_RnV.scatter_add_(-1, ids_Rn[..., None], once)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep these rows only."""
        self._in_prompt_R1V, self._counts_RnV = self._in_prompt_R1V[rows], self._counts_RnV[rows]

    def penalised(self, logits_RnV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        """Logits of what is drawn from, of logits that are divided by the temperature already.

        The repetition penalty is the same before and after that division; the others are divided, too.
        """
        said = self._counts_RnV > 0
        factor = sampling.repetition_penalty
        repeated = torch.where(logits_RnV > 0, logits_RnV / factor, logits_RnV * factor)
        out = torch.where(self._in_prompt_R1V | said, repeated, logits_RnV)
        taken = sampling.frequency_penalty * self._counts_RnV + sampling.presence_penalty * said
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
        self._ids: list[NDArray[np.int64]] = []
        self._logprobs: list[NDArray[np.float32]] = []
        self._versions: list[int] = []
        self._stop = StopStrings(requests[0].sampling.stop, tokenizer)
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
        if self._stop:
            tail = self._ids[-self._stop.tokens :]
            ended |= [
                not done and self._stop.said([int(ids[row]) for ids in tail])
                for row, done in enumerate(self.finished.tolist())
            ]
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
        text_ids = ids_T[:-1] if stopped and ids_T[-1] in self._stop_ids else ids_T
        return Turn(
            prompt=request.prompt,
            response_ids=ids_T,
            response_mask=np.ones(length, dtype=bool),
            logprobs=np.stack([logprobs[row] for logprobs in self._logprobs[:length]]),
            finish="stop" if stopped else "length",
            text=self._tokenizer.decode(text_ids),
            versions=np.array(self._versions[:length], dtype=np.int64),
        )
