"""Objectives that imitate or compare given responses."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.objectives.contract import OBJECTIVES, Metrics, TokenBatch, missing_field, token_objective
from easyvideor1.algorithms.sequences import reindex, sum_by
from easyvideor1.config.algorithms import DPOOptions, ObjectiveOptions, RewardWeightedOptions


@OBJECTIVES.register("sft")
@token_objective
def sft(batch: TokenBatch, options: ObjectiveOptions) -> tuple[torch.Tensor, Metrics]:
    """``-A log pi``: negative log-likelihood, weighted by advantages (``advantage: ones`` for plain SFT).

    With ones it is behavioural cloning (Pomerleau 1989), the supervised stage of Ouyang et al. 2022, sec. 3.5.
    """
    return -batch.advantages * batch.logprobs, {}


@OBJECTIVES.register("reward_weighted_sft")
@token_objective
def reward_weighted_sft(batch: TokenBatch, options: RewardWeightedOptions) -> tuple[torch.Tensor, Metrics]:
    """``-min(exp(A / temperature), weight_cap) log pi``.

    Peters and Schaal 2007 (reward-weighted regression) with ``advantage: reward``; Peng et al. 2019 (AWR, with
    its cap of 20) with an advantage that has a baseline. The weight is never negative: a bad response is
    imitated less, not pushed away.
    """
    weight = (batch.advantages / options.temperature).clamp_max(80.0).exp().clamp_max(options.weight_cap)
    return -weight * batch.logprobs, {"policy/reward_weight": weight}


@OBJECTIVES.register("dpo")
@requires("pairs", "ref_logprobs", "sequence_ids")
def dpo(batch: TokenBatch, options: DPOOptions) -> tuple[torch.Tensor, Metrics]:
    """``-log sigmoid(beta (d(better) - d(worse)))`` with ``d = log pi(y) - log ref(y)``, mean over pairs.

    Rafailov et al. 2023, DPO, eq. 7. Where policy and reference agree it is ``log 2``. A micro-batch without a pair
    adds 0. Advantages are not read; ``pairs_of`` makes the pairs from rewards.
    """
    if batch.pairs is None or batch.pair_weights is None:
        raise missing_field("pairs", "objective: dpo")
    if batch.ref_logprobs is None:
        raise missing_field("ref_logprobs", "objective: dpo")
    count, index_T = reindex(batch.sequence)
    gap = torch.where(batch.trained, batch.logprobs - batch.ref_logprobs, 0.0)
    gap_S = sum_by(gap, index_T, count)
    place_K2 = torch.searchsorted(torch.unique(batch.sequence), batch.pairs)
    chosen, other = place_K2.unbind(1)
    margin = options.beta * (gap_S[chosen] - gap_S[other])
    # The sum over no pair keeps its place in the graph: a micro-batch without one can be differentiated too.
    loss = -(F.logsigmoid(margin) * batch.pair_weights).sum() + 0.0 * gap.sum()
    with torch.no_grad():
        metrics = {
            "policy/pair_accuracy": ((margin > 0).to(gap.dtype) * batch.pair_weights).sum(),
            "policy/pair_margin": (margin * batch.pair_weights).sum(),
        }
    return loss, metrics


def pairs_of(rewards_N: torch.Tensor, group_N: torch.Tensor, trained_N: torch.Tensor | None = None) -> torch.Tensor:
    """Pairs of a better and a worse sequence of each group, int64 ``(K, 2)``, for ``dpo``.

    The best against the worst of every group (as Yuan et al. 2024, self-rewarding models, pair judged samples), the
    first of each where several are equal. A group whose rewards are equal has none. Sequences that are not
    trained on, bool ``trained_N``, are in no pair: they would have no gap to the reference, and the other one would be
    pushed by itself.
    """
    rewards, groups = rewards_N.tolist(), group_N.tolist()
    trained = [True] * len(rewards) if trained_N is None else trained_N.tolist()
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        if trained[number]:
            members.setdefault(group, []).append(number)
    pairs = []
    for numbers in members.values():
        best = max(numbers, key=lambda n: (rewards[n], -n))
        worst = min(numbers, key=lambda n: (rewards[n], n))
        if rewards[best] > rewards[worst]:
            pairs.append((best, worst))
    return torch.tensor(pairs, dtype=torch.int64, device=rewards_N.device).reshape(-1, 2)


def pairs_within(pairs_K2: torch.Tensor, sequence_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs of the step that lie in a micro-batch, and their weights, which sum to 1 over the step.

    Raises:
        ValueError: a pair is torn apart: one of its sequences is in this micro-batch, the other is not.
    """
    inside = torch.isin(pairs_K2, sequence_T)
    if bool((inside.any(1) != inside.all(1)).any()):
        raise ValueError("a pair of sequences lies in two micro-batches; keep the sequences of a group together")
    mine = pairs_K2[inside.all(1)]
    return mine, torch.full((len(mine),), 1 / max(len(pairs_K2), 1), device=pairs_K2.device)
