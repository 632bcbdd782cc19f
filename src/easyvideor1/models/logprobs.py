"""Log-probabilities and entropy of response tokens, without logits for anything else."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from easyvideor1.models.family import Family
from easyvideor1.models.pack import Batch

CHUNK_TOKENS = 4096


def masked_logits(family: Family, model: Any, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits ``(..., V)`` of the sampling distribution: visual tokens excluded, divided by temperature.

    They are float32 whatever the model computes in, float64 if it does.
    Engine and trainer both call this, so that they agree on what distribution a response was drawn from.
    """
    logits = family.logits(model, hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    banned = torch.tensor(family.visual_token_ids, device=logits.device)
    return logits.index_fill(-1, banned, float("-inf")) / temperature


def response_logprobs(
    family: Family, model: Any, batch: Batch, *, temperature: float = 1.0, entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities ``(T,)`` of the batch's response tokens, and their entropies in nats ``(T,)`` if asked.

    Logits exist for a chunk of response tokens at a time and are recomputed in the backward pass, so memory depends
    neither on the prompt's length nor on the number of responses times the vocabulary.
    """
    hidden = family.hidden_states(model, batch.input_ids, batch.positions, batch.attention_mask(), batch.visual)
    hidden_TD = hidden[batch.predictor_rows, batch.predictor_columns]

    def chunk(part: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_TV = torch.log_softmax(masked_logits(family, model, part, temperature), dim=-1)
        picked = log_TV.gather(-1, targets[:, None]).squeeze(-1)
        with torch.no_grad():
            # 0 * -inf is NaN: excluded tokens have probability 0 and add nothing.
            spread = -(log_TV.exp() * log_TV.clamp_min(-1e9)).sum(-1) if entropy else picked.new_zeros(0)
        return picked, spread

    pieces = []
    chunks = zip(torch.split(hidden_TD, CHUNK_TOKENS), torch.split(batch.targets, CHUNK_TOKENS), strict=True)
    for part, targets in chunks:
        if torch.is_grad_enabled() and len(hidden_TD) > CHUNK_TOKENS:
            pieces.append(checkpoint(chunk, part, targets, use_reentrant=False))
        else:
            pieces.append(chunk(part, targets))
    logprobs = torch.cat([piece[0] for piece in pieces])
    return logprobs, torch.cat([piece[1] for piece in pieces]) if entropy else None
