"""Log-probabilities and entropy of response tokens; only these have logits, and only a chunk of them at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from easyvideor1.algorithms.kl import full_kl
from easyvideor1.algorithms.weighters import position_divergence
from easyvideor1.families.family import Family, computing
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.micro_batch import MicroBatch

#: Logits that exist at a time, as a number of values: 64 MiB in float32, of which a pass holds about three. Wide models
#: take more, a quarter of the size of their output matrix, whose gradient is there and grows by one sum per chunk.
CHUNK_LOGITS = 2**24


def masked_logits(family: Family, model: Any, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits ``(..., V)`` of the sampling distribution: visual tokens excluded, divided by temperature.

    They are float32 whatever the model computes in, float64 if it does. Engine and trainer both call this, so that they
    agree on what distribution a response was drawn from.
    """
    with computing(model, hidden.device):
        # In two dimensions: with more, torch chooses the kernel by whether the matrix has a gradient, so that engines
        # with frozen weights of their own would differ from the trainer in the last bit.
        logits = family.logits(model, hidden.reshape(-1, hidden.shape[-1]))
        logits = logits.reshape(*hidden.shape[:-1], logits.shape[-1])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    banned = _indices(family.visual_token_ids, logits.device)
    if not logits.requires_grad:  # nobody else holds them, and they are the largest thing there is
        logits = logits.index_fill_(-1, banned, float("-inf"))
        return logits if temperature == 1.0 else logits.div_(temperature)
    return logits.index_fill(-1, banned, float("-inf")) / temperature


