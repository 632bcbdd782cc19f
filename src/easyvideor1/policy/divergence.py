"""How differently the responses of a group predict, position by position, from their hidden states."""

from __future__ import annotations

from typing import Any

import torch

from easyvideor1.algorithms.weighters import position_divergence
from easyvideor1.families.family import Family
from easyvideor1.packing.logprobs import CHUNK_LOGITS, masked_logits


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
