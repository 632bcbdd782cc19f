"""The policy of one of several ranks, which train one model together.

All ranks call the same methods. Of a pass each is given its share alone, which may be empty, and returns what that
gives; ``training.ranks`` plans and cuts the shares and puts together what they give. Gradients are summed over the
ranks, so that every rank moves its part of the weights as a single process would have done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.attention.functions import takes_layout
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import (
    Family,
    VisualFeatures,
    VisualInputs,
    configured_family,
    configured_model,
    untouched_memory,
)
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.packing.balance import MicroBatchRows, model_costs, rank_shares, turns_cost
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.policy.phase import Phase
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sharding import RankPlace, shard_model, share_frozen
from easyvideor1.policy.snapshot import Snapshot
from easyvideor1.policy.spread import sum_gradients
from easyvideor1.policy.unfilled import cast_as_stored, fill, unfilled_model
from easyvideor1.policy.update_batch import BackwardResult, Observations, UpdateBatch
from easyvideor1.types import ConfigError, Turn


class ShardedPolicy(Policy):
    """One rank's part of a policy; made by ``open_sharded``, once the ranks have their process group."""

    def __init__(self, family: Family, model: Any, checkpoint: Path, config: ModelConfig) -> None:
        super().__init__(family, model, checkpoint, config)
        self.place = RankPlace(0, 1, 1, self.device)
        self.phase = Phase()
        self._gives: threading.Thread | None = None

    @classmethod
    def open_sharded(
        cls, config: ModelConfig, checkpoint: Path, stages: Sequence[StageConfig], place: RankPlace
    ) -> ShardedPolicy:
        """Open this rank's part of a checkpoint, with room for references and critics of all stages of the run.

        Of weights that ranks share, this rank reads its own rows. Where a checkpoint's weights have to be converted,
        the whole model passes through the memory of the host.
        """
        family = configured_family(config, checkpoint)
        model, stored = unfilled_model(family, config, checkpoint)
        whole = configured_model(family, config, checkpoint) if stored is None else model
        if place.sequence_parallel > 1:
            _refuse_to_split(family, whole, place.sequence_parallel)
        if stored is None:
            policy = cls.of(family, whole, checkpoint, config)
        else:
            cast = partial(cast_as_stored, stored=stored, rank=place.rank, ranks=place.ranks, device=place.device)
            policy = cls.of(family, whole, checkpoint, config, cast)
        with untouched_memory():
            policy.prepare(stages, contents=False)
        assert isinstance(policy, ShardedPolicy)
        policy._costs = model_costs(family, policy.model)
        mesh = place.mesh()
        on_host = "parameters" in config.offload
        for each in (policy.model, *policy.copies.values()):
            shard_model(family, each, mesh, place.device, parameters_on_host=on_host)
        for each in policy.copies.values():
            share_frozen(each, policy.model)
        if stored is not None:
            fill(policy.model, stored)
        policy.place, policy.device = place, place.device
        policy.sequence_ranks = place.sequence_ranks()
        policy.writes, policy.holders = place.rank == 0, place.holders()
        return policy

    def snapshot_part(self) -> Snapshot | None:
        """The snapshot on the rank that writes; any other gives its part of it in the background."""
        if self._gives is not None:
            self._gives.join()  # the one before is written
        found = Policy.snapshot(self)  # not that of all ranks
        if self.writes:
            return found
        self._gives = threading.Thread(target=found.answer, daemon=True)
        self._gives.start()
        return None

    def plan(
        self, turns: Sequence[Turn], together: torch.Tensor | None = None, max_tokens: int | None = None
    ) -> list[MicroBatchRows]:
        """Micro-batches of all ranks: smaller ones than in a single process, where these fill the ranks better."""
        found = super().plan(turns, together, max_tokens)
        groups = self.place.groups
        if len(found) % groups == 0:
            return found
        passes = -(-len(found) // groups)
        tokens = sum(row.row_length for rows in found for row in rows)
        finer = super().plan(turns, together, -(-tokens // (passes * groups)))
        return min(found, finer, key=self._longest)

    def shares(self, micro_batches: Sequence[MicroBatchRows]) -> list[list[MicroBatchRows]]:
        """Those of every group of ranks that compute together."""
        return rank_shares(micro_batches, self.place.groups, self._cost)

    def _cost(self, rows: MicroBatchRows) -> float:
        assert self._costs is not None
        costs = self._costs
        return sum(turns_cost(row, costs) for row in rows)

    def _longest(self, micro_batches: Sequence[MicroBatchRows]) -> float:
        """Work of the rank that has most."""
        return max(sum(map(self._cost, share)) for share in self.shares(micro_batches))

    def forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> BackwardResult:
        """As ``ForwardPasses.forward_backward`` of this rank's share, with the gradients of all ranks."""
        found = super().forward_backward(batch, micro_batches, load=load, features=features)
        self._sum_gradients(self.model, self.model, batch)
        return found if self.place.speaks else BackwardResult(Observations.joined([]), {})

    def critic_forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> dict[str, float]:
        """As ``forward_backward``, of the critic."""
        assert self.critic is not None
        found = super().critic_forward_backward(batch, micro_batches, load=load, features=features)
        self._sum_gradients(self.critic.model, self.critic.model.model, batch)
        return found if self.place.speaks else {}

    def weights(self, *, merged: bool = True, base: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """As ``Policy.weights``. Engines may take long over them: as long as tensors go by, it is no stall."""
        for pair in super().weights(merged=merged, base=base):
            self.phase.at("gathers weights")
            yield pair

    def _snapshot(self, *, copied: bool) -> Snapshot:
        """As ``Policy``. A save that all ranks take part in may last: as long as tensors go by, it is no stall."""
        found = super()._snapshot(copied=copied)
        if not copied:
            found.tell_each(lambda: self.phase.at("saves a checkpoint"))
        return found

    def _sum_gradients(self, trained: torch.nn.Module, model: Any, batch: UpdateBatch) -> None:
        self.phase.at("sums gradients")
        sum_gradients(trained.parameters())
        media = torch.tensor(any(turn.prompt.media for turn in batch.turns), dtype=torch.int32, device=self.device)
        dist.all_reduce(media, dist.ReduceOp.MAX)
        if media:
            return
        # Ranks that share the tower call it all the same. Its gradients are 0 then, and those of a process are absent:
        # an optimiser would go on moving it.
        groups = self.family.groups(model)
        for module in (*groups["vision"], *groups["merger"]):
            module.zero_grad(set_to_none=True)

    def _scan(self, turns: Sequence[Turn], micro_batches: Sequence[MicroBatchRows] | None, *rest: Any) -> Any:
        found = super()._scan(turns, micro_batches, *rest)
        return found if self.place.speaks else {}

    def batches(
        self, micro_batches: Sequence[MicroBatchRows], load: LoadFrames, features: FeatureCache | None = None
    ) -> Iterator[tuple[Sequence[int], MicroBatch]]:
        """As ``ForwardPasses.batches``; ``phase`` says how far they are."""
        found, many = super().batches(micro_batches, load, features), len(micro_batches)
        for number in count(1):
            self.phase.at(f"reads the media of micro-batch {number} of {many}", alone=True)
            batch = next(found, None)
            if batch is None:
                break
            self.phase.at(f"computes micro-batch {number} of {many}")
            yield batch
        self.phase.at(f"has computed its {many} micro-batches")

    def _frozen_features(self, visual: VisualInputs) -> VisualFeatures:
        if visual.exchange is not None:
            self.phase.at("exchanges visual features")
        return super()._frozen_features(visual)


def _refuse_to_split(family: Family, model: Any, ranks: int) -> None:
    """Whether ``ranks`` can compute a row together.

    Raises:
        ConfigError: they cannot.
    """
    name, heads = type(family).__name__, int(model.config.get_text_config().num_attention_heads)
    if not family.shares_prefix:
        raise ConfigError(
            f"cluster.sequence_parallel is {ranks}, and models of {name} have layers of linear attention, whose state "
            "goes from token to token through the whole row, so that ranks cannot share it: set "
            "cluster.sequence_parallel=1; the ranks then take micro-batches of their own"
        )
    if not takes_layout(model):
        raise ConfigError("cluster.sequence_parallel needs the attention over packed rows: set model.attention to sdpa")
    if heads % ranks:
        raise ConfigError(
            f"cluster.sequence_parallel is {ranks}, which does not divide the {heads} attention heads of this model: "
            "each rank takes as many of them; set a divisor of both them and cluster.ranks"
        )
