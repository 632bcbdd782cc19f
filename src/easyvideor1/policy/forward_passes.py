"""Forward passes of a stage's models over any number of turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, VisualInputs, computing
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.families.vision_tower import tower_is_sharded, visual_features
from easyvideor1.packing.balance import Costs, model_costs, split_rows, turns_cost
from easyvideor1.packing.logprobs import hidden_full_kl, hidden_logprobs, response_hidden, response_logprobs
from easyvideor1.packing.micro_batch import MicroBatch, collate, to_device
from easyvideor1.packing.prefix_tree import PackedTurns, pack_turns
from easyvideor1.policy.adapters import without_adapters
from easyvideor1.policy.critic import Critic
from easyvideor1.types import Turn


class ForwardPasses:
    """The models of a stage: policy, and if it needs them a reference and a critic; and what they say of turns."""

    def __init__(self, family: Family, model: Any, config: ModelConfig) -> None:
        self.family = family
        self.model = model
        self.config = config
        self.device = next(model.parameters()).device
        self.options: StageConfig | None = None
        self.reference: Any = None
        self.critic: Critic | None = None
        self._costs: Costs | None = None

    def logprobs(
        self,
        turns: Sequence[Turn],
        *,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
        reference: bool = False,
        max_tokens: int | None = None,
    ) -> list[torch.Tensor]:
        """Log-probabilities of every turn's tokens under the policy or its reference, on the CPU.

        Args:
            turns: any; what they share is computed once.
            temperature: of the rollout.
            load: reads frames of a plan.
            features: of this model.
            reference: of the reference that ``begin`` set up, in place of the policy.
            max_tokens: of one forward pass; the stage's ``micro_batch_tokens`` if not given.
        """

        def values(batch: MicroBatch) -> torch.Tensor:
            with self._as_reference() if reference else nullcontext(self.model) as model:
                return response_logprobs(self.family, model, batch, temperature=temperature)[0]

        return self._scan(turns, values, load, features, max_tokens)

    def kl(
        self, turns: Sequence[Turn], *, temperature: float, load: LoadFrames, features: FeatureCache | None = None
    ) -> list[torch.Tensor]:
        """KL to the reference at every turn's tokens, by the stage's estimator, on the CPU; arguments as above."""

        def values(batch: MicroBatch) -> torch.Tensor:
            options = self._stage()
            hidden = response_hidden(self.family, self.model, batch)
            logprobs, _ = hidden_logprobs(self.family, self.model, hidden, batch.targets, temperature=temperature)
            full = options.kl.estimator == "full"
            reference, found = self._against(batch, hidden, temperature, logprobs=not full, full=full)
            if reference is not None:
                found = kl_estimate(options.kl.estimator, logprobs, reference)
            assert found is not None
            return found

        return self._scan(turns, values, load, features)

    def values(
        self, turns: Sequence[Turn], *, load: LoadFrames, features: FeatureCache | None = None
    ) -> list[torch.Tensor]:
        """The critic's values of every turn's tokens, on the CPU; arguments as above."""
        assert self.critic is not None
        return self._scan(turns, self.critic.values, load, features)

    @torch.no_grad()
    def _scan(
        self,
        turns: Sequence[Turn],
        values: Callable[[MicroBatch], torch.Tensor],
        load: LoadFrames,
        features: FeatureCache | None,
        max_tokens: int | None = None,
    ) -> list[torch.Tensor]:
        """What a function of batches says of every turn's tokens, without gradient or dropout, on the CPU."""
        limit = (self.options or StageConfig(name="scan")).micro_batch_tokens if max_tokens is None else max_tokens
        found: dict[int, torch.Tensor] = {}
        models = [self.model] if self.critic is None else [self.model, self.critic.model]
        modes = [model.training for model in models]
        for model in models:
            model.eval()
        try:
            for order, batch in self.batches(turns, limit, load, features):
                parts = torch.split(values(batch).cpu(), [len(turns[n].response_ids) for n in order])
                found.update(zip(order, parts, strict=True))
        finally:
            for model, mode in zip(models, modes, strict=True):
                model.train(mode)
        return [found[n] for n in range(len(turns))]

    def _stage(self) -> StageConfig:
        if self.options is None:
            raise RuntimeError("call begin(stage) first")
        return self.options

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        """The reference model, while the block lasts."""
        if self.reference is not None:
            yield self.reference
            return
        if self.config.lora is None:
            raise RuntimeError("this stage has no reference: begin() was not told of a KL term")
        was_training = self.model.training
        self.model.eval()
        try:
            with without_adapters(self.model):
                yield self.model
        finally:
            self.model.train(was_training)

    def batches(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        load: LoadFrames,
        features: FeatureCache | None = None,
        together: torch.Tensor | None = None,
    ) -> Iterator[tuple[list[int], MicroBatch]]:
        """Micro-batches of some turns, on the policy's device, each with the indices of its turns in order.

        A tower that is not trained is the same in all models of a stage; it runs here, once for all that read a batch.
        """
        for micro in self._micro_batches(turns, max_tokens, together):
            batch = to_device(collate(micro, self.family, load, features=features, device=self.device), self.device)
            if isinstance(batch.visual, VisualInputs) and self._tower_stays():
                with torch.no_grad(), computing(self.model):
                    batch = replace(batch, visual=visual_features(self.family, self.model, batch.visual))
            yield [n for row in micro for n in row.sequences], batch

    def _tower_stays(self) -> bool:
        """Whether vision tower and merger are frozen, and no other rank waits for their next call."""
        groups = self.family.groups(self.model)
        modules = [module for group in ("vision", "merger") for module in groups[group]]
        trained = any(parameter.requires_grad for module in modules for parameter in module.parameters())
        return not trained and not tower_is_sharded(self.family, self.model)

    def _micro_batches(
        self, turns: Sequence[Turn], max_tokens: int, group_N: torch.Tensor | None
    ) -> list[list[PackedTurns]]:
        if self._costs is None:
            self._costs = model_costs(self.family, self.model)
        costs = self._costs
        together = None if group_N is None else group_N.tolist()
        rows = pack_turns(turns, share_prefix=self.family.shares_prefix, together=together)
        return split_rows(rows, max_tokens, lambda unit: turns_cost(unit, costs), together)

    def _against(
        self, batch: MicroBatch, hidden: torch.Tensor, temperature: float, *, logprobs: bool, full: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What is asked for: the reference's log-probs; the KL over the vocabulary, which alone has a gradient."""
        reference = None
        with torch.no_grad(), self._as_reference() as model:
            seen = response_hidden(self.family, model, batch)
            if logprobs:
                reference, _ = hidden_logprobs(self.family, model, seen, batch.targets, temperature=temperature)
        if not full:
            return reference, None
        # Logits come from a matrix that has no adapter, so the model itself stands for its base there.
        model = self.model if self.reference is None else self.reference
        return reference, hidden_full_kl(self.family, self.model, model, hidden, seen, temperature=temperature)
