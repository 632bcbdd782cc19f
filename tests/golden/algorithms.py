"""Advantages, losses and gradients of every registered name, on seeded inputs in double precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .entries import (
    ADVANTAGES,
    AGGREGATIONS,
    CORRECTIONS,
    OBJECTIVES,
    WEIGHTERS,
    AdvantageContext,
    StageConfig,
    call_advantage,
    full_kl,
    objective_loss,
    pairs_of,
    reward_with_kl,
    token_batch,
    token_weights,
    value_loss,
)

#: Tokens of twelve sequences: three groups of four, which are also two trajectories of two turns each.
LENGTHS = torch.tensor([5, 1, 8, 3, 6, 4, 2, 7, 3, 3, 9, 1])
GROUP_N = torch.arange(12) // 4
SEQUENCE_T = torch.repeat_interleave(torch.arange(12), LENGTHS)
TURN_T = torch.unique(100 * SEQUENCE_T + torch.arange(len(SEQUENCE_T)) // 3, return_inverse=True)[1]
OFFLINE_T = torch.isin(SEQUENCE_T, torch.tensor([3, 6, 11]))


class Inputs:
    """Numbers that are the same everywhere: a generator whose stream is fixed, and no function but the identity."""

    def __init__(self) -> None:
        rng = np.random.default_rng(20)
        tokens = len(SEQUENCE_T)

        def draw(low: float, high: float, *shape: int) -> torch.Tensor:
            return torch.from_numpy(low + (high - low) * rng.random(shape))

        self.rewards_N = draw(0, 1, 12)
        self.rewards_N[8:] = 0.5  # a flat group
        self.parts = {"accuracy": draw(0, 1, 12), "format": draw(0, 1, 12).round(), "brevity": draw(0, 1, 12)}
        self.greedy_N = draw(0, 1, 12)
        self.trained_T = draw(0, 1, tokens) < 0.85
        self.old_T = draw(-4, -0.1, tokens)
        self.new_T = self.old_T + draw(-0.4, 0.4, tokens)
        self.engine_T = self.old_T + draw(-0.3, 0.3, tokens)
        self.reference_T = self.old_T + draw(-0.5, 0.5, tokens)
        self.entropy_T, self.divergence_T = draw(0, 2, tokens), draw(0, 3, tokens)
        self.full_kl_T = draw(0, 1, tokens)
        self.values_T, self.old_values_T, self.returns_T = (draw(-1, 1, tokens) for _ in range(3))
        self.logits, self.reference_logits = draw(-3, 3, 6, 5), draw(-3, 3, 6, 5)


def make(work: Path) -> dict[str, Any]:
    """Advantages, objectives and what stands beside them; `work` is not needed."""
    options = yaml.safe_load((Path(__file__).parent / "stages.yaml").read_text(encoding="utf-8"))
    inputs = Inputs()
    advantages = {
        f"{name} {words}".strip(): _advantage(name, _stage(options, case, "advantage", name), inputs)
        for name in ADVANTAGES.names()
        for words, case in ({"": {}} | options["advantages"].get(name, {})).items()
    }
    objectives = {
        f"{name} {words}".strip(): _objective(_stage(options, case, "objective", name), inputs)
        for name in OBJECTIVES.names()
        for words, case in ({"": {}} | options["objectives"].get(name, {})).items()
    }
    tried = [
        _section(case.get(kind, "none"))
        for cases in options["objectives"].values()
        for case in cases.values()
        for kind in ("weighter", "correction")
    ]
    for kind, registry in (("weighter", WEIGHTERS), ("correction", CORRECTIONS)):
        if untried := set(registry.names()) - {"none"} - {section["name"] for section in tried}:
            raise SystemExit(f"tests/golden/stages.yaml tries no {kind} {', '.join(sorted(untried))}: add a case")
    return {"advantages": advantages, "objectives": objectives, "critic": _critic(options, inputs), **_others(inputs)}


def _section(value: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": value} if isinstance(value, str) else value


def _stage(options: Mapping[str, Any], case: Mapping[str, Any], kind: str, name: str) -> StageConfig:
    given = {**options["required"].get(name, {}), **case}
    return StageConfig(name="stage", **{**given, kind: {"name": name, **_section(given.get(kind, name))}})


def _advantage(name: str, stage: StageConfig, inputs: Inputs) -> list[float]:
    context = AdvantageContext(
        options=stage.advantage,
        parts=inputs.parts,
        lengths=LENGTHS,
        baseline_rewards=inputs.greedy_N,
        trajectory=torch.arange(12) // 2,
        turn=torch.arange(12) % 2,
        sequence=SEQUENCE_T,
        trained=inputs.trained_T,
        values=inputs.values_T,
    )
    return call_advantage(ADVANTAGES.resolve(name), inputs.rewards_N, GROUP_N, context).tolist()


def _batch(stage: StageConfig, inputs: Inputs, leaves: Mapping[str, torch.Tensor]) -> tuple[Any, Mapping[str, Any]]:
    weights = token_weights(
        inputs.trained_T,
        SEQUENCE_T,
        stage.aggregation.name,
        turn_T=TURN_T,
        length=getattr(stage.aggregation, "length", None),
    )
    return token_batch(
        stage,
        logprobs=leaves["logprobs"],
        engine_logprobs=inputs.engine_T,
        rollout_logprobs=inputs.old_T,
        advantages=(inputs.rewards_N - inputs.greedy_N)[SEQUENCE_T],
        sequence=SEQUENCE_T,
        weights=weights.double(),
        group=GROUP_N[SEQUENCE_T],
        ref_logprobs=inputs.reference_T,
        full_kl=leaves["full_kl"],
        entropy=leaves["entropy"],
        divergence=inputs.divergence_T,
        offline=OFFLINE_T,
        step_pairs=pairs_of(inputs.rewards_N, GROUP_N),
    )


def _objective(stage: StageConfig, inputs: Inputs) -> dict[str, Any]:
    leaves = {"logprobs": inputs.new_T, "full_kl": inputs.full_kl_T, "entropy": inputs.entropy_T}
    leaves = {name: value.clone().requires_grad_() for name, value in leaves.items()}
    batch, corrected = _batch(stage, inputs, leaves)
    loss, metrics = objective_loss(OBJECTIVES.resolve(stage.objective.name), batch, stage)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    reached = {name: value for name, value in zip(leaves, gradients, strict=True) if value is not None}
    return {
        "loss": loss.item(),
        "metrics": {name: float(value) for name, value in sorted({**corrected, **metrics}.items())},
        "gradients": {name: value.tolist() for name, value in reached.items() if value.any()},
    }


def _critic(options: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    found = {}
    for words, case in ({"as usual": {}} | options["critic"]).items():
        stage = StageConfig(name="stage", advantage="gae", critic=case)
        values = inputs.values_T.clone().requires_grad_()
        leaves = {"logprobs": inputs.new_T, "full_kl": inputs.full_kl_T, "entropy": inputs.entropy_T}
        batch, _ = _batch(stage, inputs, leaves)
        batch = dataclasses.replace(batch, values=values, old_values=inputs.old_values_T, returns=inputs.returns_T)
        loss, metrics = value_loss(batch, stage.critic)
        (gradient,) = torch.autograd.grad(loss, values)
        found[words] = {
            "loss": loss.item(),
            "metrics": {name: float(value) for name, value in sorted(metrics.items())},
            "gradients": gradient.tolist(),
        }
    return found


def _others(inputs: Inputs) -> dict[str, Any]:
    weights = {
        name: token_weights(inputs.trained_T, SEQUENCE_T, name, turn_T=TURN_T, length=9 if name == "fixed" else None)
        for name in AGGREGATIONS
    }
    kl_T = inputs.full_kl_T
    return {
        "aggregations": {name: value.tolist() for name, value in weights.items()},
        "full KL": full_kl(inputs.logits, inputs.reference_logits).tolist(),
        "rewards less KL": reward_with_kl(inputs.rewards_N, kl_T, SEQUENCE_T, inputs.trained_T, 0.1).tolist(),
        "pairs": pairs_of(inputs.rewards_N, GROUP_N).tolist(),
    }
