"""The local engine before static caches, unchanged but for its imports: what ``benchmarks.engines`` compares with.

Generation with transformers alone: every prompt is prefilled once and its cache serves all its responses.

The n responses of a prompt live in one row: after the prompt's keys come n keys per decoded step, and a mask lets
response ``i`` see the prompt and its own tokens only. Nothing is copied n times, and the vision tower runs once per
prompt. (For very long responses the masked siblings cost attention time; a paged engine is the better choice there.)

A family whose layers cannot branch (``shares_prefix`` is False) gets a row per response: the prompt is still prefilled
once, and its cache is then copied n times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engines_before.decoding import GrowingResponses, SeenTokens, draw, uniforms
from easyvideor1.config import ModelConfig
from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.registry import inference_model
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family, computing
from easyvideor1.families.features import FeatureCache, FeatureStore, load_visual
from easyvideor1.families.inputs import LoadFrames, load_checked
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.logprobs import masked_logits
from easyvideor1.types import (
    ConfigError,
    DataError,
    EasyVideoError,
    Frames,
    MediaError,
    MediaPlan,
    MediaRef,
)

#: Under autocast, results are yielded after every so many tokens only: a pause ends autocast, which then casts all
#: weights again.
_PACE = 16


class EarlierLocalEngine:
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
        self._stream: Iterator[Result] | None = None
        self._incomplete: int | None = None

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``."""
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        self._pending.update(zip(tickets, requests, strict=True))
        if tickets:
            self._windows.append(tickets)
        return tickets

    def results(self) -> Iterator[Result]:
        """See ``Engine``. Nothing is computed between two results unless the next one is asked for."""
        while (result := self._next_result()) is not None:
            yield result

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        for ticket in tickets:
            self._pending.pop(ticket, None)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the weights of ``version``, one tensor after the other.

        Raises:
            ConfigError: the version is older, or a tensor is not of this model. Where tensors had been copied before,
                the engine generates nothing until an update has come through.
        """
        if version < self.version:
            raise ConfigError(f"weights of version {version}: the engine has version {self.version} already")
        self.wake()
        # Tied weights go by either name.
        own = {weight_name(name): p for name, p in self.model.named_parameters(remove_duplicate=False)}
        before, copied = self._incomplete, False
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
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
                    copied = True
        self.version, self._incomplete = version, None

    def sleep(self) -> None:
        """Move weights of its own to the CPU. A trainer's weights stay where they are; caches live for one batch."""
        if self._owns_weights and not self._asleep:
            self.model.to("cpu")
        self._asleep = True

    def wake(self) -> None:
        """Move weights of its own back."""
        if self._owns_weights and self._asleep:
            self.model.to(self._device)
        self._asleep = False

    def close(self) -> None:
        """Drop what is pending, and let go of the model."""
        self._forget()
        self.sleep()

    def _forget(self) -> None:
        self._pending.clear()
        self._windows.clear()
        self._stream = None

    def _next_result(self) -> Result | None:
        if self._incomplete is not None:
            self._forget()
            raise EasyVideoError(
                f"weights of version {self._incomplete} came only in part; update the engine's weights again"
            )
        if self._stream is None:
            self._stream = self._all_results()
        self.wake()
        was_training = self.model.training
        self.model.eval()
        try:
            # Compiled layers are for long rows: with a cache that grows they would be compiled again and again.
            with torch.no_grad(), computing(self.model), torch.compiler.set_stance("force_eager"):
                result = next(self._stream, None)
        except BaseException:
            self._forget()
            raise
        finally:
            self.model.train(was_training)
        if result is None:
            self._stream = None
        return result

    def _all_results(self) -> Iterator[Result]:
        while self._windows:
            yield from self._window_results(self._windows.popleft())

    def _window_results(self, window: Sequence[int]) -> Iterator[Result]:
        waiting = deque(sorted((t for t in window if t in self._pending), key=lambda t: _batch_key(self._pending[t])))
        while waiting:
            batch: dict[int, Request] = {}
            frames: dict[tuple[str, tuple[int, int, int]], Frames] = {}
            while waiting:
                request = self._pending.get(waiting[0])
                if request is not None and not self._fits(request, batch):
                    break
                ticket = waiting.popleft()
                if request is None:  # cancelled
                    continue
                try:
                    self._read(request, frames)
                except (MediaError, DataError) as error:
                    del self._pending[ticket]
                    yield Result(ticket, request, fault=error)
                else:
                    batch[ticket] = request
            batch = {ticket: request for ticket, request in batch.items() if ticket in self._pending}
            if batch:
                yield from self._batch_results(batch, frames)

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

    def _read(self, request: Request, frames: dict[tuple[str, tuple[int, int, int]], Frames]) -> None:
        """Add the frames that a request needs to those of its batch.

        Raises:
            MediaError: a medium cannot be read.
            DataError: frames are not those of their plan.
        """
        for ref, plan in zip(request.prompt.media, request.prompt.plans, strict=True):
            key = (plan.digest, plan.grid)
            if key not in frames and not (self.features is not None and self.features.has(plan)):
                frames[key] = load_checked(ref, plan, self.load)

    def _batch_results(
        self, batch: dict[int, Request], frames: dict[tuple[str, tuple[int, int, int]], Frames]
    ) -> Iterator[Result]:
        from transformers import DynamicCache

        def load(ref: MediaRef, plan: MediaPlan) -> Frames:
            found = frames.get((plan.digest, plan.grid))
            return self.load(ref, plan) if found is None else found

        tickets, requests = list(batch), list(batch.values())
        n, sampling = requests[0].n, requests[0].sampling
        device = next(self.model.parameters()).device
        text = self.model.config.get_text_config()
        cache = DynamicCache(config=text)
        hidden, following, key_mask = self._prefill(requests, load, cache, device)
        frames.clear()
        numbers = np.stack([[uniforms(r.seed, i, sampling.max_new_tokens) for i in range(n)] for r in requests])
        rows = len(requests)
        if not self.family.shares_prefix:
            copies = torch.arange(rows, device=device).repeat_interleave(n)
            cache.reorder_cache(copies)  # any selection of rows, not for beams alone
            hidden, following, key_mask = hidden[copies], following[copies], key_mask[copies]
            rows, n, numbers = rows * n, 1, numbers.reshape(rows * n, 1, -1)
        own_keys = torch.eye(n, dtype=torch.bool, device=device)[None, None]
        alive = np.arange(rows)
        pace = 1 if getattr(self.model, "compute_dtype", torch.float32) == torch.float32 else _PACE
        out = GrowingResponses(requests, np.asarray(self.family.stop_token_ids), self.family.tokenizer)
        hidden = hidden.expand(-1, n, -1)
        seen: SeenTokens | None = None
        if sampling.penalises:
            prompts = [request.prompt for request in requests for _ in range(rows // len(requests))]
            seen = SeenTokens(prompts, n, text.vocab_size, device)
        for step in range(sampling.max_new_tokens):
            logits = masked_logits(self.family, self.model, hidden, 1.0 if sampling.greedy else sampling.temperature)
            drawn_from = None if seen is None else seen.penalised(logits, sampling)
            ids_Rn, logprobs_Rn = draw(logits, numbers[alive, :, step], sampling, drawn_from)
            if seen is not None:
                seen.add(torch.from_numpy(ids_Rn).to(device))
            full_ids = np.full((rows, n), self.family.pad_token_id)
            full_logprobs = np.zeros((rows, n), dtype=np.float32)
            full_ids[alive], full_logprobs[alive] = ids_Rn, logprobs_Rn
            done = out.add(full_ids.reshape(-1), full_logprobs.reshape(-1), self.version)
            for row in done if (step + 1) % pace == 0 else ():
                if self._pending.pop(tickets[row], None) is not None:
                    yield Result(tickets[row], requests[row], out.take(row))
            for row in out.open:
                if tickets[row] not in self._pending:
                    out.drop(row)
            if out.finished.all() or step + 1 == sampling.max_new_tokens:
                break
            keep = ~out.finished.reshape(rows, n)[alive].all(axis=1)
            if keep.mean() <= 0.75:  # drop finished rows only when it frees enough to pay for the copy
                kept = torch.from_numpy(np.flatnonzero(keep)).to(device)
                cache.reorder_cache(kept)
                key_mask, following = key_mask[kept], following[kept]
                alive, ids_Rn = alive[keep], ids_Rn[keep]
                if seen is not None:
                    seen.keep(kept)
            grown = own_keys.expand(len(alive), 1, n, n)
            key_mask = torch.cat([key_mask.expand(-1, -1, n, -1), grown], dim=-1)
            positions = (following + step)[None, :, None].expand(3, -1, n)
            hidden = hidden_states(
                self.family, self.model, torch.from_numpy(ids_Rn).to(device), positions, key_mask, None, cache
            )
        for row in out.open:
            if self._pending.pop(tickets[row], None) is not None:
                yield Result(tickets[row], requests[row], out.take(row))

    def _prefill(
        self, requests: Sequence[Request], load: LoadFrames, cache: Any, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fill the cache with padded prompts.

        Padding stands behind the prompts, where no token of theirs sees it: attention is causal, and no mask of
        ``T x T`` is made. Layers that carry a state from token to token would carry it into that state, so for them
        padding stands before the prompts, under a mask.

        Returns:
            The last hidden state ``(P, 1, D)``, the position of the first response token ``(P,)``, and the mask
            ``(P, 1, 1, T)`` of the keys that are no padding.
        """
        prompts = [request.prompt for request in requests]
        length = max(len(prompt) for prompt in prompts)
        ids = np.full((len(prompts), length), self.family.pad_token_id, dtype=np.int64)
        positions = np.zeros((3, len(prompts), length), dtype=np.int64)
        following = np.zeros(len(prompts), dtype=np.int64)
        real = np.zeros((len(prompts), length), dtype=bool)
        for row, prompt in enumerate(prompts):
            start = 0 if self.family.shares_prefix else length - len(prompt)
            own = slice(start, start + len(prompt))
            ids[row, own], real[row, own] = prompt.token_ids, True
            positions[:, row, own], following[row] = self.family.positions(prompt)
        visual = load_visual(prompts, self.family, load, features=self.features, device=device)
        keys = torch.from_numpy(real).to(device)[:, None, None, :]
        mask = None
        if not self.family.shares_prefix:
            causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
            # Padding queries see themselves, so that no row of the softmax is empty.
            mask = (causal & keys) | torch.eye(length, dtype=torch.bool, device=device)
        hidden = hidden_states(
            self.family,
            self.model,
            torch.from_numpy(ids).to(device),
            torch.from_numpy(positions).to(device),
            mask,
            None if visual is None else visual.to(device),
            cache,
        )
        last = [len(prompt) - 1 if self.family.shares_prefix else length - 1 for prompt in prompts]
        return hidden[range(len(prompts)), last][:, None], torch.from_numpy(following).to(device), keys


def _batch_key(request: Request) -> tuple[Any, ...]:
    return (request.n, astuple(request.sampling), len(request.prompt))
