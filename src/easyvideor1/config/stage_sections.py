"""Sections of a stage that belong to no single algorithm: optimiser, critic, offline trajectories, KL, selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.base import BaseConfig, PositiveInt, Probability

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(BaseConfig):
    """AdamW and its schedule."""

    lr: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the two moment estimates."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Linear warm-up as a share of the stage's steps, in place of ``warmup_steps``."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What follows the warm-up."""
    min_lr_ratio: Probability = 0.0
    """Where cosine and linear end, as a share of ``lr``."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    """Gradients are scaled down to this norm."""

    @model_validator(mode="after")
    def _the_warm_up_is_given_once(self) -> OptimizerConfig:
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("warmup_steps and warmup_ratio both say how long the warm-up is: leave one out")
        return self


class CriticConfig(BaseConfig):
    """The value model of advantages that need one (``gae``)."""

    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate of the critic; its schedule is the stage's."""
    value_clip: Annotated[float, Field(gt=0)] | None = 0.5
    """New values stay within this distance of the old ones where that makes the loss larger; null for no clipping."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """First steps of the stage in which the critic alone learns; fewer than the stage has."""


class HybridConfig(BaseConfig):
    """Offline trajectories of the rows in groups of the policy's own responses."""

    policy: Literal["replace-last", "below", "fraction", "schedule"] = "replace-last"
    """Which groups get them: all whose rows have any; those whose own responses have a mean accuracy below
    ``threshold``; a ``fraction`` of them; or a fraction that moves from ``fraction`` to ``fraction_end``."""
    responses: PositiveInt = 1
    """Number of offline responses per group. They replace the last responses, which are then not generated. Exception:
    ``below`` generates all responses first, then replaces the last ones."""
    threshold: Probability = 0.5
    """Mean accuracy of ``below``."""
    fraction: Probability = 0.5
    """Part of the groups under ``fraction``; where ``schedule`` starts."""
    fraction_end: Probability = 0.0
    """Where ``schedule`` ends."""
    fraction_steps: PositiveInt | None = None
    """Steps that ``schedule`` takes; null for the whole stage."""
    too_long: Literal["leave-out", "cut"] = "leave-out"
    """What happens to a trajectory longer than ``rollout.max_new_tokens``: its group stays on-policy, or it is cut
    there and has no end, like a response that reached the limit."""

    @model_validator(mode="after")
    def _options_are_of_the_policy(self) -> HybridConfig:
        faults: list[str] = []
        if self.policy != "below":
            faults += self.unused(["threshold"], "policy: below")
        if self.policy not in ("fraction", "schedule"):
            faults += self.unused(["fraction"], "policy: fraction or schedule")
        if self.policy != "schedule":
            faults += self.unused(["fraction_end", "fraction_steps"], "policy: schedule")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class MismatchConfig(BaseConfig):
    """A bound on the distance between the engine's log-probs and the trainer's."""

    bound: Annotated[float, Field(gt=0)] | None = None
    """Largest mean distance per token, in nats, of any one response; null for no bound."""
    action: Literal["warn", "stop"] = "warn"
    """Name the worst response and go on, or stop the run before it is trained on."""

    @model_validator(mode="after")
    def _a_stop_has_a_bound(self) -> MismatchConfig:
        if self.bound is None and self.action == "stop":
            raise ValueError("action: stop would have no effect: it goes with bound; set that, or leave out action")
        return self