def _indices(ids: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(ids, device=device) if device.type == "cpu" else _indices_there(tuple(ids), device)


@functools.lru_cache(maxsize=8)
def _indices_there(ids: tuple[int, ...], device: torch.device) -> torch.Tensor:
    # Made once, since a copy to another device makes the host wait for it.
    return torch.tensor(ids, device=device)


def response_hidden(family: Family, model: Any, batch: MicroBatch) -> torch.Tensor:
    """Last hidden states ``(T, D)`` that predict the batch's response tokens: what a value head reads, too.

    Where several ranks compute the batch together, they are those of the tokens that this one takes: ``batch.own``.
    """
    with computing(model):
        hidden = hidden_states(family, model, batch.input_ids, batch.positions, batch.visibility(model), batch.visual)
    if batch.split is not None:
        return batch.split.handed_out(hidden[0])
    return hidden[batch.predictor_rows, batch.predictor_columns]


def response_values(family: Family, model: Any, head: torch.nn.Linear, batch: MicroBatch) -> torch.Tensor:
    """Values ``(T,)`` of the states in which the batch's response tokens are chosen: a head ``(D, 1)`` on ``model``."""
    values: torch.Tensor = head(response_hidden(family, model, batch).to(head.weight.dtype)).squeeze(-1)
    return batch.whole(values)


def response_logprobs(
    family: Family, model: Any, batch: MicroBatch, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the batch's response tokens and their entropies in nats, both ``(T,)``, with gradients.

    Prompt tokens get no logits. Those of response tokens exist for a chunk at a time, forward and backward: between the
    two only hidden states and one number per token are kept.
    """
    return batch_logprobs(family, model, response_hidden(family, model, batch), batch, temperature=temperature)


def batch_logprobs(
    family: Family, model: Any, hidden_TD: torch.Tensor, batch: MicroBatch, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """``response_logprobs`` of hidden states that ``response_hidden`` has given: ``(T,)`` each, on all ranks."""
    found = hidden_logprobs(family, model, hidden_TD, batch.own(batch.targets), temperature=temperature)
    if batch.split is None:
        return found
    logprobs, entropy = batch.whole(torch.stack(found, dim=1)).unbind(1)
    return logprobs, entropy


def hidden_logprobs(
    family: Family, model: Any, hidden_TD: torch.Tensor, targets_T: torch.Tensor, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of ``targets_T`` and entropies, both ``(T,)``, of the hidden states that predict them."""

    def head(part: torch.Tensor) -> torch.Tensor:
        return masked_logits(family, model, part, temperature)

    trained = _leaves(head, hidden_TD) if torch.is_grad_enabled() else ()
    found: tuple[torch.Tensor, torch.Tensor]
    found = _Picked.apply(hidden_TD, targets_T, head, chunk_tokens(model), *trained)  # type: ignore[no-untyped-call]
    return found


def hidden_full_kl(
    family: Family,
    model: Any,
    reference: Any,
    hidden_TD: torch.Tensor,
    reference_TD: torch.Tensor,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """KL(policy || reference) over the vocabulary per token, ``(T,)``, with gradient to the policy alone.

    Args:
        family: of both models.
        model: the policy.
        reference: the reference model.
        hidden_TD: ``response_hidden`` of the policy.
        reference_TD: ``response_hidden`` of the reference.
        temperature: of the rollout.
    """

    def chunk(part: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = masked_logits(family, reference, other, temperature)
        return full_kl(masked_logits(family, model, part, temperature), wanted)

    size = chunk_tokens(model)
    pieces = [
        checkpoint(chunk, part, other, use_reentrant=False) if torch.is_grad_enabled() else chunk(part, other)
        for part, other in zip(torch.split(hidden_TD, size), torch.split(reference_TD, size), strict=True)
    ]
    return torch.cat(pieces)


def chunk_tokens(model: Any) -> int:
    """Tokens whose logits exist at a time."""
    text = model.config.get_text_config()
    return max(CHUNK_LOGITS // int(text.vocab_size), int(text.hidden_size) // 4, 1)


def _leaves(head: Callable[[torch.Tensor], torch.Tensor], hidden_TD: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The trained tensors that ``head`` uses, whatever it is made of: autograd must be told of them."""
    pending = [head(hidden_TD[:1].detach()).grad_fn] if len(hidden_TD) else []
    found: dict[int, torch.Tensor] = {}
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        pending += [following for following, _ in node.next_functions]
    return tuple(found.values())


class _Picked(torch.autograd.Function):
    """``log p(target)`` and entropy, chunk by chunk; logits are computed again in the backward pass.

    With ``p = softmax(z)`` and entropy ``H``: ``d log p_t / dz = onehot(t) - p`` and ``dH / dz = -p (log p + H)``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: torch.Tensor,
        targets_T: torch.Tensor,
        head: Callable[[torch.Tensor], torch.Tensor],
        size: int,
        *trained: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        picked, entropies, normalisers = [], [], []
        for part, targets in zip(torch.split(hidden_TD, size), torch.split(targets_T, size), strict=True):
            logits = head(part)
            normaliser = logits.logsumexp(-1, keepdim=True)
            picked.append((logits.gather(-1, targets[:, None]) - normaliser).squeeze(-1))
            # entr(0) is 0: excluded tokens add nothing.
            entropies.append(torch.special.entr(logits.sub_(normaliser).exp_()).sum(-1))
            normalisers.append(normaliser)
        entropy = torch.cat(entropies)
        ctx.save_for_backward(hidden_TD, targets_T, torch.cat(normalisers), entropy, *trained)
        ctx.head, ctx.size = head, size
        ctx.set_materialize_grads(False)
        return torch.cat(picked), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        hidden_TD, targets_T, normalisers, entropy, *trained = ctx.saved_tensors
        wants_hidden = ctx.needs_input_grad[0]
        totals = [torch.zeros_like(tensor) for tensor in trained]
        hidden_grads = []
        pieces = (hidden_TD, targets_T, normalisers, entropy)
        for part, targets, normaliser, spread, at in zip(
            *(torch.split(tensor, ctx.size) for tensor in pieces),
            range(0, max(len(hidden_TD), 1), ctx.size),
            strict=True,
        ):
            grads = [None if grad is None else grad[at : at + ctx.size, None] for grad in gradients]
            towards = functools.partial(
                _towards,
                targets=targets,
                normaliser=normaliser,
                entropy=spread,
                picked_grad=grads[0],
                entropy_grad=grads[1],
            )
            hidden_grads.append(
                _add_chunk(ctx.head, part.detach().requires_grad_(wants_hidden), totals, trained, towards)
            )
        found = torch.cat([grad for grad in hidden_grads if grad is not None]) if wants_hidden else None
        return (found, None, None, None, *totals)


def _add_chunk(
    head: Callable[[torch.Tensor], torch.Tensor],
    part: torch.Tensor,
    totals: Sequence[torch.Tensor],
    trained: Sequence[torch.Tensor],
    towards: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor | None:
    """Add a chunk's gradients of ``trained`` to ``totals``; its gradient at the hidden states, where they want one.

    A function of its own, so that neither logits nor gradients of a chunk are there when the next one begins: at the
    2B shape, 1.2 GiB of the output matrix alone.
    """
    with torch.enable_grad():
        logits = head(part)
    wanted = [*([part] if part.requires_grad else []), *trained]
    found = list(torch.autograd.grad(logits, wanted, towards(logits)))
    hidden = found.pop(0) if part.requires_grad else None
    for total, grad in zip(totals, found, strict=True):
        total += grad
    return hidden


def _towards(
    logits: torch.Tensor,
    targets: torch.Tensor,
    normaliser: torch.Tensor,
    entropy: torch.Tensor,
    picked_grad: torch.Tensor | None,
    entropy_grad: torch.Tensor | None,
) -> torch.Tensor:
    """The gradient at the logits ``(C, V)`` of one chunk; gradients are ``(C, 1)``."""
    chances = (logits.detach() - normaliser).exp_()
    out = torch.zeros_like(chances)
    if entropy_grad is not None:
        out += (torch.special.entr(chances) - chances * entropy[:, None]) * entropy_grad
    if picked_grad is not None:
        out -= chances.mul_(picked_grad)
        out.scatter_add_(-1, targets[:, None], picked_grad)
    return out


@torch.no_grad()
def hidden_divergence(
    family: Family,
    model: Any,
    hidden_TD: torch.Tensor,
    sequence_T: torch.Tensor,
    group_T: torch.Tensor,
    *,
    temperature: float,
) -> torch.Tensor:
    """``position_divergence`` at every token's position in its response, ``(T,)``.

    Logits exist for a few positions of one group at a time.

    Args:
        family: of the model.
        model: the policy.
        hidden_TD: ``response_hidden``.
        sequence_T: number of every token's response; its tokens are in order.
        group_T: number of every token's group, all of whose responses are here.
        temperature: of the rollout.
    """
    found = torch.zeros(len(hidden_TD), device=hidden_TD.device)
    vocabulary = int(model.config.get_text_config().vocab_size)
    for group in torch.unique(group_T).tolist():
        rows = [
            torch.nonzero((group_T == group) & (sequence_T == sequence)).squeeze(1)
            for sequence in torch.unique(sequence_T[group_T == group]).tolist()
        ]
        size = max(CHUNK_LOGITS // (vocabulary * len(rows)), 1)
        for start in range(0, max(len(row) for row in rows), size):
            parts = [row[start : start + size] for row in rows]
            length = max(len(part) for part in parts)
            hidden = hidden_TD.new_zeros(len(rows), length, hidden_TD.shape[1])
            alive = torch.zeros(len(rows), length, dtype=torch.bool, device=hidden_TD.device)
            for index, part in enumerate(parts):
                hidden[index, : len(part)] = hidden_TD[part].detach()
                alive[index, : len(part)] = True
            divergence = position_divergence(masked_logits(family, model, hidden, temperature), alive)
            for part in parts:
                found[part] = divergence[: len(part)].to(found.dtype)
    return found
