"""Advantages of whole responses, against the other responses of their group, of the step, or a baseline."""

from __future__ import annotations

from math import comb

import torch

from easyvideor1.algorithms.advantages.contract import ADVANTAGES, AdvantageContext
from easyvideor1.algorithms.needs import group_centred, requires
from easyvideor1.algorithms.sequences import centred_by_group, group_mean, reindex, whiten
from easyvideor1.config.algorithms import GDPOOptions, PassAtKOptions, PerTurnOptions
from easyvideor1.types import EasyVideoError


@ADVANTAGES.register("grpo")
@group_centred
def grpo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``(r - mean) / (std + 1e-6)`` within the group, unbiased std (Shao et al. 2024, DeepSeekMath, sec. 4.1.2).

    A group of one has no deviation and gets 0.
    """
    centred, std = centred_by_group(rewards_N, group_N)
    return centred / (std + 1e-6)


@ADVANTAGES.register("dr_grpo")
@group_centred
def dr_grpo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` within the group, without the division by std (Liu et al. 2025, Dr.GRPO, eq. 3)."""
    return rewards_N - group_mean(rewards_N, group_N)[0]


@ADVANTAGES.register("mean_only")
@group_centred
def mean_only(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` within the group: ``dr_grpo``, under the name of what VST does (Guan et al. 2026, Video Streaming
    Thinking, arXiv 2603.12262)."""
    return dr_grpo(rewards_N, group_N)


@ADVANTAGES.register("rloo")
@group_centred
def rloo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r`` minus the mean of the other responses of the group (Ahmadian et al. 2024, RLOO). 0 for a group of one."""
    mean, size = group_mean(rewards_N, group_N)
    return (rewards_N - mean) * size / (size - 1).clamp_min(1)


@ADVANTAGES.register("opo")
@group_centred
@requires("lengths")
def opo(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """``r - sum(l r) / sum(l)`` over the group, ``l`` the length in tokens (Hao et al. 2025, OPO, sec. 3).

    The baseline that makes the variance of the gradient smallest, if a response's squared gradient norm grows with its
    length. Equal lengths make it ``dr_grpo``. As in the paper, lengths are those that were generated: a response that
    overlong filtering keeps from being trained on has a part in the baseline even so, like its reward.
    """
    if context.lengths is None:
        raise EasyVideoError("advantage opo needs the lengths of responses, which its caller did not give")
    lengths = context.lengths.to(rewards_N.dtype)
    # The rewards' own mean is taken off first: with equal rewards, what is left is exactly 0.
    centred = dr_grpo(rewards_N, group_N)
    weighted, _ = group_mean(lengths * centred, group_N)
    length, _ = group_mean(lengths, group_N)
    return centred - weighted / length.clamp_min(torch.finfo(length.dtype).tiny)


@ADVANTAGES.register("pass_at_k")
@group_centred
@requires("parts")
def pass_at_k(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """The mean advantage of a response over all sets of k responses that it is in, the best of a set being its reward.

    Chen et al. 2025, Pass@k training, sec. 2.4 (analytic form). With n responses of which w are wrong:
    ``m = 1 - C(w, k) / C(n, k)``, ``s = sqrt(m (1 - m))``; a right response gets ``(1 - m) / s``, a wrong one
    ``(1 - m - C(w - 1, k - 1) / C(n - 1, k - 1)) / s``. Where ``s`` is 0, as when fewer than k are wrong, all get 0.

    A response is right if its ``accuracy`` (its reward, if the score has no parts) reaches ``threshold``. In a
    group with k responses or fewer, which is what scores that are not applicable may leave of it, one set holds them
    all: ``m`` is 0 or 1, and all get 0.
    """
    options: PassAtKOptions = context.options
    scores = context.parts.get("accuracy", rewards_N)
    right_N = scores >= options.threshold
    advantages = torch.zeros_like(rewards_N)
    for group in torch.unique(group_N).tolist():
        mine = group_N == group
        n, w = int(mine.sum()), int((mine & ~right_N).sum())
        k = min(options.k, n)
        missed = comb(w, k) / comb(n, k)
        spread = ((1 - missed) * missed) ** 0.5
        if spread > 0:
            # A wrong response's share of sets without a right one; w >= k here, so it is defined.
            wrong = missed - comb(w - 1, k - 1) / comb(n - 1, k - 1)
            advantages[mine & right_N] = missed / spread
            advantages[mine & ~right_N] = wrong / spread
    return advantages


@ADVANTAGES.register("per_turn")
@group_centred
@requires("turns")
def per_turn(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """Rows are turns: ``sum_(u >= t) gamma^(u - t) r_u`` of the trajectory, less the group's mean at the first turn.

    With ``gamma`` 1 and a reward at the last turn alone this is ``mean_only`` given to every turn, as in VST (Guan et
    al. 2026, arXiv 2603.12262); the discount is that of Sutton and Barto 2018, eq. 3.8. The mean is over trajectories,
    so that one with many turns does not move it. ``baseline: same`` takes the mean over the trajectories that have the
    turn, at that turn, and ``scale: std`` divides by the unbiased deviation of the same values plus 1e-6. With
    ``gamma`` 0 both together are ``grpo`` turn by turn. Without turns in the context every row is a trajectory of one
    turn. Turns are numbered from 0, without gaps.
    """
    options: PerTurnOptions = context.options
    if context.trajectory is None or context.turn is None:
        return mean_only(rewards_N, group_N) if options.scale == "none" else grpo(rewards_N, group_N)
    turn = context.turn
    count, index_N = reindex(context.trajectory)
    table = rewards_N.new_zeros(count, int(turn.max()) + 1 if len(turn) else 0)
    table[index_N, turn] = rewards_N
    for column in range(table.shape[1] - 2, -1, -1):
        table[:, column] += options.gamma * table[:, column + 1]
    returns = table[index_N, turn]
    # Of the rows of one place, which is a group or a turn of it, the baseline is a mean over those that are compared.
    compared = turn == 0 if options.baseline == "first" else torch.ones_like(turn, dtype=torch.bool)
    place_N = group_N if options.baseline == "first" else group_N * table.shape[1] + turn
    mean, _ = group_mean(returns[compared], place_N[compared])
    baseline = _by_place(mean, place_N[compared], place_N)
    if options.scale == "none":
        return returns - baseline
    _, std = centred_by_group(returns[compared], place_N[compared])
    return (returns - baseline) / (_by_place(std, place_N[compared], place_N) + 1e-6)


def _by_place(values: torch.Tensor, place: torch.Tensor, place_N: torch.Tensor) -> torch.Tensor:
    """Values that are equal within a place, for every row of that place."""
    table = values.new_zeros(int(place_N.max()) + 1 if len(place_N) else 0)
    return table.index_put((place,), values)[place_N]


@ADVANTAGES.register("ones")
def ones(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``1`` for every sequence, whatever its reward: behavioural cloning (Pomerleau 1989), supervised learning."""
    return torch.ones_like(rewards_N)


@ADVANTAGES.register("reward")
def reward(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r`` itself, without a baseline (Williams 1992); the weights of ``reward_weighted_sft``."""
    return rewards_N.clone()


@ADVANTAGES.register("reinforce_plus_plus_baseline")
@group_centred
def reinforce_plus_plus_baseline(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` of the group, then ``(x - mean) / (std + 1e-8)`` over the step (Hu et al. 2025, the baseline form).

    The scale is the batch's, not the group's: an easy group with one wrong answer is not blown up. Its authors keep
    the KL out of this reward and take ``k2`` as a term of the loss (``kl: k2``). Mean and deviation of
    the second step are over responses, each counting once.
    """
    return whiten(dr_grpo(rewards_N, group_N), 1e-8)


@ADVANTAGES.register("remax")
@requires("greedy")
def remax(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """``r - r(greedy)``: less the reward of the greedy response to the same prompt (Li et al. 2024, ReMax, eq. 6)."""
    if context.baseline_rewards is None:
        raise EasyVideoError("advantage remax needs the reward of a greedy response, which its caller did not give")
    return rewards_N - context.baseline_rewards.to(rewards_N.dtype)


@ADVANTAGES.register("gdpo")
@group_centred
@requires("parts")
def gdpo(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """Each part normalised by itself: ``sum_k w_k grpo(r_k)``, then ``(x - mean) / (std + 1e-8)`` over the step.

    Liu et al. 2026, GDPO, sec. 3. Summed first, as ``grpo`` has it, different combinations of parts become the same
    advantage. ``part_weights`` gives the weights; ``accuracy`` and ``format``, 1 each, if it is empty. A part that a
    group's task type does not have is the same for all of its responses and adds 0. The total reward is not read, so
    that neither the weights of ``rewards`` nor what is taken off the total counts here.
    """
    if not context.parts:
        raise EasyVideoError("advantage gdpo needs the parts of the score, which its caller did not give")
    options: GDPOOptions = context.options
    total = torch.zeros_like(rewards_N)
    for name, weight in (options.part_weights or {"accuracy": 1.0, "format": 1.0}).items():
        if name in context.parts:
            total = total + weight * grpo(context.parts[name].to(rewards_N.dtype), group_N)
    return whiten(total, 1e-8)
