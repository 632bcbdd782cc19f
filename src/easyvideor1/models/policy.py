"""The policy: weights, optimiser, and the one way they change."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.objectives import Objective, TokenBatch, token_weights
from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.models.family import Family, load_family
from easyvideor1.models.features import FeatureCache
from easyvideor1.models.logprobs import response_logprobs
from easyvideor1.models.pack import Batch, LoadFrames, collate, pack_turns, split_rows, to_device
from easyvideor1.types import ConfigError, EasyVideoError, Turn

#: Files of a checkpoint that are not weights, handed on unchanged from stage to stage.
_COMPANIONS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


class DivergedError(EasyVideoError, FloatingPointError):
    """A step's gradient is not finite; the weights are as they were before it."""


class Policy:
    """A trainable model with its family adapter and optimiser.

    ``begin`` starts a stage: it builds the optimiser and, when the stage asks for a KL term, keeps a frozen copy of the
    weights as the reference. ``update`` makes one optimiser step from any number of turns.
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

    @classmethod
    def open(cls, config: ModelConfig, checkpoint: Path | None = None) -> Policy:
        """Load ``checkpoint`` (or ``config.path``) onto the configured device, freeze what the config names."""
        directory = Path(checkpoint or config.path)
        family = load_family(directory, trust_remote_code=config.trust_remote_code)
        model = _load(family, directory, config)
        model.compute_dtype = getattr(torch, config.dtype)
        device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        for group in config.freeze:
            for module in family.groups(model)[group]:
                module.requires_grad_(False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return cls(family, model, directory, config)

    def begin(self, options: StageConfig) -> None:
        """Start a stage with a fresh optimiser; the reference, if one is needed, is the policy as it is now.

        Raises:
            ConfigError: ``model.freeze`` leaves nothing to train.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError(
                f"model.freeze: {', '.join(self.config.freeze)} is the whole model; leave a group to train"
            )
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
        if options.kl != "none":
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

        Returns:
            ``loss``, ``grad_norm`` before clipping, ``lr``, and the step's weighted means of the objective's metrics.

        Raises:
            DivergedError: the gradient is not finite; weights and optimiser state are untouched.
            DataError: frames disagree with their prompt.
        """
        options, optimizer = self.options, self.optimizer
        if options is None or optimizer is None:
            raise RuntimeError("call begin(stage) before update()")
        weights = _turn_weights(turns, options.aggregation)
        rows = pack_turns(turns, share_prefix=self.family.shares_prefix)
        self.model.train()
        totals: dict[str, float] = {}
        for micro in split_rows(rows, options.micro_batch_tokens):
            batch = collate(micro, self.family, load, features=features, device=self.device)
            batch = to_device(batch, self.device)
            weights_T = torch.cat([weights[n] for row in micro for n in row.sequences]).to(self.device)
            loss, metrics = self._loss(batch, weights_T, advantages_N, objective, temperature)
            torch.autograd.backward(loss)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
        known = totals.pop("mismatch/known")
        if known > 0:
            totals["mismatch/logprob_abs"] /= known
        else:
            del totals["mismatch/logprob_abs"]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.optimizer.max_grad_norm)
        totals["grad_norm"] = float(norm)
        if not math.isfinite(totals["grad_norm"]):
            optimizer.zero_grad(set_to_none=True)
            raise DivergedError(
                f"step {step}: the gradient norm is {totals['grad_norm']}. Nothing was changed by this step, its "
                "rollouts are written and the last checkpoint is intact. Look at the rollouts; to go on differently, "
                "start a run of another name with model.path set to that checkpoint and a lower optimizer.lr."
            )
        totals["lr"] = learning_rate(options.optimizer, step, options.steps)
        for group in optimizer.param_groups:
            group["lr"] = totals["lr"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # the memory is the next rollout's
        return totals

    def _loss(
        self,
        batch: Batch,
        weights_T: torch.Tensor,
        advantages_N: torch.Tensor,
        objective: Objective,
        temperature: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert self.options is not None
        logprobs, entropy = response_logprobs(self.family, self.model, batch, temperature=temperature)
        # Tokens that are not learnt may be impossible under the policy; an infinite log-probability would turn the
        # gradient of the whole step into NaN (0 * inf), however small its weight.
        learnt = weights_T > 0
        logprobs = torch.where(learnt, logprobs, 0.0)
        current = logprobs.detach()
        known = learnt & ~batch.engine_logprobs.isnan()
        old = current
        if self.options.old_logprobs == "engine":
            old = torch.where(known, batch.engine_logprobs, current)
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference, _ = response_logprobs(self.family, self.reference, batch, temperature=temperature)
                reference = torch.where(learnt, reference, 0.0)
        tokens = TokenBatch(
            logprobs=logprobs,
            old_logprobs=old,
            ref_logprobs=reference,
            advantages=advantages_N.to(self.device, torch.float32)[batch.sequence],
            sequence=batch.sequence,
            weights=weights_T,
        )
        loss, metrics = objective(tokens, self.options)
        distance = (batch.engine_logprobs - current).abs()
        return loss, {
            **metrics,
            "policy/entropy": tokens.mean(entropy),
            "mismatch/logprob_abs": tokens.mean(torch.where(known, distance, 0.0)),
            "mismatch/known": tokens.mean(known.float()),
        }

    def save(self, directory: Path) -> None:
        """Write a Hugging Face checkpoint plus the optimiser's state into an existing empty directory."""
        from safetensors.torch import save_file

        self.model.save_pretrained(directory)
        self.family.tokenizer.save_pretrained(directory)
        for name in _COMPANIONS:
            if (self.checkpoint / name).is_file():
                (directory / name).write_bytes((self.checkpoint / name).read_bytes())
        if self.optimizer is not None:
            tensors = {}
            for name, parameter in self.model.named_parameters():
                for key, value in self.optimizer.state.get(parameter, {}).items():
                    tensors[f"{key}/{name}"] = value.detach().contiguous()
            if tensors:
                save_file(tensors, directory / "optimizer.safetensors")

    def restore(self, directory: Path) -> None:
        """Take weights and optimiser state from a checkpoint written by ``save`` in the same stage.

        The reference of a KL term is not in it: it is the policy as ``begin`` found it, at the stage's start.

        Raises:
            ConfigError: the checkpoint is of another model; nothing is changed then.
        """
        from safetensors.torch import load_file

        if self.optimizer is None:
            raise RuntimeError("call begin(stage) before restore()")
        weights = dict(_load(self.family, directory, self.config).named_parameters())
        _require_same_tensors(self.model, weights, directory)
        _copy_into(self.model, weights)
        named = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        file = directory / "optimizer.safetensors"
        for key, value in load_file(file).items() if file.is_file() else ():
            kind, _, name = key.partition("/")
            # AdamW keeps its step counter on the CPU.
            self.optimizer.state[named[name]][kind] = value if kind == "step" else value.to(self.device)


