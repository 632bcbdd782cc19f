"""The critic: a model of the policy's family whose head gives a value in place of logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.objectives import TokenBatch, value_loss
from easyvideor1.config import StageConfig
from easyvideor1.families.family import Family
from easyvideor1.packing.logprobs import response_values
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.policy.memory_savings import copy_trained
from easyvideor1.policy.optimizer import adamw, clip_gradients, learning_rate, step_at_rate
from easyvideor1.policy.saving import read_optimizer, read_trained, write_optimizer, write_trained
from easyvideor1.types import EasyVideoError

_WEIGHTS, _OPTIMIZER = "critic.safetensors", "critic_optimizer.safetensors"


class ValueModel(torch.nn.Module):
    """A language model and a linear head that starts at 0, so that values start at 0."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = torch.nn.Linear(int(model.config.get_text_config().hidden_size), 1)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)


class Critic:
    """A value per response token, of the state before it, and the optimiser that learns them.

    It begins as a copy of the policy, trains the same module groups (or adapters), and lasts as long as its stage.
    """

    def __init__(self, family: Family, model: Any, options: StageConfig) -> None:
        self.family = family
        self.options = options
        device = next(model.parameters()).device
        copied = copy_trained(model)
        logits = copied.get_output_embeddings()
        if logits is not None and logits.weight is not copied.get_input_embeddings().weight:
            logits.requires_grad_(False)  # a value is made by the head, so these weights would be kept for nothing
        self.model = ValueModel(copied).to(device)
        self.model.head.to(torch.float32)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = adamw(self.trained, options.optimizer, options.critic.lr)

    def values(self, batch: MicroBatch) -> torch.Tensor:
        """Values ``(T,)`` of the batch's response tokens, with gradient where that is on."""
        return response_values(self.family, self.model.model, self.model.head, batch)

    def update(
        self,
        batches: Iterable[tuple[Sequence[int], MicroBatch]],
        weights: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        returns: Sequence[torch.Tensor],
        *,
        step: int,
    ) -> dict[str, float]:
        """One optimiser step towards ``returns``.

        Args:
            batches: micro-batches with the indices of their turns.
            weights: of each turn's tokens in the step.
            values: of each turn's tokens before this step, for clipping.
            returns: of each turn's tokens.
            step: 1-based, for the learning-rate schedule.

        Raises:
            EasyVideoError: the gradient is not finite; nothing is changed then.
        """
        total = float(sum(each.sum() for each in weights)) or 1.0
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)  # of a step that was interrupted
        totals: dict[str, float] = {}
        for order, batch in batches:
            found = self.values(batch)
            old, wanted, share = (
                torch.cat([table[n] for n in order]).to(found.device) for table in (values, returns, weights)
            )
            nothing = torch.zeros_like(found)
            tokens = TokenBatch(
                logprobs=nothing,
                old_logprobs=nothing,
                ref_logprobs=None,
                advantages=nothing,
                sequence=batch.sequence,
                weights=share,
                total_weight=total,
                values=found,
                old_values=old.to(found.dtype),
                returns=wanted.to(found.dtype),
            )
            loss, metrics = value_loss(tokens, self.options.critic)
            torch.autograd.backward(loss)
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
        norm = clip_gradients(self.trained, self.options.optimizer)
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise EasyVideoError(
                f"step {step}: the critic's gradient norm is {norm}. Nothing was changed by this update and the last "
                "checkpoint is intact; lower critic.lr"
            )
        settings = self.options.optimizer
        rate = learning_rate(settings, step, self.options.step_count) * self.options.critic.lr / settings.lr
        step_at_rate(self.optimizer, rate)
        return {**totals, "critic/grad_norm": norm, "critic/lr": rate}

    def save(self, directory: Path) -> None:
        """Write what is trained, and the optimiser's state, into a checkpoint."""
        write_trained(directory / _WEIGHTS, self.model)
        write_optimizer(directory / _OPTIMIZER, self.model, self.optimizer)

    def restore(self, directory: Path) -> None:
        """Take both from a checkpoint.

        Raises:
            ConfigError: it holds no critic, or one of another model; nothing is changed then.
        """
        read_trained(directory / _WEIGHTS, self.model)
        read_optimizer(directory / _OPTIMIZER, self.model, self.optimizer)
