"""The policy: weights, optimiser, and the one way they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.assembly import stage_needs, token_batch
from easyvideor1.algorithms.kl import KLWeight, move_average
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import Objective, objective_loss
from easyvideor1.attention import functions as attention
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, configured_family
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.packing.logprobs import hidden_divergence, hidden_logprobs, response_hidden
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.policy.adapters import adapter_tensors, add_adapters, weights
from easyvideor1.policy.critic import Critic
from easyvideor1.policy.forward_passes import ForwardPasses
from easyvideor1.policy.memory_savings import compile_layers, copy_trained, shrink_frozen
from easyvideor1.policy.optimizer import adamw, clip_gradients, learning_rate, step_at_rate
from easyvideor1.policy.saving import (
    OPTIMIZER,
    read_adapters,
    read_optimizer,
    read_reference,
    read_weights,
    write_policy,
)
from easyvideor1.policy.token_targets import TokenTargets, turn_weights
from easyvideor1.types import ConfigError, EasyVideoError, Turn

#: Told of a micro-batch: the turn of every token, its log-prob by trainer and engine (NaN: unknown), if it is learnt.
Observe = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]


def chosen_device(config: ModelConfig) -> torch.device:
    """Where the policy lives: what the config names, or the first GPU, or the CPU.

    Raises:
        ConfigError: the config names no device, or a GPU that torch does not find.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise ConfigError(f"model.device {config.device!r} is not a device; write auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"torch {torch.__version__} finds {torch.cuda.device_count()} GPUs"
        raise ConfigError(f"model.device {config.device!r} does not exist: {found}; set model.device=auto")
    return device


class DivergedError(EasyVideoError, FloatingPointError):
    """An update's gradient is not finite; the weights are as they were before it."""


class Policy(ForwardPasses):
    """A trainable model with its family adapter and optimiser.

    ``begin`` starts a stage: it builds the optimiser and, when the stage asks for a KL term, keeps a frozen copy of the
    weights as the reference (none where that is the base of adapters); a critic starts from them, too. ``update`` makes
    one optimiser step from any number of turns; ``ForwardPasses`` says what policy, reference and critic think of them.
    """

    def __init__(self, family: Family, model: Any, checkpoint: Path, config: ModelConfig) -> None:
        super().__init__(family, model, config)
        self.checkpoint = checkpoint
        self.optimizer: torch.optim.AdamW | None = None
        #: Of the stage's KL; whoever steers it keeps it beside the checkpoint.
        self.kl_weight = KLWeight(0.0)
        self._waits = 0
        # With B at 0, where every adapter starts, these decide it.
        self._first_adapters = {
            name: tensor.detach().cpu().clone() for name, tensor in adapter_tensors(model).items() if ".lora_A." in name
        }

    @classmethod
    def open(cls, config: ModelConfig, checkpoint: Path | None = None) -> Policy:
        """Load ``checkpoint`` (or ``config.path``) onto the configured device, freeze what the config names."""
        directory = Path(checkpoint or config.path)
        family = configured_family(config, directory)
        model = _load(family, config, directory)
        return cls.of(family, model.to(chosen_device(config)), directory, config)

    @classmethod
    def of(cls, family: Family, model: Any, directory: Path, config: ModelConfig) -> Policy:
        """A policy of a loaded model: what the config says is frozen, adapted, recomputed and compiled."""
        dtype = getattr(torch, config.dtype)
        model.compute_dtype = dtype
        for group in config.freeze:
            for module in family.groups(model)[group]:
                module.requires_grad_(False)
        if config.lora is not None:
            add_adapters(family, model, config.lora)
        if dtype != torch.float32:
            shrink_frozen(model, dtype)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.compile:
            compile_layers(model)
        return cls(family, model, directory, config)

    def begin(self, options: StageConfig) -> None:
        """Start a stage with a fresh optimiser; the reference, if one is needed, is the policy as it is now.

        Raises:
            ConfigError: ``model.freeze`` leaves nothing to train, or the reference is a base without adapters.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError("model.freeze freezes the whole model; leave at least one group to train")
        if options.kl.reference == "adapter-off" and self.config.lora is None:
            raise ConfigError(f"stages.{options.name}.kl.reference: adapter-off needs adapters; set model.lora")
        self.options = options
        settings = options.optimizer
        self.optimizer = adamw(trained, settings, settings.lr)
        self.kl_weight = KLWeight.of(options.kl)
        self.reference = None
        if stage_needs(options) & {"ref_logprobs", "full_kl"} and options.kl.reference != "adapter-off":
            self.reference = copy_trained(self.model).requires_grad_(False).eval()
        self.critic = Critic(self.family, self.model, options) if "values" in stage_needs(options) else None
        # The policy's schedule begins with its own first step.
        self._waits = 0 if self.critic is None else options.critic.warmup_steps

    def load(self, checkpoint: Path) -> None:
        """Take the weights of another checkpoint in place: what ``open`` would make of it, without a second model.

        Parameter objects stay the same, so an engine that holds the module sees the new weights. Adapters start anew.
        The stage is over: optimiser, reference and critic are gone, and ``begin`` starts the next one.

        Raises:
            ConfigError: the checkpoint is of another model; nothing is changed then.
        """
        self._read(checkpoint)
        self.checkpoint = checkpoint
        with torch.no_grad():
            for name, tensor in adapter_tensors(self.model).items():
                if name in self._first_adapters:
                    tensor.copy_(self._first_adapters[name])
                else:
                    tensor.zero_()
        self.options = self.optimizer = self.reference = self.critic = None
        self.kl_weight, self._waits = KLWeight(0.0), 0
        self.model.eval()

    def _read(self, checkpoint: Path) -> None:
        """Weights from a checkpoint, frozen ones in the computing type where that is exact."""
        read_weights(checkpoint, self.model, partial(_load, self.family, self.config, checkpoint))
        if (dtype := getattr(torch, self.config.dtype)) != torch.float32:
            shrink_frozen(self.model, dtype)

    def weights(self, *, merged: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under its Hugging Face name, one after the other: see ``adapters.weights``."""
        return weights(self.model, merged=merged)

    def update(
        self,
        turns: Sequence[Turn],
        advantages_N: torch.Tensor | Sequence[torch.Tensor],
        objective: Objective,
        *,
        step: int,
        temperature: float,
        load: LoadFrames,
        features: FeatureCache | None = None,
        group_N: torch.Tensor | None = None,
        offline_N: torch.Tensor | None = None,
        trajectory_N: torch.Tensor | None = None,
        step_pairs: torch.Tensor | None = None,
        kl_coef: float | None = None,
        rollout_logprobs: Sequence[torch.Tensor] | None = None,
        observe: Observe | None = None,
    ) -> dict[str, float]:
        """One optimiser step.

        Every token's weight is its share of the whole step, so micro-batching changes memory and time only.

        Args:
            turns: N turns; those that answer the same prompt object share its computation.
            advantages_N: float ``(N,)``, or per turn one number for each of its tokens.
            objective: from ``easyvideor1.algorithms.objectives``.
            step: 1-based step of the stage, for the learning-rate schedule.
            temperature: of the rollout.
            load: reads frames of a plan.
            features: of this model; what it has is not computed again.
            group_N: int64 ``(N,)``, the group of every turn; it stays in one micro-batch if the stage needs that.
            offline_N: bool ``(N,)``, turns of another policy.
            trajectory_N: int64 ``(N,)``, of which trajectory each is a turn: the sequence of objectives. Its own if
                not given.
            step_pairs: int64 ``(K, 2)``, better and worse trajectories.
            kl_coef: an adaptive weight of the KL.
            rollout_logprobs: per turn, of the policy as it was when the turns were made, where it has moved since; else
                those of this pass stand for them.
            observe: is told the log-probs of every micro-batch before the weights move; what it raises stops the step.

        Returns:
            ``loss``, ``grad_norm`` before clipping, ``lr``, and the step's weighted means of the objective's metrics.

        Raises:
            DivergedError: the gradient is not finite; weights and optimiser state are untouched.
            DataError: frames disagree with their prompt.
        """
        options, optimizer = self.options, self.optimizer
        if options is None or optimizer is None:
            raise RuntimeError("call begin(stage) before update()")
        facts = TokenTargets(
            turn_weights(turns, options, trajectory_N),
            advantages_N,
            group_N,
            offline_N,
            trajectory_N,
            step_pairs,
            kl_coef,
            rollout_logprobs,
        )
        together = group_N if stage_needs(options) & {"group_ids", "pairs"} else trajectory_N
        self.model.train()
        optimizer.zero_grad(set_to_none=True)  # of a step that was interrupted
        totals: dict[str, torch.Tensor] = {}
        for order, batch in self.batches(turns, options.micro_batch_tokens, load, features, together):
            said = facts.of_tokens(order, batch)
            loss, metrics, logprobs = self._loss(batch, objective, temperature, said)
            if observe is not None:
                observe(batch.sequence, logprobs.detach(), batch.engine_logprobs, said["weights"] > 0)
            if loss.requires_grad:  # text alone beside a frozen language model uses nothing that is trained
                torch.autograd.backward(loss)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + value.detach()
        found = {name: float(value) for name, value in totals.items()}
        known = found.pop("mismatch/known")
        if known > 0:
            found["mismatch/logprob_abs"] /= known
        else:
            del found["mismatch/logprob_abs"]
        return {**found, **self._step(optimizer, options, step)}

    def update_critic(
        self,
        turns: Sequence[Turn],
        values: Sequence[torch.Tensor],
        returns: Sequence[torch.Tensor],
        *,
        step: int,
        load: LoadFrames,
        features: FeatureCache | None = None,
        trajectory_N: torch.Tensor | None = None,
    ) -> dict[str, float]:
        """One optimiser step of the critic; see ``Critic.update``."""
        options = self._stage()
        assert self.critic is not None
        batches = self.batches(turns, options.micro_batch_tokens, load, features)
        weights = turn_weights(turns, options, trajectory_N)
        return self.critic.update(batches, weights, values, returns, step=step)

    def _step(self, optimizer: torch.optim.Optimizer, options: StageConfig, step: int) -> dict[str, float]:
        """Move the weights along the gradients that are there, and let go of these."""
        norm = clip_gradients(self.model.parameters(), options.optimizer)
        if not math.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
            raise DivergedError(
                f"step {step}: the gradient norm is {norm}. Nothing was changed by this update, the step's "
                "rollouts are written and the last checkpoint is intact. Look at the rollouts; to go on differently, "
                "start a run of another name with model.path set to that checkpoint and a lower optimizer.lr."
            )
        rate = learning_rate(options.optimizer, step - self._waits, options.step_count - self._waits)
        step_at_rate(optimizer, rate)
        if options.kl.reference == "ema" and self.reference is not None:
            pairs = zip(self.reference.parameters(), self.model.parameters(), strict=True)
            moving = [(kept, new) for kept, new in pairs if new.requires_grad]
            move_average([kept for kept, _ in moving], [new for _, new in moving], options.kl.reference_decay)
        return {"grad_norm": norm, "lr": rate}

    def _loss(
        self,
        batch: MicroBatch,
        objective: Objective,
        temperature: float,
        said: dict[str, Any],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        options = self._stage()
        needs = stage_needs(options)
        hidden = response_hidden(self.family, self.model, batch)
        logprobs, entropy = hidden_logprobs(self.family, self.model, hidden, batch.targets, temperature=temperature)
        if options.objective.entropy_coef == 0:
            entropy = entropy.detach()
        reference = full = divergence = None
        # KL that goes off the reward was computed before.
        in_loss = needs if options.kl.placement == "loss" else needs_of(objective)
        asked = {"logprobs": "ref_logprobs" in in_loss, "full": options.kl.placement == "loss" and "full_kl" in needs}
        if any(asked.values()):
            reference, full = self._against(batch, hidden, temperature, **asked)
        if "full_logits" in needs and said["group"] is not None:
            divergence = hidden_divergence(
                self.family, self.model, hidden, batch.sequence, said["group"], temperature=temperature
            )
        tokens, corrections = token_batch(
            options,
            logprobs=logprobs,
            engine_logprobs=batch.engine_logprobs,
            ref_logprobs=reference,
            full_kl=full,
            entropy=entropy,
            divergence=divergence,
            **said,
        )
        loss, metrics = objective_loss(objective, tokens, options)
        known = (said["weights"] > 0) & ~batch.engine_logprobs.isnan()
        if tokens.offline is not None:
            known &= ~tokens.offline  # what another policy says is no mismatch
        rollout = said["rollout_logprobs"]
        distance = (batch.engine_logprobs - (tokens.logprobs.detach() if rollout is None else rollout)).abs()
        found = {
            **metrics,
            **corrections,
            "policy/entropy": tokens.report(entropy),
            "mismatch/logprob_abs": tokens.report(torch.where(known, distance, 0.0)),
            "mismatch/known": tokens.report(known.float()),
        }
        return loss, found, logprobs

    def save(self, directory: Path) -> None:
        """Write a Hugging Face checkpoint plus the optimiser's state into an existing empty directory.

        Adapters are merged into its weights, and beside them for ``restore``.
        """
        average = self.reference if self.options is not None and self.options.kl.reference == "ema" else None
        write_policy(directory, self.model, self.family.tokenizer, self.checkpoint, self.optimizer, average)
        if self.critic is not None:
            self.critic.save(directory)

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
            self._read(directory)
        if self.reference is not None and self.options is not None and self.options.kl.reference == "ema":
            read_reference(directory, self.reference, self.model)
        read_optimizer(directory / OPTIMIZER, self.model, self.optimizer)
        if self.critic is not None:
            self.critic.restore(directory)


def _load(family: Family, config: ModelConfig, directory: Path, meta: bool = False) -> Any:
    """The model with float32 parameters, whatever it computes in.

    In bfloat16 a weight of 0.02 has steps of 1e-4, so that updates of 1e-6 would be rounded away.
    """
    implementation: str = config.attention
    if family.shares_prefix and implementation == "sdpa":
        implementation = attention.register()
    return family.load_model(
        directory, dtype=torch.float32, attention=implementation, trust_remote_code=config.trust_remote_code, meta=meta
    )
