"""Attention of responses that grow, each to its prompt and to its own tokens, without a mask over siblings.

Keys of a prompt are there once, however many responses branch off it; keys of a response are its own. A decoding step
attends to the two parts one after the other and joins them by their log-sum-exp, which is one softmax over both (as in
"Hydragen": Juravsky et al. 2024, sec. 3.1). Buffers are allocated ahead, and a step writes into them.

The responses of a batch have drawn equally many tokens. Shapes: ``P`` prompts of up to ``S`` tokens, ``R`` responses,
``H`` heads, ``K`` heads of keys (a divisor of ``H``), ``D`` their width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from easyvideor1.attention.layout import Layout

#: Tokens of a response that buffers hold at first; where more come, they double. With static shapes a buffer that grows
#: costs more than its copy.
FIRST_CAPACITY, FIRST_STATIC = 16, 64

Part = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Branches:
    """Where the keys of prompts and responses are found among those of a prefill, whose rows are laid end to end.

    ``prompts`` is int64 ``(P, S)``, ``lengths`` int64 ``(P,)``: behind its length a prompt is padded, with any columns.
    ``own`` is int64 ``(R, T)`` for the ``T`` tokens that each response has already. ``parents`` is int64 ``(R,)``, in
    order: the prompt of every response.
    """

    prompts: torch.Tensor
    lengths: torch.Tensor
    own: torch.Tensor
    parents: torch.Tensor


class BranchKeys:
    """Keys and values of prompts and of the responses that branch off them, layer by layer.

    A prefill fills it (``keep``), every decoding step then adds one token per response (``attend``); whoever makes the
    step counts it (``length``). It goes to a language model as the ``mask`` of ``Family.decode``.

    Args:
        branches: of the prefill.
        layout: of its packed row; None if every text has a row of its own, padded behind it.
        limit: tokens of a response that there may come to be.
        static: attend over whole buffers under a mask, so that all shapes of a step, and all addresses, stay the same
            until ``reserve`` says otherwise. Else over the tokens that are there.
    """

    def __init__(self, branches: Branches, layout: Layout | None, *, limit: int, static: bool = False) -> None:
        self.layout = layout
        self.static = static
        self.filling = True
        #: Tokens of every response.
        self.length = branches.own.shape[1]
        self._branches = branches
        self._limit = limit
        self._capacity = min(max(FIRST_STATIC if static else FIRST_CAPACITY, 2 * self.length), limit)
        self._prompts: dict[int, Part] = {}
        self._own: dict[int, Part] = {}
        device = branches.parents.device
        #: The same on the device, for steps whose shapes are static.
        self._at = torch.full((1,), self.length, dtype=torch.int64, device=device)
        longest = branches.prompts.shape[1]
        self._bias: torch.Tensor | None = None
        if bool((branches.lengths < longest).any()):
            seen = torch.arange(longest, device=device) < branches.lengths[:, None]
            self._bias = torch.zeros(seen.shape, device=device).masked_fill_(~seen, float("-inf"))[:, None, None]
        self._arrange(branches.parents)

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take the keys and values ``(B, K, L, D)`` of a prefill of ``B`` rows."""
        heads, width = key.shape[1], key.shape[3]
        # A token has its heads one after the other, as layers of transformers lay them: no copy.
        parts = [_computing(each).transpose(1, 2).reshape(-1, width) for each in (key, value)]  # (B * L * K, D)
        self._prompts[layer] = _pair(_rows_of(each, self._branches.prompts, heads) for each in parts)
        shape = (len(self._branches.parents), heads, self._capacity, width)
        own = _pair(self._empty(each, shape) for each in parts)
        if self.length:
            for buffer, each in zip(own, parts, strict=True):
                buffer[:, :, : self.length] = _rows_of(each, self._branches.own, heads)
        self._own[layer] = own

    def filled(self) -> None:
        """The prefill is done; steps follow."""
        self.filling, self.layout = False, None

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """One decoding step of a layer: ``(1, H, R, D)`` queries, ``(1, K, R, D)`` keys and values to ``(1, R, H, D)``.

        The keys are kept as those of the token ``length``.
        """
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                dtype = torch.get_autocast_dtype(kind)
                return self.attend(layer, query.to(dtype), key.to(dtype), value.to(dtype), scale)
        query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
        own, bias = self._own[layer], None
        if self.static:
            for buffer, new in zip(own, (key, value), strict=True):
                buffer.index_copy_(2, self._at, new[:, :, None])
            seen = torch.arange(self._capacity, device=query.device) <= self._at
            bias = torch.zeros(seen.shape, device=query.device).masked_fill_(~seen, float("-inf"))
        else:
            for buffer, new in zip(own, (key, value), strict=True):
                buffer[:, :, self.length] = new
            own = _pair(buffer[:, :, : self.length + 1] for buffer in own)
        responses, heads, width = query.shape
        groups = query.reshape(responses, key.shape[1], heads // key.shape[1], width)
        prompt, prompt_sum = self._prompt_part(groups, self._prompts[layer], scale)
        out, own_sum = _part(groups, *own, bias, scale, few=True)
        share = torch.sigmoid(prompt_sum - own_sum)[..., None]
        joined = torch.lerp(out.to(share.dtype), prompt.to(share.dtype), share)
        return joined.to(query.dtype).view(1, responses, heads, width)

    def _prompt_part(self, groups: torch.Tensor, prompt: Part, scale: float) -> Part:
        """Attention of ``(R, K, G, D)`` queries to their prompts, all queries of a prompt together."""
        _, heads, group, width = groups.shape
        fill, slots = self._places(heads)
        together = groups.reshape(-1, group * width).index_select(0, fill).view(self._count, heads, -1, width)
        out, total = _part(together, *prompt, self._bias, scale)
        out = out.reshape(-1, group * width).index_select(0, slots)
        return out.view(groups.shape), total.reshape(-1, group).index_select(0, slots).view(groups.shape[:3])

    def begin(self, at: torch.Tensor) -> None:
        """A step whose shapes are static writes its keys at ``at``, int64 ``(1,)``."""
        self._at = at

    def reserve(self, steps: int) -> bool:
        """Make room for so many further steps. Returns whether buffers moved."""
        wanted = min(self.length + steps, self._limit)
        if wanted <= self._capacity:
            return False
        self._capacity = min(max(2 * self._capacity, wanted), self._limit)
        for layer, pair in self._own.items():
            grown = []
            for buffer in pair:
                new = self._empty(buffer, (*buffer.shape[:2], self._capacity, buffer.shape[3]))
                new[:, :, : buffer.shape[2]] = buffer
                grown.append(new)
            self._own[layer] = _pair(grown)
        return True

    def _empty(self, like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        # Where whole buffers are attended to: empty memory may hold NaN, which a weight of 0 does not hide.
        return like.new_zeros(shape) if self.static else like.new_empty(shape)

    def select(self, kept: torch.Tensor) -> None:
        """Keep the responses ``kept``, int64 in order, and the prompts that any of them has."""
        parents = self._parents[kept]
        prompts, renamed = torch.unique(parents, return_inverse=True)
        self._own = _selected(self._own, kept)
        if len(prompts) < self._count:
            self._prompts = _selected(self._prompts, prompts)
            self._bias = None if self._bias is None else self._bias[prompts]
        self._arrange(renamed)

    def _arrange(self, parents: torch.Tensor) -> None:
        """Give every response a place among those of its prompt; prompts have equally many, some of them empty."""
        counts = torch.bincount(parents)
        self._parents, self._count, self._per_prompt = parents, len(counts), int(counts.max())
        first = counts.cumsum(0) - counts
        self._ranks = torch.arange(len(parents), device=parents.device) - first[parents]
        self._found: tuple[torch.Tensor, torch.Tensor] | None = None

    def _places(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Which query of ``(R, K)`` stands in which place of ``(P, K, places)``, and in which place a query stands.

        Both int64, flat. In an empty place stands any query.
        """
        if self._found is None:
            queries = torch.arange(len(self._parents) * heads, device=self._parents.device)
            rows = self._parents[:, None] * heads + torch.arange(heads, device=self._parents.device)
            slots = (rows * self._per_prompt + self._ranks[:, None]).reshape(-1)
            fill = torch.zeros(self._count * heads * self._per_prompt, dtype=torch.int64, device=slots.device)
            fill[slots] = queries
            self._found = fill, slots
        return self._found


def _pair(parts: Iterable[torch.Tensor]) -> Part:
    key, value = parts
    return key, value


def _rows_of(tokens: torch.Tensor, columns: torch.Tensor, heads: int) -> torch.Tensor:
    """``(B, K, T, D)`` of ``(L * K, D)``, the ``K`` heads of ``L`` tokens, at the tokens ``(B, T)``."""
    rows = columns[:, None] * heads + torch.arange(heads, device=columns.device)[:, None]
    return tokens.index_select(0, rows.flatten()).view(*rows.shape, tokens.shape[1])


def _selected(parts: dict[int, Part], kept: torch.Tensor) -> dict[int, Part]:
    """Rows of every layer's tensors; on the CPU faster than by an index in brackets."""
    return {layer: _pair(each.index_select(0, kept) for each in pair) for layer, pair in parts.items()}


def _computing(tensor: torch.Tensor) -> torch.Tensor:
    """In the type of autocast where that is on: attention of parts is not among what autocast prepares itself."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def _part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    *,
    few: bool = False,
) -> Part:
    """Attention of ``(B, K, Q, D)`` queries to ``(B, K, S, D)`` keys, every head to its own, and its log-sum-exp.

    ``bias``, which broadcasts to ``(B, K, Q, S)``, is added to the products. ``few`` queries of each head: then, on
    the CPU in float32, two products of matrices are faster than the fused kernel.
    """
    exact = query.dtype in (torch.float32, torch.float64)
    if query.device.type == "cpu" and not (few and exact):
        mask = None if bias is None else bias.to(query.dtype).expand(len(query), 1, query.shape[2], key.shape[2])
        forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, total = forward(query, key, value, 0.0, False, attn_mask=mask, scale=scale)
        return out, total
    flat_query, flat_key, flat_value = (each.flatten(0, 1) for each in (query, key, value))
    if exact:
        nothing = flat_query.new_zeros(())
        products = torch.baddbmm(nothing, flat_query, flat_key.transpose(1, 2), beta=0, alpha=scale)
    else:  # sums of 16-bit products, in float32
        products = torch.bmm(flat_query, flat_key.transpose(1, 2), out_dtype=torch.float32).mul_(scale)
    products = products.view(*query.shape[:3], key.shape[2])
    if bias is not None:
        products = products.add_(bias)
    highest = products.amax(-1, keepdim=True)
    weights = products.sub_(highest).exp_()
    sums = weights.sum(-1, keepdim=True)
    out = torch.bmm(weights.flatten(0, 1).to(value.dtype), flat_value).view(query.shape)
    return out / sums.to(out.dtype), (sums.log() + highest).squeeze(-1)