def _load(family: Family, directory: Path, config: ModelConfig) -> Any:
    """The model with float32 parameters, whatever it computes in.

    In bfloat16 a weight of 0.02 has steps of 1e-4, so that updates of 1e-6 would be rounded away.
    """
    return family.load_model(
        directory, dtype=torch.float32, attention=config.attention, trust_remote_code=config.trust_remote_code
    )


def learning_rate(settings: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of 1-based ``step``: linear warm-up, then the named schedule towards ``min_lr_ratio``."""
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    done = (step - 1 - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)  # no step is made at rate 0
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape)


def _turn_weights(turns: Sequence[Turn], aggregation: str) -> list[torch.Tensor]:
    """The weight of every response token in the whole step, turn by turn."""
    lengths = [len(turn.response_ids) for turn in turns]
    learn = torch.cat([torch.from_numpy(turn.response_mask) for turn in turns])
    sequence = torch.repeat_interleave(torch.arange(len(turns)), torch.tensor(lengths))
    return list(torch.split(token_weights(learn, sequence, aggregation), lengths))


def _require_same_tensors(model: Any, tensors: Mapping[str, torch.Tensor], origin: Path) -> None:
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = differing[0]
        raise ConfigError(
            f"{str(origin)!r} is a checkpoint of another model: {len(differing)} tensors differ, first {name!r}, "
            f"which is {found.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        )


@torch.no_grad()
def _copy_into(model: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name])
