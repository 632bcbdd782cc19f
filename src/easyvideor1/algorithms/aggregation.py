"""How the losses of tokens become one number."""

from __future__ import annotations

import torch

AGGREGATIONS = ("token", "sequence", "turn", "fixed")


def token_weights(
    trained_T: torch.Tensor,
    sequence_T: torch.Tensor,
    aggregation: str,
    *,
    turn_T: torch.Tensor | None = None,
    length: int | None = None,
) -> torch.Tensor:
    """Weights ``(T,)`` over all response tokens of a step.

    - ``token``: every trained token counts the same (DAPO, Yu et al. 2025, eq. 8).
    - ``sequence``: every sequence counts the same, its tokens share (GRPO, Shao et al. 2024, eq. 3).
    - ``turn``: every turn counts the same, its tokens share; a sequence of more turns counts for more. The same as
      ``sequence`` where sequences have one turn: GRPO's mean with the turn as its unit, ours. VST (Guan et al. 2026)
      has turns as rows and a mean over tokens, which is ``token``.
    - ``fixed``: ``1 / (S length)`` with S sequences: every token counts the same whatever the length of its own or any
      other response (Dr.GRPO, Liu et al. 2025, sec. 3.2).

    Sequences and turns without trained tokens are not counted. The weights sum to 1, to 0 if nothing is trained on, and
    for ``fixed`` to the mean number of trained tokens over ``length``.

    Args:
        trained_T: which tokens are trained on, bool ``(T,)``.
        sequence_T: number of every token's sequence in the step.
        aggregation: one of the names above.
        turn_T: number of every token's turn in the step; ``None`` if sequences have one turn.
        length: the constant of ``fixed``.

    Raises:
        ValueError: there is no such aggregation, or ``fixed`` without a length.
    """
    trained = trained_T.to(torch.float32)
    if aggregation == "token":
        return trained / trained.sum().clamp_min(1)
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {aggregation!r}: {', '.join(AGGREGATIONS[:-1])} or {AGGREGATIONS[-1]}")
    part_T = turn_T if aggregation == "turn" and turn_T is not None else sequence_T
    parts = int(part_T.max()) + 1 if len(part_T) else 0
    size = trained.new_zeros(parts).index_add(0, part_T, trained)
    count = (size > 0).sum().clamp_min(1)
    if aggregation == "fixed":
        if length is None or length < 1:
            raise ValueError(f"aggregation 'fixed' divides by a length of at least 1, got {length}")
        return trained / (length * count)
    return trained / (size[part_T].clamp_min(1) * count)
