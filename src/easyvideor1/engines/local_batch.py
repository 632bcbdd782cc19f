"""One batch of the local engine: its responses are drawn token by token, and leave it when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.engines.decoding import GrowingResponses, SeenTokens, draw, uniforms
from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.local_decoders import Texts, open_decoder
from easyvideor1.engines.step_graph import StepGraph
from easyvideor1.families.family import Family
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames, load_checked
from easyvideor1.packing.logprobs import masked_logits
from easyvideor1.spans import SpanRecorder
from easyvideor1.types import DataError, Frames, MediaError, MediaPlan, MediaRef

#: Under autocast, the caller gets control after every so many tokens only: a pause ends autocast, which then casts all
#: weights again.
PACE = 16
#: Steps between two looks at what was drawn, where the host need not look at each: see ``Decoder.static``.
STRIDE = 8
#: Responses leave when this share of the rows has ended, for each leave copies the others' keys. A step whose shapes
#: are static is prepared anew then.
LEAVING, LEAVING_STATIC = 0.1, 0.5


class BatchMedia:
    """The frames that a batch needs, until they are in its keys.

    Args:
        load: reads frames.
        features: kept features of media, in whose place no frames are read; or None.
    """

    def __init__(self, load: LoadFrames, features: FeatureCache | None) -> None:
        self._load, self.features = load, features
        self._frames: dict[tuple[str, tuple[int, int, int]], Frames] = {}

    def read(self, request: Request) -> None:
        """Add the frames of a request.

        Raises:
            MediaError: a medium cannot be read.
            DataError: frames are not those of their plan.
        """
        for ref, plan in zip(request.prompt.media, request.prompt.plans, strict=True):
            key = (plan.digest, plan.grid)
            if key not in self._frames and not (self.features is not None and self.features.has(plan)):
                self._frames[key] = load_checked(ref, plan, self._load)

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of one medium."""
        found = self._frames.get((plan.digest, plan.grid))
        return self._load(ref, plan) if found is None else found

    def clear(self) -> None:
        """Let go of all frames."""
        self._frames.clear()