class KLConfig(BaseConfig):
    """KL divergence from a reference policy. A word is short for the estimator: ``kl: k3``."""

    estimator: Literal["none", "k1", "k2", "k3", "abs", "full"] = "none"
    """Estimated from sampled tokens, or ``full``, the sum over the vocabulary."""
    placement: Literal["loss", "reward"] = "loss"
    """A term of the loss, or taken off the reward before advantages. ``k1`` belongs in the reward."""
    coef: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the KL; where an adaptive one starts."""
    control: Literal["fixed", "adaptive"] = "fixed"
    """Keep the weight, or steer it towards ``target`` (Ziegler et al. 2019)."""
    target: Annotated[float, Field(gt=0)] = 0.1
    """KL per token, in nats, that an adaptive weight steers towards."""
    horizon: PositiveInt = 10_000
    """Horizon of Ziegler et al. (2019), in sequences; must exceed 0.2 x sequences per step."""
    reference: Literal["initial", "ema", "adapter-off"] = "initial"
    """The reference policy, of ``dpo`` too: as it was when the stage began, a moving average, or the base without its
    adapter."""
    reference_decay: Decay = 0.99
    """Share of the old reference that a moving average keeps in each update."""

    @model_validator(mode="after")
    def _options_fit_together(self) -> KLConfig:
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        if self.estimator == "none":
            for key, value in (("placement", "reward"), ("control", "adaptive")):
                if getattr(self, key) == value:
                    yield f"{key}: {value} needs an estimator: set estimator to k1, k2, k3, abs or full"
            yield from self.unused(["coef"], "an estimator")
        if self.control != "adaptive":
            yield from self.unused(["target", "horizon"], "control: adaptive")
        if self.reference != "ema":
            yield from self.unused(["reference_decay"], "reference: ema")
        if self.estimator == "k1" and self.placement == "loss":
            yield "k1 as a term of the loss has no gradient in expectation: set placement: reward, or estimator: k2"
        if self.control == "adaptive" and self.coef == 0:
            yield "an adaptive coef moves by factors and never leaves 0; start it above, such as 0.001"


class SelectionConfig(BaseConfig):
    """Which groups a step is trained on."""

    drop_flat_groups: bool | None = None
    """Drop flat groups: those whose responses all have the same reward. Null: dropped if their advantages are all zero
    (``grpo`` and similar advantages), and always for ``dpo``, which finds no pair in them. Null keeps them for
    ``reward_weighted_sft``, with ``kl.placement: reward``, and if they have offline members under
    ``off_policy: sft``: they are trained on even so."""
    filter_key: str = "accuracy"
    """What ``filter_low`` and ``filter_high`` look at: ``accuracy``, ``format``, ``total``, a name of
    ``rewards.parts``, or a part that the rule of a task type gives."""
    filter_low: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Keep only groups whose mean is above this; null for no bound."""
    filter_high: Annotated[float, Field(ge=0, le=2)] | None = None
    """Keep only groups whose mean is below this; null for no bound."""
    generation_rounds: PositiveInt = 1
    """Generate at most this many times per step, until ``prompts_per_step`` groups are usable (dynamic sampling)."""

    @property
    def filters(self) -> bool:
        """Whether there is a bound on the mean of a group."""
        return self.filter_low is not None or self.filter_high is not None

    @model_validator(mode="after")
    def _something_lies_between(self) -> SelectionConfig:
        low, high = self.filter_low, self.filter_high
        if low is not None and high is not None and low >= high:
            raise ValueError(
                f"no mean lies between filter_low ({low}) and filter_high ({high}); lower the first or raise the second"
            )
        if self.filter_key != "accuracy" and not self.filters:
            raise ValueError(
                "filter_key would have no effect: it goes with filter_low or filter_high; set one, or leave out "
                "filter_key"
            )
        return self


class OverlongConfig(BaseConfig):
    """What becomes of responses that reach the length limit."""

    filter: bool = False
    """Do not train on responses that were cut at the length limit."""
    cache: Annotated[int, Field(ge=0)] = 0
    """Tokens before the length limit in which a growing penalty is taken off the reward (DAPO); 0 for none, at most
    ``rollout.max_new_tokens``."""
    penalty: Annotated[float, Field(ge=0)] = 1.0
    """Penalty at the limit."""

    @model_validator(mode="after")
    def _penalty_has_a_place(self) -> OverlongConfig:
        if self.cache == 0 and self.penalty != 1.0:
            raise ValueError("penalty would have no effect: it goes with cache; set that, or leave out penalty")
        return self
