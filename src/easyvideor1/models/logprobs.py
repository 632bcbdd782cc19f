"""Log-probabilities and entropy of response tokens, without logits for anything else."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from easyvideor1.models.family import Family, computing
from easyvideor1.models.pack import Batch

#: Logits that exist at a time, as a number of values: 256 MiB in float32.
CHUNK_LOGITS = 2**26


def masked_logits(family: Family, model: Any, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits ``(..., V)`` of the sampling distribution: visual tokens excluded, divided by temperature.

    They are float32 whatever the model computes in, float64 if it does. Engine and trainer both call this, so that they
    agree on what distribution a response was drawn from.
    """
    with computing(model):
        logits = family.logits(model, hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    banned = torch.tensor(family.visual_token_ids, device=logits.device)
    return logits.index_fill(-1, banned, float("-inf")) / temperature


def response_logprobs(
    family: Family, model: Any, batch: Batch, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the batch's response tokens and their entropies in nats, both ``(T,)``.

    Prompt tokens get no logits. Those of response tokens exist for a chunk at a time and, when there is more than one
    chunk, are recomputed in the backward pass: their memory does not grow with the number of tokens.
    """
    with computing(model):
        hidden = family.hidden_states(model, batch.input_ids, batch.positions, batch.attention_mask(), batch.visual)
    hidden_TD = hidden[batch.predictor_rows, batch.predictor_columns]
    size = max(CHUNK_LOGITS // model.config.get_text_config().vocab_size, 1)

    def chunk(part: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_TV = torch.log_softmax(masked_logits(family, model, part, temperature), dim=-1)
        picked = log_TV.gather(-1, targets[:, None]).squeeze(-1)
        with torch.no_grad():
            # 0 * -inf is NaN: excluded tokens have probability 0 and add nothing.
            entropy = -(log_TV.exp() * log_TV.clamp_min(-1e9)).sum(-1)
        return picked, entropy

    pieces = []
    for part, targets in zip(torch.split(hidden_TD, size), torch.split(batch.targets, size), strict=True):
        if torch.is_grad_enabled() and len(hidden_TD) > size:
            pieces.append(checkpoint(chunk, part, targets, use_reentrant=False))
        else:
            pieces.append(chunk(part, targets))
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])