class Batch:
    """Requests with the same ``n`` and sampling that are decoded together.

    Args:
        family: of the model.
        model: in evaluation mode.
        requests: by ticket.
        media: has the frames of all requests.
        counters: of the engine; the batch adds to them.
        spans: records prefills.
        graphs: whether steps of static shapes may become a CUDA graph.
    """

    def __init__(
        self,
        family: Family,
        model: Any,
        requests: Mapping[int, Request],
        *,
        media: BatchMedia,
        counters: MutableMapping[str, float],
        spans: SpanRecorder,
        graphs: bool,
    ) -> None:
        self.family, self.model = family, model
        self._tickets, self._requests = list(requests), list(requests.values())
        self._sampling, n = self._requests[0].sampling, self._requests[0].n
        self._counters, self._spans = counters, spans
        self._media = media
        self._graphs = graphs and not self._sampling.penalises
        self._decoder = open_decoder(family, model, media.features)
        self._graph: StepGraph | None = None
        self._out = GrowingResponses(self._requests, np.asarray(family.stop_token_ids), family.tokenizer)
        self._pace = 1 if getattr(model, "compute_dtype", torch.float32) == torch.float32 else PACE
        device = next(model.parameters()).device
        #: The responses that are decoded, as rows of all of the batch.
        self._alive: NDArray[np.int64] = np.arange(len(self._requests) * n)
        limit = self._sampling.max_new_tokens
        numbers = (
            [] if self._sampling.greedy else [uniforms(r.seed, i, limit) for r in self._requests for i in range(n)]
        )
        self._numbers_RT = torch.from_numpy(np.stack(numbers)).to(device) if numbers else None
        # What a step writes stands on the device, so that the host need not look at every step.
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._ids_R = torch.zeros(len(self._alive), dtype=torch.int64, device=device)
        self._drawn_RT = torch.zeros(len(self._alive), limit, dtype=torch.int64, device=device)
        self._logprobs_RT = torch.zeros(len(self._alive), limit, device=device)
        self._seen: SeenTokens | None = None
        if self._sampling.penalises:
            prompts = [request.prompt for request in self._requests for _ in range(n)]
            self._seen = SeenTokens(prompts, model.config.get_text_config().vocab_size, device)

    def partial(self, ticket: int) -> list[list[int]] | None:
        """The token ids so far of every response of a request; None if the request is not in this batch."""
        return self._out.so_far(self._tickets.index(ticket)) if ticket in self._tickets else None

    def forget_graph(self) -> None:
        """Weights have moved."""
        self._graph = None

    def results(
        self,
        pending: MutableMapping[int, Request],
        weights: Callable[[], tuple[int, int]],
    ) -> Iterator[Result | None]:
        """Results of the requests as they end, and a pause (``None``) after every step.

        Args:
            pending: requests that leave it are dropped, and those that end are taken out.
            weights: their version, and a number that grows when they change: then no key that was computed is used any
                more, and prompts and tokens so far are computed in one pass.
        """
        (_, computed_with), told = weights(), 0
        hidden: torch.Tensor | None = self._prefill(first=True)
        while True:
            version, current = weights()
            if current != computed_with:
                yield from self._read_again(pending)
                if not len(self._leave(0.0)):
                    return
                version, computed_with = weights()  # they may have changed again where a failed request was told
                hidden = self._prefill()
            self._grow(hidden, version)
            hidden = None
            over = self._out.length == self._sampling.max_new_tokens or self._out.finished.all()
            if over or self._out.length - told >= self._pace:
                told = self._out.length
                for request in self._out.open if over else self._out.complete:
                    if pending.pop(self._tickets[request], None) is not None:
                        yield Result(self._tickets[request], self._requests[request], self._out.take(request))
                if over:
                    return
                yield None
            for request in self._out.open:
                if self._tickets[request] not in pending:
                    self._out.drop(request)
            if not len(self._leave(LEAVING_STATIC if self._decoder.static else LEAVING)):
                return

    def _prefill(self, first: bool = False) -> torch.Tensor:
        """The hidden states ``(R, D)`` that the next tokens are drawn from, computed from the tokens alone."""
        self._graph = None
        requests, parents = np.unique(self._alive // self._requests[0].n, return_inverse=True)
        prompts = [self._requests[request].prompt for request in requests]
        texts = Texts(prompts, parents.astype(np.int64), self._out.said(self._alive))
        with self._spans("prefill", prompts=len(prompts)):
            hidden = self._decoder.prefill(texts, self._media.load, self._sampling.max_new_tokens)
        self._media.clear()
        self._counters["prefills"] += len(prompts)
        self._counters["prefilled_tokens"] += self._decoder.computed
        if first:
            tokens = sum(len(prompts[parent]) for parent in parents)
            self._counters["prompt_tokens"] += tokens
            self._counters["cached_tokens"] += tokens - self._decoder.computed
        return hidden

    def _read_again(self, pending: MutableMapping[int, Request]) -> Iterator[Result]:
        """Make sure of the media of what is not finished; a request whose media are gone fails alone."""
        for index in self._out.open:
            request, ticket = self._requests[index], self._tickets[index]
            if ticket in pending and not self._finished(index):
                try:
                    self._media.read(request)
                except (MediaError, DataError) as error:
                    del pending[ticket]
                    self._out.drop(index)
                    yield Result(ticket, request, fault=error)

    def _finished(self, request: int) -> bool:
        n = self._requests[0].n
        return bool(self._out.finished[request * n : (request + 1) * n].all())

    def _grow(self, hidden: torch.Tensor | None, version: int) -> None:
        """Draw the next token of every response, or several: from ``hidden``, or after the last token is fed."""
        done, steps = self._out.length, 1
        if hidden is not None:
            self._choose(hidden)
        else:
            if self._decoder.static:
                steps = min(STRIDE, self._sampling.max_new_tokens - done)
            self._make_steps(steps)
        ids_RT = self._drawn_RT[:, done : done + steps].cpu().numpy()
        logprobs_RT = self._logprobs_RT[:, done : done + steps].cpu().numpy()
        for step in range(steps):
            grown = self._out.add(self._alive, ids_RT[:, step], logprobs_RT[:, step], version)
            self._counters["new_tokens"] += grown

    def _make_steps(self, steps: int) -> None:
        if self._decoder.reserve(steps):
            self._graph = None
        left = self._sampling.max_new_tokens - self._out.length
        if self._graphs and self._graph is None and self._decoder.static and StepGraph.pays(self._ids_R.device, left):
            self._graph = StepGraph.capture(self._advance, (self._step, self._ids_R))
            self._graphs = self._graph is not None
        for _ in range(steps):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._advance()
        self._decoder.advance(steps)

    def _advance(self) -> None:
        """Feed the last token of every response and draw the next; all of it on the device."""
        self._choose(self._decoder.feed(self._ids_R, self._step - 1))

    def _choose(self, hidden_RD: torch.Tensor) -> None:
        sampling = self._sampling
        temperature = 1.0 if sampling.greedy else sampling.temperature
        logits = masked_logits(self.family, self.model, hidden_RD, temperature)
        numbers_R = (
            self._step.double() if self._numbers_RT is None else self._numbers_RT.index_select(1, self._step)[:, 0]
        )
        drawn_from = None if self._seen is None else self._seen.penalised(logits, sampling)
        ids_R, logprobs_R = draw(logits, numbers_R, sampling, drawn_from)
        if self._seen is not None:
            self._seen.add(ids_R)
        self._drawn_RT.index_copy_(1, self._step, ids_R[:, None])
        self._logprobs_RT.index_copy_(1, self._step, logprobs_R[:, None])
        self._ids_R.copy_(ids_R)
        self._step.add_(1)

    def _leave(self, share: float) -> NDArray[np.int64]:
        """Let responses that have ended leave if more than ``share`` of all have. Returns those that stay."""
        stay = ~self._out.finished[self._alive]
        if stay.all() or (stay.any() and 1 - stay.mean() <= share):
            return self._alive
        self._alive = self._alive[stay]
        if len(self._alive):
            kept = torch.from_numpy(np.flatnonzero(stay)).to(self._ids_R.device)
            self._decoder.select(kept)
            self._graph = None
            self._ids_R, self._drawn_RT, self._logprobs_RT = (
                each[kept] for each in (self._ids_R, self._drawn_RT, self._logprobs_RT)
            )
            if self._numbers_RT is not None:
                self._numbers_RT = self._numbers_RT[kept]
            if self._seen is not None:
                self._seen.select(kept)
        return self._alive
