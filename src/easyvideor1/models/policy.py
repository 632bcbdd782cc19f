"""The policy: weights, optimiser, and the one way they change."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.assembly import stage_needs, token_batch
from easyvideor1.algorithms.kl import move_average
from easyvideor1.algorithms.objectives import Objective, token_weights
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.models import attention
from easyvideor1.models.adapters import add_adapters, without_adapters
from easyvideor1.models.cost import Costs, model_costs, turns_cost
from easyvideor1.models.family import Family, configured_family
from easyvideor1.models.features import FeatureCache
from easyvideor1.models.logprobs import hidden_full_kl, hidden_logprobs, response_hidden, response_logprobs
from easyvideor1.models.pack import Batch, LoadFrames, PackedTurns, collate, pack_turns, split_rows, to_device
from easyvideor1.models.saving import copy_weights, read_adapters, read_optimizer, read_reference, write_policy
from easyvideor1.models.schedule import learning_rate
from easyvideor1.types import ConfigError, EasyVideoError, Turn


class DivergedError(EasyVideoError, FloatingPointError):
    """A step's gradient is not finite; the weights are as they were before it."""


class Policy:
    """A trainable model with its family adapter and optimiser.

    ``begin`` starts a stage: it builds the optimiser and, when the stage asks for a KL term, keeps a frozen copy of the
    weights as the reference (none where that is the base of adapters). ``update`` makes one optimiser step from any
    number of turns; ``logprobs`` says what policy or reference think of them.
    """

    def __init__(self, family: Family, model: Any, checkpoint: Path, config: ModelConfig) -> None:
        self.family = family
        self.model = model
        self.checkpoint = checkpoint
        self.config = config
        self.device = next(model.parameters()).device
        self.options: StageConfig | None = None
        self.optimizer: torch.optim.AdamW | None = None
        self.reference: Any = None
        self._costs: Costs | None = None

    @classmethod
    def open(cls, config: ModelConfig, checkpoint: Path | None = None) -> Policy:
        """Load ``checkpoint`` (or ``config.path``) onto the configured device, freeze what the config names."""
        directory = Path(checkpoint or config.path)
        family = configured_family(config, directory)
        model = _load(family, directory, config)
        model.compute_dtype = getattr(torch, config.dtype)
        device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        for group in config.freeze:
            for module in family.groups(model)[group]:
                module.requires_grad_(False)
        if config.lora is not None:
            add_adapters(family, model, config.lora)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return cls(family, model, directory, config)

    def begin(self, options: StageConfig) -> None:
        """Start a stage with a fresh optimiser; the reference, if one is needed, is the policy as it is now.

        Raises:
            ConfigError: ``model.freeze`` leaves nothing to train, or the reference is a base without adapters.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError(
                f"model.freeze: {', '.join(self.config.freeze)} is the whole model; leave a group to train"
            )
        if options.reference == "adapter-off" and self.config.lora is None:
            raise ConfigError(f"stages.{options.name}.reference: adapter-off needs adapters; set model.lora")
        self.options = options
        settings = options.optimizer
        self.optimizer = torch.optim.AdamW(
            trained,
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
        self.reference = None
        if stage_needs(options) & {"ref_logprobs", "full_kl"} and options.reference != "adapter-off":
            self.reference = copy.deepcopy(self.model).requires_grad_(False).eval()

    def weights(self) -> dict[str, torch.Tensor]:
        """All parameters by name, for engines."""
        return {name: tensor.detach() for name, tensor in self.model.named_parameters()}

    def update(
        self,
        turns: Sequence[Turn],
        advantages_N: torch.Tensor,
        objective: Objective,
        *,
        step: int,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
        group_N: torch.Tensor | None = None,
        offline_N: torch.Tensor | None = None,
        kl_coef: float | None = None,
    ) -> dict[str, float]:
        """One optimiser step.

        Every token's weight is its share of the whole step, so micro-batching changes memory and time only.

        Args:
            turns: N turns; those that answer the same prompt object share its computation.
            advantages_N: float ``(N,)``.
            objective: from ``easyvideor1.algorithms.objectives``.
            step: 1-based step of the stage, for the learning-rate schedule.
            temperature: of the rollout.
            load: reads frames of a plan.
            features: of this model; what it has is not computed again.
            group_N: int64 ``(N,)``, the group of every turn, which stays in one micro-batch then.
            offline_N: bool ``(N,)``, turns of another policy.
            kl_coef: an adaptive weight of the KL.

        Returns:
            ``loss``, ``grad_norm`` before clipping, ``lr``, and the step's weighted means of the objective's metrics.

        Raises:
            DivergedError: the gradient is not finite; weights and optimiser state are untouched.
            DataError: frames disagree with their prompt.
        """
        options, optimizer = self.options, self.optimizer
        if options is None or optimizer is None:
            raise RuntimeError("call begin(stage) before update()")
        weights = _turn_weights(turns, options)
        total_weight = float(sum(each.sum() for each in weights))
        self.model.train()
        totals: dict[str, float] = {}
        for micro in self._micro_batches(turns, options.micro_batch_tokens, group_N):
            batch = collate(micro, self.family, load, features=features, device=self.device)
            batch = to_device(batch, self.device)
            weights_T = torch.cat([weights[n] for row in micro for n in row.sequences]).to(self.device)
            extra = {
                "advantages": _of_tokens(advantages_N.to(torch.float32), batch),
                "group": _of_tokens(group_N, batch),
                "offline": _of_tokens(offline_N, batch),
                "total_weight": total_weight,
                "kl_coef": kl_coef,
            }
            loss, metrics = self._loss(batch, weights_T, objective, temperature, extra)
            torch.autograd.backward(loss)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
        known = totals.pop("mismatch/known")
        if known > 0:
            totals["mismatch/logprob_abs"] /= known
        else:
            del totals["mismatch/logprob_abs"]
        return {**totals, **self._step(optimizer, options, step)}

    def _step(self, optimizer: torch.optim.Optimizer, options: StageConfig, step: int) -> dict[str, float]:
        """Move the weights along the gradients that are there, and let go of these."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.optimizer.max_grad_norm))
        if not math.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
            raise DivergedError(
                f"step {step}: the gradient norm is {norm}. Nothing was changed by this step, its "
                "rollouts are written and the last checkpoint is intact. Look at the rollouts; to go on differently, "
                "start a run of another name with model.path set to that checkpoint and a lower optimizer.lr."
            )
        rate = learning_rate(options.optimizer, step, options.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # the memory is the next rollout's
        if options.reference == "ema" and self.reference is not None:
            move_average(list(self.reference.parameters()), list(self.model.parameters()), options.reference_decay)
        return {"grad_norm": norm, "lr": rate}

    @torch.no_grad()
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
        if max_tokens is None:
            max_tokens = StageConfig(name="logprobs").micro_batch_tokens
            max_tokens = max_tokens if self.options is None else self.options.micro_batch_tokens
        found: dict[int, torch.Tensor] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            for micro in self._micro_batches(turns, max_tokens, None):
                batch = collate(micro, self.family, load, features=features, device=self.device)
                batch = to_device(batch, self.device)
                with self._as_reference() if reference else nullcontext(self.model) as model:
                    values, _ = response_logprobs(self.family, model, batch, temperature=temperature)
                lengths = [len(turns[n].response_ids) for row in micro for n in row.sequences]
                parts = torch.split(values.cpu(), lengths)
                found.update(zip((n for row in micro for n in row.sequences), parts, strict=True))
        finally:
            self.model.train(was_training)
        return [found[n] for n in range(len(turns))]

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

    def _micro_batches(
        self, turns: Sequence[Turn], max_tokens: int, group_N: torch.Tensor | None
    ) -> list[list[PackedTurns]]:
        if self._costs is None:
            self._costs = model_costs(self.family, self.model)
        costs = self._costs
        together = None if group_N is None else group_N.tolist()
        rows = pack_turns(turns, share_prefix=self.family.shares_prefix, together=together)
        return split_rows(rows, max_tokens, lambda unit: turns_cost(unit, costs))

    def _loss(
        self,
        batch: Batch,
        weights_T: torch.Tensor,
        objective: Objective,
        temperature: float,
        extra: dict[str, Any],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert self.options is not None
        options, needs = self.options, stage_needs(self.options)
        hidden = response_hidden(self.family, self.model, batch)
        logprobs, entropy = hidden_logprobs(self.family, self.model, hidden, batch.targets, temperature=temperature)
        if options.entropy_coef == 0:
            entropy = entropy.detach()
        reference = divergence = None
        if needs & {"ref_logprobs", "full_kl"}:
            with torch.no_grad(), self._as_reference() as model:
                seen = response_hidden(self.family, model, batch)
                reference, _ = hidden_logprobs(self.family, model, seen, batch.targets, temperature=temperature)
            if "full_kl" in needs:
                # Logits come from a matrix that has no adapter, so the model itself stands for its base there.
                model = self.model if self.reference is None else self.reference
                divergence = hidden_full_kl(self.family, self.model, model, hidden, seen, temperature=temperature)
        tokens, corrections = token_batch(
            options,
            logprobs=logprobs,
            engine_logprobs=batch.engine_logprobs,
            sequence=batch.sequence,
            weights=weights_T,
            ref_logprobs=reference,
            full_kl=divergence,
            entropy=entropy,
            **extra,
        )
        loss, metrics = objective(tokens, options)
        known = (weights_T > 0) & ~batch.engine_logprobs.isnan()
        distance = (batch.engine_logprobs - tokens.logprobs.detach()).abs()
        return loss, {
            **metrics,
            **corrections,
            "policy/entropy": tokens.report(entropy),
            "mismatch/logprob_abs": tokens.report(torch.where(known, distance, 0.0)),
            "mismatch/known": tokens.report(known.float()),
        }

    def save(self, directory: Path) -> None:
        """Write a Hugging Face checkpoint plus the optimiser's state into an existing empty directory.

        Adapters are merged into its weights, and beside them for ``restore``.
        """
        average = self.reference if self.options is not None and self.options.reference == "ema" else None
        write_policy(directory, self.model, self.family.tokenizer, self.checkpoint, self.optimizer, average)

    def restore(self, directory: Path) -> None:
        """Take weights and optimiser state from a checkpoint written by ``save`` in the same stage.

        The reference of a KL term is not in it, unless it moves: it is the policy as ``begin`` found it, at the stage's
        start. With adapters, the weights under them are those the policy was opened with.

        Raises:
            ConfigError: the checkpoint is of another model; nothing is changed then.
        """
        if self.optimizer is None:
            raise RuntimeError("call begin(stage) before restore()")
        if self.config.lora is not None:
            read_adapters(directory, self.model)
        else:
            copy_weights(_load(self.family, directory, self.config), self.model, directory)
        if self.reference is not None and self.options is not None and self.options.reference == "ema":
            read_reference(directory, self.reference)
        read_optimizer(directory, self.model, self.optimizer)


def _load(family: Family, directory: Path, config: ModelConfig) -> Any:
    """The model with float32 parameters, whatever it computes in.

    In bfloat16 a weight of 0.02 has steps of 1e-4, so that updates of 1e-6 would be rounded away.
    """
    implementation: str = config.attention
    if family.shares_prefix and implementation == "sdpa":
        implementation = attention.register()
    return family.load_model(
        directory, dtype=torch.float32, attention=implementation, trust_remote_code=config.trust_remote_code
    )


def _of_tokens(values_N: torch.Tensor | None, batch: Batch) -> torch.Tensor | None:
    """What is said of turns, said of their tokens."""
    return None if values_N is None else values_N.to(batch.sequence.device)[batch.sequence]


def _turn_weights(turns: Sequence[Turn], options: StageConfig) -> list[torch.Tensor]:
    """The weight of every response token in the whole step, turn by turn."""
    lengths = [len(turn.response_ids) for turn in turns]
    learn = torch.cat([torch.from_numpy(turn.response_mask) for turn in turns])
    sequence = torch.repeat_interleave(torch.arange(len(turns)), torch.tensor(lengths))
    weights = token_weights(learn, sequence, options.aggregation, length=options.aggregation_length)
    return list(torch.split(weights, lengths))
