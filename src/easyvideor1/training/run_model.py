"""The policy and the engine of a run, on the ranks that it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.engines.engine import Engine
from easyvideor1.policy.policy import Policy
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.policy import RankedPolicy
from easyvideor1.training.ranks.processes import launched
from easyvideor1.training.ranks.restart import NO_RESTART, Restart
from easyvideor1.training.stages import sync_weights


@contextmanager
def ranks_of(config: RunConfig, restart: Restart = NO_RESTART) -> Iterator[Ranks | None]:
    """The ranks of a run, while the block lasts; ``None`` where this process trains alone.

    ``restart``: see ``Ranks``.
    """
    place = launched(config.cluster)
    if config.cluster.ranks == 1:
        yield None
        return
    share = config.cluster.engine_share(config.rollout.workers, config.rollout.gpus_per_worker)
    with Ranks(config.cluster, place, restart, engine_share=share) as ranks:
        yield ranks


class RunModel:
    """The one policy and the one engine of a run. Both are opened when first needed, and read weights in place.

    With ``ranks`` they all hold a part of the policy, and an engine in this process has weights of its own.
    """

    def __init__(self, components: Components, ranks: Ranks | None = None) -> None:
        self._components, self._ranks = components, ranks
        self._policy: Policy | None = None
        self._engine: Engine | None = None
        self._holds: Path | None = None

    def at(self, checkpoint: Path) -> Policy:
        """The policy with the weights of a checkpoint, and no stage begun."""
        if self._policy is None:
            self._policy = self._opened(checkpoint)
        elif self._holds != checkpoint:
            self._policy.load(checkpoint)
        self._holds = checkpoint
        return self._policy

    def _opened(self, checkpoint: Path) -> Policy:
        config = self._components.config
        if self._ranks is None:
            return Policy.open(config.model, checkpoint)
        media = self._components.worker_media()
        return RankedPolicy.open_on(self._ranks, config.model, checkpoint, config.stages, media)

    def begin(self, checkpoint: Path, options: StageConfig) -> Policy:
        """The policy at the start of a stage, ready to be trained."""
        policy = self.at(checkpoint)
        self._holds = None  # from here on its weights are those of no file
        policy.begin(options)
        return policy

    def engine(self, version: int) -> Engine:
        """The engine, awake, with the policy's weights as they are, which are of this version."""
        assert self._policy is not None
        if self._engine is None:
            if self._ranks is None:
                self._engine = self._components.open_engine(self._policy.model)
            else:
                self._engine = self._components.open_engine(None, group=self._ranks.shared_group)
        sync_weights(self._engine, version, self._policy)
        return self._engine

    @property
    def has_lost_a_rank(self) -> bool:
        """Whether the run ends because of another rank, which its last words then say."""
        return self._ranks is not None and self._ranks.condemned

    def sent_bytes(self) -> int:
        """Bytes that all other ranks together were sent so far."""
        return 0 if self._ranks is None else self._ranks.sent_bytes

    def close(self) -> None:
        """Let go of both."""
        if self._engine is not None:
            self._engine.close()
        self._policy = self._engine = self._holds = None
