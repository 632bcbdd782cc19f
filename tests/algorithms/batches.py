"""Micro-batches for tests: numbers worked out by hand, random ones, and ways to split them."""

import dataclasses
import math

import torch

from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch, objective_loss, token_weights
from easyvideor1.config import StageConfig

#: Ratios 1, 1.5, 0.5, 1.5, 0.5 and a token that is not trained on.
OLD = [-1.0, -2.0, -1.0, -2.0, -1.0, -5.0]
RATIOS = [1.0, 1.5, 0.5, 1.5, 0.5, 9.0]
ADVANTAGES = [2.0, 1.0, 1.0, -1.0, -1.0, 100.0]
WEIGHTS = [0.2, 0.2, 0.2, 0.2, 0.2, 0.0]

#: Objectives whose loss is read off a whole sequence.
SEQUENCE = ("dpo", "gmpo", "gspo", "gspo_token", "reg_grpo")


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def joined(*parts):
    """Options of a stage from several; a section that more than one has holds the keys of all of them."""
    out = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, str):
                value = {{"kl": "estimator"}.get(key, "name"): value}
            out[key] = {**out.get(key, {}), **value} if isinstance(value, dict) else value
    return out


def stage(*parts, **options):
    """Options of a stage; those that others of them insist on are filled in."""
    options = joined(*parts, options)
    objective = options.get("objective", {}).get("name")
    if objective in SEQUENCE:
        options = {"aggregation": "sequence", **options}
    if objective == "sft":
        options = {"advantage": "ones", **options}
    if objective == "luffy" or "off_policy" in options:
        options = {"hybrid": {}, **options}
    return StageConfig(name="stage", **options)


def loss_of(tokens, options):
    """Loss and metrics of a batch by the objective of a stage."""
    return objective_loss(OBJECTIVES.resolve(options.objective.name), tokens, options)


def batch(**changes):
    values = {
        "logprobs": float64([old + math.log(ratio) for old, ratio in zip(OLD, RATIOS, strict=True)]),
        "old_logprobs": float64(OLD),
        "ref_logprobs": None,
        "advantages": float64(ADVANTAGES),
        "sequence": torch.tensor([0, 0, 1, 1, 2, 2]),
        "weights": float64(WEIGHTS),
    }
    return TokenBatch(**{**values, **changes})


def random_batch(seed=3, spread=0.3, aggregation="sequence"):
    """Seven sequences of two groups, ragged, some tokens not trained on, one advantage per sequence, all fields."""
    generator = torch.Generator().manual_seed(seed)

    def normal(size):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    lengths = torch.tensor([5, 1, 8, 3, 6, 4, 2])
    sequence = torch.repeat_interleave(torch.arange(7), lengths)
    group_N = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    size = len(sequence)
    learn = torch.rand(size, generator=generator) < 0.8
    learn[torch.tensor([0, 5, 6, 14, 17, 23, 27])] = True  # every sequence learns something
    old = -5 * torch.rand(size, generator=generator, dtype=torch.float64)
    rewards = normal(7)
    pairs = torch.tensor(
        [(a, b) for a in range(7) for b in range(7) if group_N[a] == group_N[b] and rewards[a] > rewards[b]]
    )
    return TokenBatch(
        logprobs=old + spread * normal(size),
        old_logprobs=old,
        ref_logprobs=old + spread * normal(size),
        advantages=rewards[sequence],
        sequence=sequence,
        weights=token_weights(learn, sequence, aggregation).double(),
        group=group_N[sequence],
        entropy=normal(size).abs(),
        offline=torch.isin(sequence, torch.tensor([3, 5])),
        pairs=pairs,
        pair_weights=torch.full((len(pairs),), 1 / len(pairs), dtype=torch.float64),
        values=normal(size),
        old_values=normal(size),
        returns=normal(size),
        full_kl=normal(size).abs(),
    )


def part(whole, index):
    """Some tokens of a step, bool ``(T,)``: a micro-batch."""
    fields = {}
    for field in dataclasses.fields(whole):
        value = getattr(whole, field.name)
        if field.name in ("pairs", "pair_weights"):
            continue
        fields[field.name] = value[index] if isinstance(value, torch.Tensor) else value
    if whole.pairs is not None:
        inside = torch.isin(whole.pairs, whole.sequence[index]).all(1)
        fields |= {"pairs": whole.pairs[inside], "pair_weights": whole.pair_weights[inside]}
    return TokenBatch(**fields)
