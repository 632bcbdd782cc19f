"""Options of the algorithms: a class for each name, so that nothing can be set that its algorithm would not read.

To add an algorithm, write the class of its options here (or take one that fits), enter it under its name in the table
of its kind, and register its function under the same name in ``easyvideor1.algorithms``. ``docs/algorithms.md`` has a
row for every name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from easyvideor1.config.base import CUSTOM, BaseConfig, PositiveInt, Probability

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class AdvantageOptions(BaseConfig):
    """How rewards become advantages. A name of your own is ``module:attr``."""

    group_centred: ClassVar[bool] = False
    """Whether the baseline is the group's own mean: 0 where responses score the same, or where there is only one."""
    reads_reward: ClassVar[bool] = True
    """Whether the total reward is read; if not, what is taken off it is lost."""

    name: str
    """Which advantage."""
    clip: Positive | None = None
    """Advantages are clipped to this size; null does not clip."""


class GroupAdvantage(AdvantageOptions):
    group_centred = True


class PartsAdvantage(GroupAdvantage):
    reads_reward = False


class OnesAdvantage(AdvantageOptions):
    reads_reward = False


class GDPOOptions(PartsAdvantage):
    part_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each part of the score: ``accuracy``, ``format`` and names of ``rewards.parts``. If empty, accuracy and
    format have weight 1. A part that a group does not have counts 0."""


class PassAtKOptions(PartsAdvantage):
    k: PositiveInt = 4
    """Number of responses in a set, smaller than ``group_size``."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Accuracy from which a response counts as correct."""


class PerTurnOptions(GroupAdvantage):
    gamma: Probability = 1.0
    """Discount per turn. With 0 each turn has its own reward alone."""
    baseline: Literal["first", "same"] = "first"
    """What is taken off the return of a turn: the group's mean at the first turn, or at the same turn, over the
    trajectories that have it."""
    scale: Literal["none", "std"] = "none"
    """Whether it is divided by the group's standard deviation there, as GRPO does."""


class GAEOptions(AdvantageOptions):
    gamma: Probability = 1.0
    """Discount per token."""
    lam: Probability = 1.0
    """Decay (lambda) of the generalised advantage estimate."""


class CustomAdvantage(AdvantageOptions):
    model_config = ConfigDict(extra="allow")


ADVANTAGE_OPTIONS: Mapping[str, type[AdvantageOptions]] = {
    "dr_grpo": GroupAdvantage,
    "gae": GAEOptions,
    "gdpo": GDPOOptions,
    "grpo": GroupAdvantage,
    "mean_only": GroupAdvantage,
    "ones": OnesAdvantage,
    "opo": GroupAdvantage,
    "pass_at_k": PassAtKOptions,
    "per_turn": PerTurnOptions,
    "reinforce_plus_plus": AdvantageOptions,
    "reinforce_plus_plus_baseline": GroupAdvantage,
    "remax": AdvantageOptions,
    "reward": AdvantageOptions,
    "rloo": GroupAdvantage,
    CUSTOM: CustomAdvantage,
}


class ObjectiveOptions(BaseConfig):
    """What the policy minimises. A name of your own is ``module:attr``."""

    of_sequences: ClassVar[bool] = False
    """Whether terms are of whole sequences, and have no meaning token by token."""
    one_advantage: ClassVar[bool] = False
    """Whether a sequence must have one advantage for all of its tokens."""

    pairs_responses: ClassVar[bool] = False
    """Whether responses of a group are compared in pairs, so that a group with equal rewards has none."""
    trains_flat_groups: ClassVar[bool] = False
    """Whether an advantage of 0 has a gradient."""
    shapes_offline: ClassVar[bool] = False
    """Whether it shapes offline tokens itself, with ``off_policy: none``."""

    name: str
    """Which objective."""
    entropy_coef: NotNegative = 0.0
    """Weight of an entropy bonus."""


class RatioOptions(ObjectiveOptions):
    old_logprobs: Literal["current", "engine"] = "current"
    """The policy that importance ratios are taken against: the trainer's own as it was when the step began, or the
    engine's log-probs as they came with the rollout. When one optimiser step follows each rollout, the trainer's own
    are those of the same pass and nothing is recomputed; with more, one pass is made for them before the first."""


class ClipOptions(RatioOptions):
    clip_low: NotNegative = 0.2
    """Lower clip range of the importance ratio. GSPO takes 3e-4; GMPO clips the logarithm, and takes 0.4."""
    clip_high: NotNegative = 0.28
    """Upper clip range of the importance ratio (DAPO's clip-higher). GSPO takes 4e-4, GMPO 0.4."""


class DualClipOptions(ClipOptions):
    clip_dual: Annotated[float, Field(gt=1)] | None = None
    """Bound on the ratio where the advantage is negative (dual clip; 3 is usual); null for none."""

    @model_validator(mode="after")
    def _dual_clip_lies_outside(self) -> DualClipOptions:
        if self.clip_dual is not None and self.clip_dual < 1 + self.clip_high:
            raise ValueError(
                f"clip_dual ({self.clip_dual}) lies inside the clip range, which ends at {1 + self.clip_high:g}; "
                "3 is usual"
            )
        return self


class LuffyOptions(DualClipOptions):
    shapes_offline = True

    gamma: Positive = 0.1
    """Gamma of the shaping ``p / (p + gamma)`` of offline tokens."""


class SequenceClipOptions(ClipOptions):
    of_sequences = True
    one_advantage = True


class GSPOTokenOptions(ClipOptions):
    of_sequences = True


