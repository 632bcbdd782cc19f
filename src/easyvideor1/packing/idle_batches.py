"""As many micro-batches on every rank, where a model is spread over several (``families.shared_tower``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist

from easyvideor1.families.family import Family
from easyvideor1.packing.micro_batch import MicroBatch, collate, pack_turns, to_device
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Turn


def idle_batch(family: Family, device: torch.device) -> MicroBatch:
    """The smallest micro-batch: one token that answers one token, in no sequence of the step (-1)."""
    token = np.asarray([family.stop_token_ids[0]], dtype=np.int64)
    turn = Turn(Prompt(token, (), ()), token, np.zeros(1, dtype=bool), None, "stop", "")
    batch = collate(pack_turns([turn], share_prefix=family.shares_prefix), family, _no_media)
    batch.sequence.fill_(-1)
    return to_device(batch, device)


def equal_micro_batches(
    batches: Iterable[tuple[Sequence[int], MicroBatch]],
    count: int,
    family: Family,
    device: torch.device,
    ranks: dist.ProcessGroup | None = None,
) -> Iterator[tuple[Sequence[int], MicroBatch]]:
    """A rank's micro-batches, then idle ones until it has as many as the rank with the most.

    Every rank must run as many forward and backward passes as the others. An idle micro-batch comes with no indices of
    turns; it goes through model and loss like the others, and its one token has weight 0.

    Args:
        batches: as from ``ForwardPasses.batches``.
        count: how many there are.
        family: of the model.
        device: of the model.
        ranks: those that share the model; all if None. Each of them must call this, and iterate.

    Raises:
        ValueError: there were not ``count`` micro-batches.
    """
    most = torch.tensor(count, device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(most, dist.ReduceOp.MAX, group=ranks)
    given = 0
    for batch in batches:
        given += 1
        yield batch
    if given != count:
        raise ValueError(f"{given} micro-batches where {count} were announced to the other ranks")
    for _ in range(int(most) - count):
        yield (), idle_batch(family, device)


def _no_media(ref: MediaRef, plan: MediaPlan) -> Frames:
    raise RuntimeError(f"an idle micro-batch has no media, not {ref.path!r} of plan {plan.digest[:12]}")
