"""The policy: weights, optimiser, and how they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist

from easyvideor1.algorithms.kl import KLWeight, move_average
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.family import Family, chosen_device, configured_family, configured_model
from easyvideor1.policy.adapters import adapter_tensors, weights
from easyvideor1.policy.critic import Critic
from easyvideor1.policy.forward_passes import ForwardPasses
from easyvideor1.policy.memory_savings import (
    cast_frozen_weights,
    compile_layers,
    copy_trained,
    copy_weights,
    prepare_training,
)
from easyvideor1.policy.optimizer import adamw, clip_gradients, learning_rate, step_at_rate
from easyvideor1.policy.restoring import read_adapters, read_optimizer, read_reference_weights, read_weights
from easyvideor1.policy.saving import OPTIMIZER, policy_snapshot
from easyvideor1.policy.snapshot import Snapshot
from easyvideor1.policy.spread import assign, is_sharded, local
from easyvideor1.types import ConfigError, EasyVideoError


class DivergedError(EasyVideoError, FloatingPointError):
    """An update's gradient is not finite; the weights are as they were before it."""


class Policy(ForwardPasses):
    """A trainable model with its family adapter and optimiser; it lasts for a whole run.

    ``begin`` starts a stage: it builds the optimiser and, where the stage needs them, a reference with the current
    weights (none where that is the base of adapters) and a critic that starts from them. An update is
    ``forward_backward``, which moves nothing, and then ``optimizer_step``. ``load`` reads another checkpoint.
    """

    def __init__(self, family: Family, model: Any, checkpoint: Path, config: ModelConfig) -> None:
        super().__init__(family, model, config)
        self.checkpoint = checkpoint
        self.optimizer: torch.optim.AdamW | None = None
        #: Weight of the stage's KL; an adaptive one is saved beside the checkpoint.
        self.kl_weight = KLWeight(0.0)
        self._waits = 0
        #: Whether this process writes checkpoints: of several ranks, one does.
        self.writes = True
        #: The ranks that hold parts which a checkpoint is put together from; none in a process that is alone.
        self.holders: dist.ProcessGroup | None = None
        #: Copies of the model by use: ``reference``, ``critic``.
        self.copies: dict[str, Any] = {}
        self._keeps_copies = False
        #: Engines that have the weights under the adapters, which change with a checkpoint only.
        self.base_holders: WeakSet[Any] = WeakSet()
        # With B at 0, where every adapter starts, these decide it.
        self._first_adapters = {
            name: tensor.detach().cpu().clone() for name, tensor in adapter_tensors(model).items() if ".lora_A." in name
        }

    @classmethod
    def open(cls, config: ModelConfig, checkpoint: Path | None = None) -> Policy:
        """Load ``checkpoint`` (or ``config.path``) onto the configured device, freeze what the config names."""
        directory = Path(checkpoint or config.path)
        family = configured_family(config, directory)
        model = configured_model(family, config, directory)
        return cls.of(family, model.to(chosen_device(config)), directory, config)

    @classmethod
    def of(
        cls,
        family: Family,
        model: Any,
        directory: Path,
        config: ModelConfig,
        cast: Callable[[Any, torch.dtype], None] = cast_frozen_weights,
    ) -> Policy:
        """A policy of a loaded model: what the config says is frozen, adapted, recomputed and compiled.

        ``cast`` keeps frozen weights in the computing type.
        """
        prepare_training(family, model, config)
        if (dtype := getattr(torch, config.dtype)) != torch.float32:
            cast(model, dtype)
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
        self.objective = OBJECTIVES.resolve(options.objective.name)
        settings = options.optimizer
        offloaded = "optimizer" in self.config.offload
        self.optimizer = adamw(trained, settings, settings.lr, offload=offloaded)
        self.kl_weight = KLWeight.of(options.kl)
        copies = self._copies_for(options)
        self.reference = copies.get("reference")
        if self.reference is not None:
            self.reference.requires_grad_(False).eval()
        self.critic = None
        if "critic" in copies:
            self.critic = Critic(self.family, copies["critic"], options, offload=offloaded)
        # The policy's schedule begins with its own first step.
        self._waits = 0 if self.critic is None else options.critic.warmup_steps

    def prepare(self, stages: Sequence[StageConfig], *, contents: bool = True) -> None:
        """Copy the model for the references and critics of some stages, and keep the ``copies``.

        Without ``contents`` these have room for trained weights only; the ``begin`` of their stage gives them the
        policy's. ``begin`` does this for its own stage. A sharded model is not copied: where ranks share it, call this
        without ``contents`` before it is sharded, with all stages of the run, shard the copies like the model, and have
        them share what is frozen (``sharding.share_frozen``).

        Raises:
            RuntimeError: the model is sharded.
        """
        for options in stages:
            for use in _uses(options):
                if use not in self.copies:
                    if is_sharded(self.model):
                        raise RuntimeError(f"stage {options.name} needs a {use}: call prepare() before sharding")
                    self.copies[use] = copy_trained(self.model, contents=contents)
        self._keeps_copies = True

    def _copies_for(self, options: StageConfig) -> dict[str, Any]:
        """The copies that a stage needs, with the current weights; others are released unless they were prepared."""
        kept, uses = self._keeps_copies, _uses(options)
        if not kept:
            self.copies = {use: self.copies[use] for use in uses if use in self.copies}
        self.prepare([options])
        self._keeps_copies = kept
        for use in uses:
            copy_weights(self.copies[use], self.model)
        return {use: self.copies[use] for use in uses}

    def load(self, checkpoint: Path) -> None:
        """Take the weights of another checkpoint in place: the result of ``open``, without a second model in memory.

        Parameter objects stay the same, so an engine that holds the module sees the new weights. Adapters start anew.
        This ends the stage: optimiser, reference and critic are released, and ``begin`` starts the next one.

        Raises:
            ConfigError: the checkpoint is of another model; nothing is changed then.
        """
        self._read(checkpoint)
        self.checkpoint = checkpoint
        with torch.no_grad():
            for name, tensor in adapter_tensors(self.model).items():
                if name in self._first_adapters:
                    assign(tensor, self._first_adapters[name])
                else:
                    tensor.zero_()
        if not self._keeps_copies:
            self.copies = {}
        self.options = self.objective = self.optimizer = self.reference = self.critic = None
        self.kl_weight, self._waits = KLWeight(0.0), 0
        self.model.eval()

    def _read(self, checkpoint: Path) -> None:
        """Weights from a checkpoint, frozen ones in the computing type where that is exact."""
        self.base_holders.clear()
        read_weights(checkpoint, self.model, partial(configured_model, self.family, self.config, checkpoint))
        if (dtype := getattr(torch, self.config.dtype)) != torch.float32:
            cast_frozen_weights(self.model, dtype)

    def weights(self, *, merged: bool = True, base: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under its Hugging Face name, one after the other: see ``adapters.weights``."""
        return weights(self.model, merged=merged, base=base)

    def optimizer_step(self, step: int) -> dict[str, float]:
        """Move the weights along the gradients that are there, and release these; legal without any gradient.

        Where ranks hold parts of an update, each of them calls this once its gradients are the sum over all of them.

        Args:
            step: 1-based step of the stage, for the learning-rate schedule.

        Returns:
            ``grad_norm`` before clipping, and ``lr``.

        Raises:
            DivergedError: the gradient is not finite; weights and optimiser state are untouched.
        """
        options, optimizer = self._stage(), self.optimizer
        assert optimizer is not None
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
            moving = [(local(kept), local(new)) for kept, new in pairs if new.requires_grad]
            move_average([kept for kept, _ in moving], [new for _, new in moving], options.kl.reference_decay)
        return {"grad_norm": norm, "lr": rate}

    def critic_step(self, step: int) -> dict[str, float]:
        """The same for the critic; see ``Critic.optimizer_step``."""
        assert self.critic is not None
        return self.critic.optimizer_step(step)

    def save(self, directory: Path) -> None:
        """Write a Hugging Face checkpoint plus the optimiser's state into an existing empty directory.

        Adapters are merged into its weights, and beside them for ``restore``. One tensor at a time is copied.
        """
        with closing(self._snapshot(copied=False)) as found:
            if self.writes:
                found.write(directory)
            else:
                found.answer()

    def snapshot(self) -> Snapshot:
        """What ``save`` would write now, as copies in the memory of the host: it can be written while training goes on.

        The caller writes it or not, and closes it.
        """
        return self._snapshot(copied=True)

    def _snapshot(self, *, copied: bool) -> Snapshot:
        average = self.reference if self.options is not None and self.options.kl.reference == "ema" else None
        return policy_snapshot(
            self.model,
            self.family.tokenizer,
            self.checkpoint,
            self.optimizer,
            average,
            {} if self.critic is None else self.critic.contents(),
            group=self.holders,
            writes=self.writes,
            copied=copied,
        )

    def restore(self, directory: Path) -> None:
        """Take weights and optimiser state from a checkpoint written by ``save`` in the same stage.

        A moving reference is in it; any other is the policy at the stage's start, so ``load`` that checkpoint and
        ``begin`` the stage first. With adapters, the weights under them are also those of the stage's start.

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
            read_reference_weights(directory, self.reference, self.model)
        read_optimizer(directory / OPTIMIZER, self.model, self.optimizer)
        if self.critic is not None:
            self.critic.restore(directory)


def _uses(options: StageConfig) -> list[str]:
    """What copies of the model a stage needs."""
    needs, found = stage_needs(options), []
    if needs & {"ref_logprobs", "full_kl"} and options.kl.reference != "adapter-off":
        found.append("reference")
    return [*found, "critic"] if "values" in needs else found