class SAPOOptions(RatioOptions):
    tau_positive: Positive = 1.0
    """Temperature of the soft gate where the advantage is positive."""
    tau_negative: Positive = 1.05
    """Temperature of the soft gate elsewhere."""


class RegGRPOOptions(RatioOptions):
    of_sequences = True
    one_advantage = True

    floor: Positive = 1.0
    """Deviation, in nats, that is added to a group's own deviation of log-ratios, which is 0 when a step begins."""


class DPOOptions(ObjectiveOptions):
    of_sequences = True
    pairs_responses = True

    beta: Positive = 0.1
    """Inverse temperature."""


class RewardWeightedOptions(ObjectiveOptions):
    trains_flat_groups = True

    temperature: Positive = 1.0
    """A response has the weight ``exp(advantage / temperature)``."""
    weight_cap: Positive = 20.0
    """Largest such weight."""


class CustomObjective(RatioOptions):
    model_config = ConfigDict(extra="allow")


OBJECTIVE_OPTIONS: Mapping[str, type[ObjectiveOptions]] = {
    "cispo": ClipOptions,
    "dpo": DPOOptions,
    "gmpo": SequenceClipOptions,
    "gspo": SequenceClipOptions,
    "gspo_token": GSPOTokenOptions,
    "luffy": LuffyOptions,
    "ppo_clip": DualClipOptions,
    "reg_grpo": RegGRPOOptions,
    "reinforce": ObjectiveOptions,
    "reward_weighted_sft": RewardWeightedOptions,
    "sapo": SAPOOptions,
    "sft": ObjectiveOptions,
    CUSTOM: CustomObjective,
}


class OffPolicyOptions(BaseConfig):
    """How offline responses in on-policy groups are trained on (``hybrid`` mixes them in).

    ``none``: like all others. ``importance``: with their ratio to the log-probs that came with them. ``luffy``: with
    LUFFY's shaping. ``sft``: as examples to imitate.
    """

    name: str
    """Which treatment."""


class LuffyShaping(OffPolicyOptions):
    gamma: Positive = 0.1
    """Gamma of the shaping ``p / (p + gamma)``."""


class OfflineSFT(OffPolicyOptions):
    coef: NotNegative = 1.0
    """Weight of the offline tokens."""


OFF_POLICY_OPTIONS: Mapping[str, type[OffPolicyOptions]] = {
    "none": OffPolicyOptions,
    "importance": OffPolicyOptions,
    "luffy": LuffyShaping,
    "sft": OfflineSFT,
}


class AggregationOptions(BaseConfig):
    """How the losses of tokens become one number.

    ``token``: the mean over all response tokens. ``sequence``: the mean over sequences of their token means. ``turn``:
    the mean over turns of their token means. ``fixed``: the sum over tokens divided by sequences times ``length``
    (Dr.GRPO).
    """

    name: str
    """Which mean."""


class FixedAggregation(AggregationOptions):
    length: PositiveInt
    """Tokens that every sequence is divided by; ``rollout.max_new_tokens`` is the usual number."""


AGGREGATION_OPTIONS: Mapping[str, type[AggregationOptions]] = {
    "token": AggregationOptions,
    "sequence": AggregationOptions,
    "turn": AggregationOptions,
    "fixed": FixedAggregation,
}


class WeighterOptions(BaseConfig):
    """How much the policy gradient of each token counts. A name of your own is ``module:attr``."""

    name: str
    """Which token weighter."""


class TWGRPOOptions(WeighterOptions):
    alpha: Annotated[float, Field(ge=1)] = 1.7
    """Weight of the tokens that a group disagrees about most; the least has 1."""


class EntropyTopOptions(WeighterOptions):
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a group's tokens, those of highest entropy, that are trained on."""


class EntropyMeanOneOptions(WeighterOptions):
    floor: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Least weight of a token before the weights of its sequence are scaled to a mean of 1, where the largest is 1."""


class CustomWeighter(WeighterOptions):
    model_config = ConfigDict(extra="allow")


WEIGHTER_OPTIONS: Mapping[str, type[WeighterOptions]] = {
    "none": WeighterOptions,
    "entropy_mean_one": EntropyMeanOneOptions,
    "entropy_top": EntropyTopOptions,
    "tw_grpo": TWGRPOOptions,
    CUSTOM: CustomWeighter,
}


class CorrectionOptions(BaseConfig):
    """How a distance between trainer and engine is corrected, with ``old_logprobs: current``. A name of your own is
    ``module:attr``."""

    name: str
    """Which correction."""


class TruncationOptions(CorrectionOptions):
    cap: Annotated[float, Field(ge=1)] = 2.0
    """Largest importance weight; at least 1, which is the weight where trainer and engine agree."""


class MaskOptions(CorrectionOptions):
    low: NotNegative = 0.5
    """What has a smaller ratio of trainer to engine is left out."""
    high: Positive = 5.0
    """What has a larger ratio of trainer to engine is left out."""

    @model_validator(mode="after")
    def _bounds_enclose_one(self) -> MaskOptions:
        if self.low > min(self.high, 1) or self.high < 1:
            raise ValueError(
                f"low ({self.low}) and high ({self.high}) must enclose 1, the ratio where trainer and engine agree"
            )
        return self


class CustomCorrection(CorrectionOptions):
    model_config = ConfigDict(extra="allow")


CORRECTION_OPTIONS: Mapping[str, type[CorrectionOptions]] = {
    "none": CorrectionOptions,
    "geometric_mask": MaskOptions,
    "icepop": MaskOptions,
    "sequence_mask": MaskOptions,
    "tis": TruncationOptions,
    "tis_sequence": TruncationOptions,
    CUSTOM: CustomCorrection,
}
