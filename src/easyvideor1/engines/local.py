"""Generation with transformers alone: every prompt is prefilled once and its keys serve all its responses.

The n responses of a prompt branch off it (``attention.branches``): each attends to its prompt and to its own tokens.
Nothing is copied n times, the vision tower runs once per prompt, and what the prompts of a batch begin with, such as a
video with several questions, is computed once. Responses that have ended leave the batch.

A family whose layers cannot branch (``shares_prefix`` is False) gets a row per response: the prompt is still prefilled
once, and its cache is then copied n times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from easyvideor1.attention.functions import taking_layouts
from easyvideor1.config import ModelConfig
from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.local_batch import Batch, BatchMedia
from easyvideor1.engines.registry import ENGINES, inference_model
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family, compute_device, computing, evaluating, untouched_memory
from easyvideor1.families.features import FeatureCache, FeatureStore
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.spans import Span, SpanRecorder
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError

#: What ``stats`` counts.
COUNTERS = ("prompt_tokens", "cached_tokens", "prefilled_tokens", "prefills", "new_tokens")


@ENGINES.register("local")
class LocalEngine:
    """Batched generation on the policy's own module.

    Given a module, the engine refers to it and does not copy it: ``update_weights`` with the module's own tensors only
    notes the version, with others it copies them in. Given the directory of a checkpoint, it has weights of its own.

    Batches are formed within a window, of requests with the same ``n`` and sampling, short prompts first, up to
    ``batch_tokens``; a request that needs more goes alone. They depend on the window alone, and so do the bits of its
    results: a request whose media cannot be read leaves the window as if it had not been submitted. A cancelled request
    leaves its batch; the random numbers of the others stay, their logits may differ in the last bits.
    """

    takes_features = True
    opens_checkpoints = True
    #: On a GPU, record decoding steps as CUDA graphs; layers that cannot be recorded run step by step.
    cuda_graphs = True

    def __init__(
        self,
        family: Family,
        model: Any | Path,
        load: LoadFrames,
        *,
        batch_tokens: int = 65_536,
        features: FeatureStore | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        self.family = family
        self._owns_weights = isinstance(model, Path)
        self.takes_adapters = not self._owns_weights
        self.model = inference_model(family, model, config or ModelConfig()) if isinstance(model, Path) else model
        self._device = next(self.model.parameters()).device
        self.load = load
        self.features = None if features is None else FeatureCache(family, self.model, features)
        self.batch_tokens = batch_tokens
        self.version = 0
        self._asleep = False
        self._tickets = 0
        self._windows: deque[list[int]] = deque()
        self._pending: dict[int, Request] = {}
        self._stream: Iterator[Result | None] | None = None
        self._modes: tuple[dict[str, Any], ...] = ()
        self._computes_on = self._device
        self._incomplete: int | None = None
        #: Updates that brought tensors: keys that were computed before are of other weights.
        self._changes = 0
        self._batch: Batch | None = None
        self._counters = dict.fromkeys(COUNTERS, 0.0)
        self._recorder = SpanRecorder()

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``."""
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        self._pending.update(zip(tickets, requests, strict=True))
        if tickets:
            self._windows.append(tickets)
        return tickets

    def results(self) -> Iterator[Result | None]:
        """See ``Engine``. It pauses after every step, and nothing is computed unless what comes next is asked for."""
        end = object()
        while (result := self._next_result(end)) is not end:
            yield result  # type: ignore[misc]

    def partial(self, ticket: int) -> list[list[int]]:
        """The token ids so far of the ``n`` responses of a pending request; empty where it waits for its batch.

        Raises:
            KeyError: the request is not pending.
        """
        request = self._pending[ticket]
        said = None if self._batch is None else self._batch.partial(ticket)
        return [[] for _ in range(request.n)] if said is None else said

    def stats(self) -> dict[str, float]:
        """Counters since the engine was opened.

        ``prompt_tokens`` are those of all responses, and ``cached_tokens`` those among them that were not computed for
        that response, because another one has the same prompt or begins alike. ``prefilled_tokens`` are what prefills
        computed, ``prefills`` the prompts in them: more than there were requests, after weights that came in the middle
        of responses. ``new_tokens`` were drawn.
        """
        return dict(self._counters)

    def spans(self) -> dict[str, list[Span]]:
        """What the engine did since the last call: steps of generation, and the prefills within them."""
        return {"local": self._recorder.take()}

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        for ticket in tickets:
            self._pending.pop(ticket, None)
        if not self._pending:
            self._forget()

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the weights of ``version``, one tensor after the other.

        Responses that were begun go on from their tokens: keys that older weights made are computed anew.

        Raises:
            ConfigError: the version is older, or a tensor is not of this model. Where tensors had been copied before,
                the engine generates nothing until an update has come through.
        """
        if version < self.version:
            raise ConfigError(f"weights of version {version}: the engine has version {self.version} already")
        self.wake()
        # Tied weights go by either name.
        own = {weight_name(name): p for name, p in self.model.named_parameters(remove_duplicate=False)}
        before, copied, came = self._incomplete, False, False
        self._incomplete = version
        with torch.no_grad():
            for name, tensor in tensors:
                if name not in own or own[name].shape != tensor.shape:
                    self._incomplete = version if copied else before
                    shape = tuple(own[name].shape) if name in own else "no such tensor"
                    raise ConfigError(
                        f"weights of version {version}: {name!r} has shape {tuple(tensor.shape)}, the engine's model "
                        f"has {shape}; they are of another model"
                    )
                came = True
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
                    copied = True
        self.version, self._incomplete = version, None
        self._changes += came

    def sleep(self) -> None:
        """Move weights of its own to the CPU. A trainer's weights stay where they are; caches live for one batch."""
        if self._owns_weights and not self._asleep:
            self.model.to("cpu")
        self._asleep = True

    def wake(self) -> None:
        """Move weights of its own back."""
        if self._owns_weights and self._asleep:
            self.model.to(self._device)
            if self._batch is not None:
                self._batch.forget_graph()
        self._asleep = False

    def close(self) -> None:
        """Drop what is pending, and sleep."""
        self._forget()
        self.sleep()

    def _forget(self) -> None:
        """Drop what is pending, and the keys of the batch under way."""
        self._pending.clear()
        self._windows.clear()
        self._stream = self._batch = None

    def _next_result(self, end: object) -> object:
        if self._incomplete is not None:
            self._forget()
            raise EasyVideoError(
                f"weights of version {self._incomplete} came only in part; update the engine's weights again"
            )
        if self._stream is None:
            self._stream = self._all_results()
            # Both take long to find for a step of a small model.
            self._modes, self._computes_on = tuple(map(vars, self.model.modules())), compute_device(self.model)
        self.wake()
        try:
            # Compiled layers are for long rows: responses that grow and leave would have them compiled again and again.
            with (
                torch.no_grad(),
                untouched_memory(),
                computing(self.model, self._computes_on),
                torch.compiler.set_stance("force_eager"),
                taking_layouts(self.model),
                evaluating(self._modes),
                self._recorder("generate"),
            ):
                result = next(self._stream, end)
        except BaseException:
            self._forget()
            raise
        if not self._pending:
            self._forget()  # a caller that has what it wants may never ask again, and the keys would stay
        return result

    def _all_results(self) -> Iterator[Result | None]:
        while self._windows:
            yield from self._window_results(self._windows.popleft())

    def _window_results(self, window: Sequence[int]) -> Iterator[Result | None]:
        waiting = deque(sorted((t for t in window if t in self._pending), key=lambda t: _batch_key(self._pending[t])))
        while waiting:
            requests: dict[int, Request] = {}
            media = BatchMedia(self.load, self.features)
            while waiting:
                request = self._pending.get(waiting[0])
                if request is not None and not self._fits(request, requests):
                    break
                ticket = waiting.popleft()
                if request is None:  # cancelled
                    continue
                try:
                    media.read(request)
                except (MediaError, DataError) as error:
                    del self._pending[ticket]
                    yield Result(ticket, request, fault=error)
                else:
                    requests[ticket] = request
            requests = {ticket: request for ticket, request in requests.items() if ticket in self._pending}
            if requests:
                yield from self._batch_results(requests, media)

    def _fits(self, request: Request, batch: dict[int, Request]) -> bool:
        """Whether a request may join a batch; its prompt is the longest then."""
        for first in batch.values():
            same_shape = (request.n, request.sampling) == (first.n, first.sampling)
            return same_shape and (len(batch) + 1) * self._cache_tokens(request) <= self.batch_tokens
        return True

    def _cache_tokens(self, request: Request) -> int:
        """Keys that the cache may come to hold for a request."""
        copies = 1 if self.family.shares_prefix else request.n
        return copies * len(request.prompt) + request.n * request.sampling.max_new_tokens

    def _batch_results(self, requests: dict[int, Request], media: BatchMedia) -> Iterator[Result | None]:
        self._batch = Batch(
            *(self.family, self.model, requests),
            media=media,
            counters=self._counters,
            spans=self._recorder,
            graphs=self.cuda_graphs,
        )
        yield from self._batch.results(self._pending, lambda: (self.version, self._changes))
        self._batch = None


def _batch_key(request: Request) -> tuple[Any, ...]:
    return (request.n, astuple(request.sampling), len(request.prompt))
