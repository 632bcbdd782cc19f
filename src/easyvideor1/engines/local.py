"""Generation with transformers alone: every prompt is prefilled once and its cache serves all its responses.

The n responses of a prompt live in one row: after the prompt's keys come n keys per decoded step, and a mask lets
response ``i`` see the prompt and its own tokens only. Nothing is copied n times, and the vision tower runs once per
prompt. (For very long responses the masked siblings cost attention time; a paged engine is the better choice there.)

A family whose layers cannot branch (``shares_prefix`` is False) gets a row per response: the prompt is still prefilled
once, and its cache is then copied n times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.engines.engine import Engine, OnAnswer, Request, Sampling
from easyvideor1.engines.growing import GrowingResponses
from easyvideor1.engines.penalties import SeenTokens
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family, computing
from easyvideor1.families.features import FeatureCache, load_visual
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.packing.logprobs import masked_logits
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, Trajectory

ENGINES: Registry[Any] = Registry("engine")


@ENGINES.register("local")
class LocalEngine:
    """Batched generation on the policy's own module.

    The engine holds a reference to the trained module, not a copy: ``load_weights`` with the module's own tensors only
    notes the version, with others (a checkpoint, a remote trainer) it copies them in.
    """

    #: ``open_engine`` hands it a feature cache where there is one.
    takes_features = True
    #: It is given adapters beside the weights they change, in place of merged weights.
    takes_adapters = True

    def __init__(
        self,
        family: Family,
        model: Any,
        load: LoadFrames,
        *,
        batch_tokens: int = 65_536,
        features: FeatureCache | None = None,
    ) -> None:
        self.family = family
        self.model = model
        self.load = load
        self.features = features
        self.batch_tokens = batch_tokens
        self.version = 0

    def load_weights(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the weights of ``version``.

        Raises:
            ConfigError: a tensor is not of this model; nothing is changed then.
        """
        # Tied weights go by either name.
        own = {weight_name(name): p for name, p in self.model.named_parameters(remove_duplicate=False)}
        for name, tensor in tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                shape = tuple(own[name].shape) if name in own else "no such tensor"
                raise ConfigError(
                    f"weights of version {version}: {name!r} has shape {tuple(tensor.shape)}, the engine's model has "
                    f"{shape}; they are of another model"
                )
        with torch.no_grad():
            for name, tensor in tensors.items():
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
        self.version = version

    def sleep(self) -> None:
        """Nothing to release: weights are the trainer's and caches live for one call."""

    def wake(self) -> None:
        """The counterpart of ``sleep``."""

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], on_answer: OnAnswer | None = None) -> list[tuple[Trajectory, ...]]:
        """See ``Engine``. Requests of one shape (n, sampling) are batched up to ``batch_tokens``, short prompts first.

        The random numbers of a response do not depend on the batch; its logits do in the last bits, as matrix products
        of another shape round differently.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            # Compiled layers are for long rows: with a cache that grows they would be compiled again and again.
            with computing(self.model), torch.compiler.set_stance("force_eager"):
                return self._generate_all(requests, on_answer)
        finally:
            self.model.train(was_training)

    def _generate_all(self, requests: Sequence[Request], on_answer: OnAnswer | None) -> list[tuple[Trajectory, ...]]:
        order = sorted(range(len(requests)), key=lambda i: _batch_key(requests[i]))
        results: dict[int, tuple[Trajectory, ...]] = {}
        start = 0
        while start < len(order):
            first = requests[order[start]]
            batch: list[int] = []
            for index in order[start:]:
                same_shape = (requests[index].n, requests[index].sampling) == (first.n, first.sampling)
                if not same_shape or (
                    batch and (len(batch) + 1) * self._cache_tokens(requests[index]) > self.batch_tokens
                ):
                    break
                batch.append(index)
            tell = None if on_answer is None else partial(_tell, on_answer, batch)
            generated = self._generate_batch([requests[i] for i in batch], first.n, first.sampling, tell)
            results.update(zip(batch, generated, strict=True))
            start += len(batch)
        return [results[i] for i in range(len(requests))]

    def _cache_tokens(self, request: Request) -> int:
        """Keys that the cache may come to hold for a request."""
        copies = 1 if self.family.shares_prefix else request.n
        return copies * len(request.prompt) + request.n * request.sampling.max_new_tokens

    def _generate_batch(
        self, requests: Sequence[Request], n: int, sampling: Sampling, on_answer: OnAnswer | None
    ) -> list[tuple[Trajectory, ...]]:
        from transformers import DynamicCache

        device = next(self.model.parameters()).device
        text = self.model.config.get_text_config()
        cache = DynamicCache(config=text)
        hidden, following, key_mask = self._prefill(requests, cache, device)
        uniforms = np.stack([[_uniforms(r.seed, i, sampling.max_new_tokens) for i in range(n)] for r in requests])
        rows = len(requests)
        if not self.family.shares_prefix:
            copies = torch.arange(rows, device=device).repeat_interleave(n)
            cache.reorder_cache(copies)  # any selection of rows, not for beams alone
            hidden, following, key_mask = hidden[copies], following[copies], key_mask[copies]
            rows, n, uniforms = rows * n, 1, uniforms.reshape(rows * n, 1, -1)
        stop = np.asarray(self.family.stop_token_ids)
        own_keys = torch.eye(n, dtype=torch.bool, device=device)[None, None]
        finished = np.zeros((rows, n), dtype=bool)
        alive = np.arange(rows)
        out = GrowingResponses(requests, stop, self.family.tokenizer, on_answer)
        hidden = hidden.expand(-1, n, -1)
        seen: SeenTokens | None = None
        if sampling.penalises:
            prompts = [request.prompt for request in requests for _ in range(rows // len(requests))]
            seen = SeenTokens(prompts, n, text.vocab_size, device)
        for step in range(sampling.max_new_tokens):
            logits = masked_logits(self.family, self.model, hidden, 1.0 if sampling.greedy else sampling.temperature)
            drawn_from = None if seen is None else seen.penalised(logits, sampling)
            ids_Rn, logprobs_Rn = _draw(logits, uniforms[alive, :, step], sampling, drawn_from)
            if seen is not None:
                seen.add(torch.from_numpy(ids_Rn).to(device))
            full_ids = np.full((rows, n), self.family.pad_token_id)
            full_logprobs = np.zeros((rows, n), dtype=np.float32)
            full_ids[alive], full_logprobs[alive] = ids_Rn, logprobs_Rn
            finished[alive] |= np.isin(ids_Rn, stop)
            out.add(full_ids, full_logprobs, finished)
            if finished.all() or step + 1 == sampling.max_new_tokens:
                break
            keep = ~finished[alive].all(axis=1)
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
            hidden = self.family.hidden_states(
                self.model, torch.from_numpy(ids_Rn).to(device), positions, key_mask, None, cache
            )
        return out.collect()

    def _prefill(
        self, requests: Sequence[Request], cache: Any, device: torch.device
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
        visual = load_visual(prompts, self.family, self.load, features=self.features, device=device)
        keys = torch.from_numpy(real).to(device)[:, None, None, :]
        mask = None
        if not self.family.shares_prefix:
            causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
            # Padding queries see themselves, so that no row of the softmax is empty.
            mask = (causal & keys) | torch.eye(length, dtype=torch.bool, device=device)
        hidden = self.family.hidden_states(
            self.model,
            torch.from_numpy(ids).to(device),
            torch.from_numpy(positions).to(device),
            mask,
            None if visual is None else visual.to(device),
            cache,
        )
        last = [len(prompt) - 1 if self.family.shares_prefix else length - 1 for prompt in prompts]
        return hidden[range(len(prompts)), last][:, None], torch.from_numpy(following).to(device), keys


def _tell(on_answer: OnAnswer, batch: Sequence[int], row: int, answers: tuple[Trajectory, ...]) -> None:
    on_answer(batch[row], answers)


def _batch_key(request: Request) -> tuple[Any, ...]:
    return (request.n, astuple(request.sampling), len(request.prompt))


def _uniforms(seed: int, response: int, count: int) -> NDArray[np.float64]:
    """The random numbers of one response: a function of its seed and index, whatever else is in the batch."""
    # As an array of this type: numpy takes a list with a number beyond 2**63 for floats, and seeds would coincide.
    key = np.array([seed % 2**64, response], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def _draw(
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
        probabilities = _truncate(full, sampling).double()
        cumulative = probabilities.cumsum(-1)
        threshold = torch.from_numpy(uniforms_Pn).to(logits_PnV.device)[..., None] * cumulative[..., -1:]
        # right=True skips tokens of probability 0, whose cumulative value equals their predecessor's.
        ids = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp_max(logits_PnV.shape[-1] - 1)
    picked = log_PnV.gather(-1, ids[..., None]).squeeze(-1)
    return ids.cpu().numpy(), picked.float().cpu().numpy()


def _truncate(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
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


def open_engine(
    name: str,
    family: Family,
    model: Any,
    load: LoadFrames,
    *,
    batch_tokens: int,
    features: FeatureCache | None = None,
) -> Engine:
    """The engine a config names: a registered name or ``module:attr`` of a class with the same signature.

    ``features`` is given to engines that say ``takes_features``; others compute what it would have held.
    """
    kind = ENGINES.resolve(name)
    options: dict[str, Any] = {"batch_tokens": batch_tokens}
    if features is not None and getattr(kind, "takes_features", False):
        options["features"] = features
    engine: Engine = kind(family, model, load, **options)
    return engine
