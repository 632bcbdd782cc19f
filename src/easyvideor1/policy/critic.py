"""The critic: a model of the policy's family with a value head in place of logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.objectives import TokenBatch, value_loss
from easyvideor1.config import StageConfig
from easyvideor1.families.family import Family, compute_device
from easyvideor1.packing.logprobs import response_values
from easyvideor1.packing.micro_batch import MicroBatch
from easyvideor1.policy.optimizer import adamw, clip_gradients, learning_rate, step_at_rate
from easyvideor1.policy.restoring import read_optimizer, read_trained
from easyvideor1.policy.saving import optimizer_state, trained
from easyvideor1.policy.update_batch import UpdateBatch, joined
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
    """A value per response token, of the state before it, and its optimiser.

    It trains the same module groups (or adapters) as the policy, and lasts as long as its stage.

    Args:
        family: of the policy.
        model: a copy of the policy, where the critic starts; it becomes the critic's.
        options: of the stage.
        offload: whether the moments of its optimiser are in the memory of the host.
    """

    def __init__(self, family: Family, model: Any, options: StageConfig, *, offload: bool = False) -> None:
        self.family = family
        self.options = options
        logits = model.get_output_embeddings()
        if logits is not None and logits.weight is not model.get_input_embeddings().weight:
            logits.requires_grad_(False)  # the value head replaces it; its gradients would be computed for nothing
        self.model = ValueModel(model)
        self.model.head.to(compute_device(model), torch.float32)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = adamw(self.trained, options.optimizer, options.critic.lr, offload=offload)

    def values(self, batch: MicroBatch) -> torch.Tensor:
        """Values ``(T,)`` of the batch's response tokens, with gradient where that is on."""
        return response_values(self.family, self.model.model, self.model.head, batch)

    def forward_backward(
        self, update: UpdateBatch, batches: Iterable[tuple[Sequence[int], MicroBatch]]
    ) -> dict[str, float]:
        """Gradients towards ``returns``, in place of those that are there; sums of metrics.

        Args:
            update: the update, or the part of it that is here; its ``values``, of before the step, are what clipping
                is against.
            batches: micro-batches, of all turns or a share of them, with the numbers of their turns.
        """
        assert update.values is not None
        assert update.returns is not None
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)  # of a step that was interrupted
        totals: dict[str, float] = {}
        for order, batch in batches:
            found = self.values(batch)
            old, wanted, share = (
                joined(table, order, batch) for table in (update.values, update.returns, update.weights)
            )
            nothing = torch.zeros_like(found)
            tokens = TokenBatch(
                logprobs=nothing,
                old_logprobs=nothing,
                ref_logprobs=None,
                advantages=nothing,
                sequence=batch.sequence,
                weights=share,
                total_weight=update.total_weight or 1.0,
                values=found,
                old_values=old.to(found.dtype),
                returns=wanted.to(found.dtype),
            )
            loss, metrics = value_loss(tokens, self.options.critic)
            torch.autograd.backward(loss)
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
        return totals

    def optimizer_step(self, step: int) -> dict[str, float]:
        """Move the weights along the gradients that are there.

        Args:
            step: 1-based, for the learning-rate schedule.

        Raises:
            EasyVideoError: the gradient is not finite; nothing is changed then.
        """
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
        return {"critic/grad_norm": norm, "critic/lr": rate}

    def contents(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint holds of it, by file: what is trained, and the optimiser's state."""
        return {_WEIGHTS: trained(self.model), _OPTIMIZER: optimizer_state(self.model, self.optimizer)}

    def restore(self, directory: Path) -> None:
        """Take both from a checkpoint.

        Raises:
            ConfigError: it holds no critic, or one of another model; nothing is changed then.
        """
        read_trained(directory / _WEIGHTS, self.model)
        read_optimizer(directory / _OPTIMIZER, self.model, self.optimizer)
