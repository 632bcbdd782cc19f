"""The policy of a run on several ranks, as the run sees it: what ``Policy`` is on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.engines.worker_messages import TorchSettings, WorkerMedia
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.packing.balance import MicroBatchRows
from easyvideor1.policy.sharded import ShardedPolicy
from easyvideor1.policy.snapshot import Snapshot
from easyvideor1.policy.update_batch import BackwardResult, UpdateBatch
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.member import perform
from easyvideor1.training.ranks.messages import Call, Opening
from easyvideor1.training.ranks.shares import ByTurn, Share, joined_results, joined_turns, summed
from easyvideor1.types import Turn


class RankedPolicy(ShardedPolicy):
    """The first rank's part of a policy. What is asked of it, all ranks do.

    Passes are planned here over all their turns, and ``micro_batches`` that are given are those of all ranks, too.
    """

    ranks: Ranks

    @classmethod
    def open_on(
        cls,
        ranks: Ranks,
        config: ModelConfig,
        checkpoint: Path,
        stages: Sequence[StageConfig],
        open_media: Callable[[], WorkerMedia],
    ) -> RankedPolicy:
        """Open a checkpoint on all ranks, for all stages of a run.

        Raises:
            ConfigError: the checkpoint or the devices are not as configured.
            RankError: a rank died.
        """
        cluster = ranks.cluster
        torch_settings = TorchSettings.of_this_process()
        opening = Opening(
            config,
            checkpoint,
            tuple(stages),
            cluster.shard_size,
            cluster.sequence_parallel,
            cluster.deadline,
            torch_settings,
            open_media,
        )
        policy = cls.open_sharded(config, checkpoint, stages, ranks.open(opening))
        assert isinstance(policy, RankedPolicy)
        policy.ranks, policy.phase = ranks, ranks.phase
        ranks.await_opened()
        return policy

    def begin(self, options: StageConfig) -> None:
        """See ``Policy.begin``."""
        self._all("begin", options)

    def load(self, checkpoint: Path) -> None:
        """See ``Policy.load``."""
        self._all("load", checkpoint)

    def save(self, directory: Path) -> None:
        """See ``Policy.save``. This rank writes; the others give it their parts of one tensor after the other."""
        self._all("save", directory)

    def snapshot(self) -> Snapshot:
        """See ``Policy.snapshot``. Every rank copies its part, and gives it in the background as it is written."""
        found: Snapshot = self._all("snapshot_part")[0]
        found.explain = self.ranks.explained
        return found

    def restore(self, directory: Path) -> None:
        """See ``Policy.restore``; another number of ranks may have written it."""
        self._all("restore", directory)

    def optimizer_step(self, step: int) -> dict[str, float]:
        """See ``Policy.optimizer_step``."""
        found: dict[str, float] = self._all("optimizer_step", step)[0]
        return found

    def critic_step(self, step: int) -> dict[str, float]:
        """See ``Policy.critic_step``."""
        found: dict[str, float] = self._all("critic_step", step)[0]
        return found

    def weights(self, *, merged: bool = True, base: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """See ``Policy.weights``; each weight is gathered when it is its turn."""
        with self.ranks.calling(self._call("weights", (), {"merged": merged, "base": base})):
            gathering = super().weights(merged=merged, base=base)
            try:
                for pair in gathering:  # noqa: UP028 - ``yield from`` would close it with this one
                    yield pair
            finally:
                for _ in gathering:  # the others gather them all
                    pass

    def forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> BackwardResult:
        """See ``ForwardPasses.forward_backward``."""
        plan = self.plan_update(batch) if micro_batches is None else micro_batches
        return joined_results(*self._pass("forward_backward", batch, plan, load, features))

    def critic_forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> dict[str, float]:
        """See ``ForwardPasses.critic_forward_backward``."""
        plan = self.plan(batch.turns) if micro_batches is None else micro_batches
        return summed(self._pass("critic_forward_backward", batch, plan, load, features)[0])

    def logprobs(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
        reference: bool = False,
    ) -> ByTurn:
        """See ``ForwardPasses.logprobs``."""
        options = {"temperature": temperature, "reference": reference}
        return self._scan_on_all("logprobs", turns, micro_batches, load, features, options)

    def kl(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> ByTurn:
        """See ``ForwardPasses.kl``."""
        return self._scan_on_all("kl", turns, micro_batches, load, features, {"temperature": temperature})

    def values(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> ByTurn:
        """See ``ForwardPasses.values``."""
        return self._scan_on_all("values", turns, micro_batches, load, features, {})

    def _call(
        self,
        method: str,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        *,
        passes: bool = False,
        cached: bool = False,
    ) -> Call:
        # Drawn here, so that what follows from the seed of a step does so on every rank.
        return Call(method, arguments, options, passes, cached, int(torch.randint(2**62, ())))

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        """What every rank returns, in their order."""
        call = self._call(method, arguments, {})
        with self.ranks.calling(call) as others:
            own = perform(self, call, 0, None, None)
        return [own, *others]

    def _scan_on_all(
        self,
        method: str,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None,
        load: LoadFrames,
        features: FeatureCache | None,
        options: Mapping[str, Any],
    ) -> ByTurn:
        plan = self.plan_scan(turns) if micro_batches is None else micro_batches
        return joined_turns(*self._pass(method, turns, plan, load, features, options))

    def _pass(
        self,
        method: str,
        what: UpdateBatch | Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows],
        load: LoadFrames,
        features: FeatureCache | None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], list[Share]]:
        """What every group of ranks returns of its share of a plan, and the shares, both in the groups' order."""
        shares = [Share.of(what, part) for part in self.shares(micro_batches)]
        call = self._call(method, (), options or {}, passes=True, cached=features is not None)
        with self.ranks.calling(call, shares) as others:
            own = replace(call, arguments=shares[self.place.group].arguments)
            first = perform(self, own, 0, load, features)
        return [first, *others][:: self.place.sequence_parallel], shares
