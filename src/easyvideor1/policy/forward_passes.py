"""Forward and backward passes of a stage's models over the micro-batches of a step, or over a share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import Objective, objective_loss
from easyvideor1.algorithms.token_batch import stage_needs, token_batch
from easyvideor1.attention.sequence_parallel import SequenceRanks
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, VisualFeatures, VisualInputs, compute_device, computing
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.families.vision_tower import tower_is_sharded, visual_features
from easyvideor1.packing.balance import Costs, MicroBatchRows, model_costs, split_rows, turns_cost
from easyvideor1.packing.logprobs import (
    batch_logprobs,
    hidden_divergence,
    hidden_full_kl,
    response_hidden,
    response_logprobs,
)
from easyvideor1.packing.micro_batch import MicroBatch, collate, equal_micro_batches, to_device
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.adapters import without_adapters
from easyvideor1.policy.critic import Critic
from easyvideor1.policy.spread import is_sharded
from easyvideor1.policy.update_batch import BackwardResult, Observations, UpdateBatch
from easyvideor1.types import Turn


class ForwardPasses:
    """The models of a stage: policy, and if it needs them a reference and a critic.

    Every pass goes over micro-batches that ``plan`` makes of all turns together. A rank is given a share of the plan,
    which may be empty; without one, a pass goes over all of it.
    """

    def __init__(self, family: Family, model: Any, config: ModelConfig) -> None:
        self.family = family
        self.model = model
        self.config = config
        self.device = compute_device(model)
        self.options: StageConfig | None = None
        self.objective: Objective | None = None
        self.reference: Any = None
        self.critic: Critic | None = None
        #: Those that compute every micro-batch together with this process, if there are any.
        self.sequence_ranks: SequenceRanks | None = None
        self._costs: Costs | None = None

    def plan(
        self, turns: Sequence[Turn], together: torch.Tensor | None = None, max_tokens: int | None = None
    ) -> list[MicroBatchRows]:
        """Micro-batches of some turns, of like work and in order.

        Args:
            turns: of the whole pass.
            together: int64 ``(M,)``; turns of one number stay in one micro-batch.
            max_tokens: of one micro-batch; the stage's ``micro_batch_tokens`` if not given.
        """
        if self._costs is None:
            self._costs = model_costs(self.family, self.model)
        costs = self._costs
        limit = (self.options or StageConfig(name="scan")).micro_batch_tokens if max_tokens is None else max_tokens
        numbers = None if together is None else together.tolist()
        rows = pack_turns(turns, share_prefix=self.family.shares_prefix, together=numbers)
        return split_rows(rows, limit, lambda unit: turns_cost(unit, costs), numbers)

    def plan_update(self, batch: UpdateBatch) -> list[MicroBatchRows]:
        """Micro-batches of an update; turns that the stage's objective compares stay together."""
        compared = stage_needs(self._stage()) & {"group_ids", "pairs"}
        return self.plan(batch.turns, batch.group if compared else batch.trajectory)

    def plan_scan(self, turns: Sequence[Turn]) -> list[MicroBatchRows]:
        """Micro-batches of passes without gradients (``logprob_micro_batch_tokens``)."""
        return self.plan(turns, max_tokens=None if self.options is None else self.options.logprob_micro_batch_tokens)

    def forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> BackwardResult:
        """The gradients of an update, or of a share of it: they replace those that are there, and no weight moves.

        Every token's weight is its share of the whole update, so gradients, loss and metrics of shares add up to those
        of the update, and micro-batches change memory and time only.

        Args:
            batch: the update, or the part of it that is here: its weights are shares of the whole update in any case.
            micro_batches: a share of ``plan_update``, all of it if not given.
            load: reads frames of a plan.
            features: of this model; what it has is not computed again.

        Raises:
            DataError: frames disagree with their prompt.
        """
        plan = self.plan_update(batch) if micro_batches is None else micro_batches
        assert self.objective is not None
        self.model.train()
        self.model.zero_grad(set_to_none=True)  # of a step that was interrupted
        totals: dict[str, torch.Tensor] = {}
        seen = []
        for order, micro_batch in self._passes(self.model, plan, load, features):
            targets = batch.token_targets(order, micro_batch)
            loss, metrics, logprobs = self._loss(micro_batch, self.objective, batch.temperature, targets)
            trained = targets["weights"] > 0
            found = (micro_batch.sequence, logprobs.detach(), micro_batch.engine_logprobs, trained)
            if order:
                seen.append(Observations(*(tensor.cpu() for tensor in found)))
            if loss.requires_grad:  # text alone beside a frozen language model uses nothing that is trained
                torch.autograd.backward(loss)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + value.detach()
        return BackwardResult(Observations.joined(seen), {name: float(value) for name, value in totals.items()})

    def critic_forward_backward(
        self,
        batch: UpdateBatch,
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> dict[str, float]:
        """The critic's gradients towards ``returns``, of a share of ``plan`` or of all turns; sums of its metrics."""
        assert self.critic is not None
        plan = self.plan(batch.turns) if micro_batches is None else micro_batches
        return self.critic.forward_backward(batch, self._passes(self.critic.model, plan, load, features))

    def logprobs(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
        reference: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Log-probabilities of the tokens of every turn of a share, by its number, on the CPU.

        Args:
            turns: any; what they share is computed once.
            micro_batches: a share of ``plan``, all of it if not given.
            temperature: of the rollout.
            load: reads frames of a plan.
            features: of this model.
            reference: of the reference that ``begin`` set up, in place of the policy.
        """

        def values(batch: MicroBatch) -> torch.Tensor:
            with self._as_reference() if reference else nullcontext(self.model) as model:
                return response_logprobs(self.family, model, batch, temperature=temperature)[0]

        return self._scan(turns, micro_batches, values, load, features)

    def kl(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> dict[int, torch.Tensor]:
        """KL to the reference at the tokens of every turn, by the stage's estimator; as ``logprobs``."""

        def values(batch: MicroBatch) -> torch.Tensor:
            options = self._stage()
            hidden = response_hidden(self.family, self.model, batch)
            logprobs, _ = batch_logprobs(self.family, self.model, hidden, batch, temperature=temperature)
            full = options.kl.estimator == "full"
            reference, found = self._against(batch, hidden, temperature, logprobs=not full, full=full)
            if reference is not None:
                found = kl_estimate(options.kl.estimator, logprobs, reference)
            assert found is not None
            return found

        return self._scan(turns, micro_batches, values, load, features)

    def values(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None = None,
        *,
        load: LoadFrames,
        features: FeatureCache | None = None,
    ) -> dict[int, torch.Tensor]:
        """The critic's values of the tokens of every turn; as ``logprobs``."""
        assert self.critic is not None
        return self._scan(turns, micro_batches, self.critic.values, load, features)

    @torch.no_grad()
    def _scan(
        self,
        turns: Sequence[Turn],
        micro_batches: Sequence[MicroBatchRows] | None,
        values: Callable[[MicroBatch], torch.Tensor],
        load: LoadFrames,
        features: FeatureCache | None,
    ) -> dict[int, torch.Tensor]:
        """What a function of batches makes of the tokens of every turn, without gradient or dropout, on the CPU."""
        plan = self.plan_scan(turns) if micro_batches is None else micro_batches
        found: dict[int, torch.Tensor] = {}
        models = [self.model] if self.critic is None else [self.model, self.critic.model]
        modes = [model.training for model in models]
        for model in models:
            model.eval()
        try:
            for order, batch in self._passes(self.model, plan, load, features):
                tokens = values(batch).cpu()
                if order:
                    parts = torch.split(tokens, [len(turns[n].response_ids) for n in order])
                    found.update(zip(order, parts, strict=True))
        finally:
            for model, mode in zip(models, modes, strict=True):
                model.train(mode)
        return dict(sorted(found.items()))

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
            raise RuntimeError("this stage has no reference: its options have no KL term")
        was_training = self.model.training
        self.model.eval()
        try:
            with without_adapters(self.model):
                yield self.model
        finally:
            self.model.train(was_training)

    def _passes(
        self, model: Any, micro_batches: Sequence[MicroBatchRows], load: LoadFrames, features: FeatureCache | None
    ) -> Iterator[tuple[Sequence[int], MicroBatch]]:
        """``batches``, and idle ones behind them on ranks that have fewer than the others of a sharded model."""
        batches = self.batches(micro_batches, load, features)
        if not is_sharded(model):
            return batches
        return equal_micro_batches(batches, len(micro_batches), self.family, self.device, sequence=self.sequence_ranks)

    def batches(
        self, micro_batches: Sequence[MicroBatchRows], load: LoadFrames, features: FeatureCache | None = None
    ) -> Iterator[tuple[Sequence[int], MicroBatch]]:
        """Tensors of micro-batches, on the policy's device, each with the numbers of its turns in order.

        A tower that is not trained is the same in all models of a stage; it runs here, once for all that read a batch.
        """
        options: dict[str, Any] = {"features": features, "device": self.device, "ranks": self.sequence_ranks}
        for rows in micro_batches:
            batch = to_device(collate(rows, self.family, load, **options), self.device)
            if isinstance(batch.visual, VisualInputs) and self._tower_stays():
                batch = replace(batch, visual=self._frozen_features(batch.visual))
            yield [n for row in rows for n in row.sequences], batch

    @torch.no_grad()
    def _frozen_features(self, visual: VisualInputs) -> VisualFeatures:
        """What a tower makes of media that is not trained."""
        with computing(self.model):
            return visual_features(self.family, self.model, visual)

    def _tower_stays(self) -> bool:
        """Whether vision tower and merger are frozen, and no other rank waits for their next call."""
        groups = self.family.groups(self.model)
        modules = [module for group in ("vision", "merger") for module in groups[group]]
        trained = any(parameter.requires_grad for module in modules for parameter in module.parameters())
        return not trained and not tower_is_sharded(self.family, self.model)

    def _loss(
        self, batch: MicroBatch, objective: Objective, temperature: float, targets: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, metrics and log-probs of a micro-batch; loss and metrics are its part of the update's."""
        options = self._stage()
        needs = stage_needs(options)
        hidden = response_hidden(self.family, self.model, batch)
        logprobs, entropy = batch_logprobs(self.family, self.model, hidden, batch, temperature=temperature)
        if options.objective.entropy_coef == 0:
            entropy = entropy.detach()
        reference = full = divergence = None
        # KL that goes off the reward was computed before.
        in_loss = needs if options.kl.placement == "loss" else needs_of(objective)
        asked = {"logprobs": "ref_logprobs" in in_loss, "full": options.kl.placement == "loss" and "full_kl" in needs}
        if any(asked.values()):
            reference, full = self._against(batch, hidden, temperature, **asked)
        if "full_logits" in needs and targets["group"] is not None:
            every = batch.whole(hidden.detach())
            divergence = hidden_divergence(
                self.family, self.model, every, batch.sequence, targets["group"], temperature=temperature
            )
        tokens, corrections = token_batch(
            options,
            logprobs=logprobs,
            engine_logprobs=batch.engine_logprobs,
            ref_logprobs=reference,
            full_kl=full,
            entropy=entropy,
            divergence=divergence,
            **targets,
        )
        loss, metrics = objective_loss(objective, tokens, options)
        known = (targets["weights"] > 0) & ~batch.engine_logprobs.isnan()
        if tokens.offline is not None:
            known &= ~tokens.offline  # responses of another policy are no mismatch
        rollout = targets["rollout_logprobs"]
        distance = (batch.engine_logprobs - (tokens.logprobs.detach() if rollout is None else rollout)).abs()
        found = {
            **metrics,
            **corrections,
            "policy/entropy": tokens.report(entropy),
            "mismatch/logprob_abs": tokens.report(torch.where(known, distance, 0.0)),
            "mismatch/known": tokens.report(known.float()),
        }
        return loss, found, logprobs

    def _against(
        self, batch: MicroBatch, hidden: torch.Tensor, temperature: float, *, logprobs: bool, full: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What is asked for: the reference's log-probs; the KL over the vocabulary, which alone has a gradient."""
        reference = None
        with torch.no_grad(), self._as_reference() as model:
            seen = response_hidden(self.family, model, batch)
            if logprobs:
                reference, _ = batch_logprobs(self.family, model, seen, batch, temperature=temperature)
        if not full:
            return reference, None
        # Logits come from a matrix that has no adapter, so the model itself stands for its base there.
        model = self.model if self.reference is None else self.reference
        full_kl = hidden_full_kl(self.family, self.model, model, hidden, seen, temperature=temperature)
        return reference, batch.whole(full_kl)
