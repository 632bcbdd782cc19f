"""Options of a stage that contradict each other, or from which nothing would be learnt; each with what to set instead.

Algorithms are known by their names (``algorithm_names``); of functions of the user's own nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from easyvideor1.config import algorithm_names as names
from easyvideor1.config.unread_keys import unread

if TYPE_CHECKING:
    from easyvideor1.config.stages import StageConfig


def stage_faults(stage: StageConfig) -> Iterator[str]:
    """A sentence for each fault of a stage by itself."""
    yield from _advantage_faults(stage)
    yield from _reward_faults(stage)
    yield from _aggregation_faults(stage)
    yield from _objective_faults(stage)
    yield from _ratio_faults(stage)
    yield from _correction_faults(stage)
    yield from _kl_faults(stage)
    yield from _selection_faults(stage)
    yield from _offline_faults(stage)
    yield from unread(stage)


def _advantage_faults(stage: StageConfig) -> Iterator[str]:
    name, size = stage.advantage, stage.group_size
    if name in names.GROUP_CENTRED:
        # Two objectives make something of an advantage of 0: dpo reads none, and the weight exp(0) is 1.
        if stage.objective == "sft" or (
            stage.trajectories == "offline" and stage.objective not in ("dpo", "reward_weighted_sft")
        ):
            what = "objective sft" if stage.objective == "sft" else "a stage of offline trajectories"
            yield (
                f"advantage {name} compares the responses of a group, so that {what} would learn nothing from one "
                "response and unlearn half of several: set advantage: ones, or reward"
            )
        elif stage.trajectories == "policy" and size == 1 and stage.objective != "dpo":
            yield (
                f"advantage {name} compares the responses of a group, and group_size: 1 leaves nothing to compare: "
                "set group_size: 2 or more, or advantage: remax, reinforce_plus_plus or gae"
            )
    if name == "pass_at_k" and stage.pass_k >= size:
        yield (
            f"pass_k ({stage.pass_k}) must be smaller than group_size ({size}): where one set holds all responses "
            "their advantages are 0; lower pass_k or raise group_size"
        )
    if name == "gae" and stage.steps is not None and stage.critic.warmup_steps >= stage.steps:
        yield (
            f"critic.warmup_steps ({stage.critic.warmup_steps}) leaves the policy none of the stage's {stage.steps} "
            "steps: lower it, or raise steps"
        )


def _reward_faults(stage: StageConfig) -> Iterator[str]:
    """What is taken off the total reward has to be read by somebody."""
    name = stage.advantage
    if stage.objective == "dpo":
        if stage.kl_in == "reward":
            yield "kl_in: reward would only change which responses dpo pairs: set kl_in: loss"
        return
    if name not in names.WITHOUT_REWARD:
        return
    if stage.kl_in == "reward":
        yield f"advantage {name} does not read the total reward, so that kl_in: reward would be lost: set kl_in: loss"
    if stage.overlong_cache > 0:
        remedy = "weigh a part such as brevity (rewards.parts, part_weights)" if name == "gdpo" else "leave it out"
        yield (
            f"advantage {name} does not read the total reward, so that the penalty of overlong_cache would be lost: "
            f"{remedy}, or set another advantage"
        )


def _aggregation_faults(stage: StageConfig) -> Iterator[str]:
    if (stage.aggregation == "fixed") != (stage.aggregation_length is not None):
        yield (
            "aggregation: fixed and aggregation_length go together; give both (the length is usually "
            "rollout.max_new_tokens), or neither"
        )
    if stage.objective in names.SEQUENCE_OBJECTIVES:
        if stage.aggregation not in ("sequence", "turn"):
            yield f"objective {stage.objective} is a mean over sequences: set aggregation: sequence"
        if stage.weighter != "none" and stage.objective != "gspo_token":
            yield f"objective {stage.objective} has no terms of single tokens to weigh: set weighter: none"


def _objective_faults(stage: StageConfig) -> Iterator[str]:
    objective, advantage = stage.objective, stage.advantage
    if objective == "dpo" and advantage in ("gae", "remax"):
        what = "a critic" if advantage == "gae" else "greedy responses"
        yield f"objective dpo reads no advantages, and {advantage} would pay for {what}: set advantage: reward"
    if objective in names.ONE_ADVANTAGE:
        remedy = "set objective: gspo_token, which takes one for each token"
        if advantage == "gae":
            yield f"objective {objective} takes one advantage for a whole response, and gae gives others: {remedy}"
        elif advantage == "reinforce_plus_plus" and stage.kl_in == "reward":
            yield (
                f"objective {objective} takes one advantage for a whole response, and reinforce_plus_plus with "
                f"kl_in: reward gives others: {remedy}, or set kl_in: loss"
            )
    if stage.clip_dual is not None and stage.clip_dual < 1 + stage.clip_high:
        yield (
            f"clip_dual ({stage.clip_dual}) lies inside the clip range, which ends at {1 + stage.clip_high:g}; "
            "3 is usual"
        )


def _ratio_faults(stage: StageConfig) -> Iterator[str]:
    if stage.objective not in names.WITHOUT_RATIO:
        return
    if stage.old_logprobs == "engine":
        yield f"objective {stage.objective} takes no ratio to older log-probs: set old_logprobs: current"
    if stage.off_policy == "importance":
        yield (
            f"objective {stage.objective} takes no ratio, so that off_policy: importance has no effect: set "
            "off_policy: none, or an objective such as ppo_clip"
        )


def _correction_faults(stage: StageConfig) -> Iterator[str]:
    if stage.correction != "none":
        if stage.old_logprobs == "engine":
            yield (
                f"correction: {stage.correction} and old_logprobs: engine correct the same distance twice; "
                "set old_logprobs: current, or correction: none"
            )
        if stage.trajectories == "offline":
            yield (
                "correction is about responses of the engine, and a stage of offline trajectories has none; set "
                "correction: none"
            )
        if stage.objective == "dpo":
            yield "objective dpo weighs pairs, not tokens, and would ignore the correction: set correction: none"
    if stage.correction_low > min(stage.correction_high, 1) or stage.correction_high < 1:
        yield (
            f"correction_low ({stage.correction_low}) and correction_high ({stage.correction_high}) must enclose 1, "
            "the ratio where trainer and engine agree"
        )


def _kl_faults(stage: StageConfig) -> Iterator[str]:
    if stage.kl == "none":
        for key, value in (("kl_in", "reward"), ("kl_control", "adaptive")):
            if getattr(stage, key) == value:
                yield f"{key}: {value} needs an estimator: set kl to k1, k2, k3, abs or full"
        if stage.reference != "initial" and stage.objective != "dpo":
            yield f"reference: {stage.reference} is for a KL term, and kl is none; set kl, or leave out reference"
    if stage.kl == "k1" and stage.kl_in == "loss":
        yield "kl: k1 as a term of the loss has no gradient in expectation: set kl_in: reward, or kl: k2"
    if stage.kl_in == "reward" and stage.trajectories == "offline":
        yield "kl_in: reward has no effect on offline trajectories; set kl_in: loss"
    if stage.kl_control == "adaptive":
        if stage.kl_coef == 0:
            yield "an adaptive kl_coef moves by factors and never leaves 0; start it above, such as 0.001"
        sequences = stage.prompts_per_step * stage.group_size
        if stage.trajectories == "policy" and stage.kl_horizon <= 0.2 * sequences:
            yield (
                f"kl_horizon ({stage.kl_horizon}) is within a fifth of the {sequences} sequences of a step, so that "
                f"one step could take an adaptive kl_coef to 0: set it to {10 * sequences} or so"
            )


def _selection_faults(stage: StageConfig) -> Iterator[str]:
    if stage.mini_batches > stage.prompts_per_step:
        yield (
            f"mini_batches ({stage.mini_batches}) are parts of a step's {stage.prompts_per_step} groups: set at most "
            "as many as prompts_per_step"
        )
    low, high = stage.filter_low, stage.filter_high
    if low is not None and high is not None and low >= high:
        yield f"no mean lies between filter_low ({low}) and filter_high ({high}); lower the first or raise the second"
    if stage.objective == "dpo":
        if stage.trajectories == "policy" and stage.group_size < 2:
            yield "objective dpo compares responses of one group: group_size must be at least 2"
    elif stage.drop_flat_groups and (stage.trajectories == "offline" or stage.advantage == "ones"):
        what = "a stage of offline trajectories" if stage.trajectories == "offline" else "advantage ones"
        yield f"{what} compares nothing, and drop_flat_groups: true would leave groups out: set it to null or false"


def _offline_faults(stage: StageConfig) -> Iterator[str]:
    known = stage.objective in names.OBJECTIVES
    if stage.objective in names.SEQUENCE_OBJECTIVES and stage.off_policy in ("luffy", "sft"):
        yield (
            f"off_policy: {stage.off_policy} replaces terms of single tokens, which objective {stage.objective} "
            "does not have: set off_policy: none, or a token objective such as ppo_clip"
        )
    if stage.objective == "luffy" and stage.off_policy not in ("none", "luffy"):
        yield f"objective luffy shapes offline tokens itself: leave out off_policy: {stage.off_policy}"
    if known and stage.hybrid is None and (stage.objective == "luffy" or stage.off_policy != "none"):
        key = f"off_policy: {stage.off_policy}" if stage.off_policy != "none" else "objective luffy"
        other = "off_policy: none" if stage.off_policy != "none" else "objective: ppo_clip"
        if stage.trajectories == "offline":
            yield f"{key} is for offline responses among the policy's own, of which this stage has none: set {other}"
        else:
            yield f"{key} is for offline responses, and nothing mixes them in: give the stage hybrid, or set {other}"
    if stage.hybrid is None:
        return
    if stage.trajectories == "offline":
        yield "hybrid mixes offline trajectories into the policy's groups; set trajectories: policy, or drop hybrid"
    if stage.hybrid.responses >= stage.group_size:
        yield (
            f"hybrid.responses ({stage.hybrid.responses}) leaves a group of {stage.group_size} no response of the "
            "policy; raise group_size"
        )
