"""Objectives: what one micro-batch adds to the loss.

An objective is ``(batch: TokenBatch, options) -> (loss, metrics)``, with options of its own; ``objective_loss`` calls
it and adds what the stage asks for. ``batch.mean`` weights every token by
its share of the **whole** optimisation step, so micro-batches sum to the step's loss however it is split, as long as no
sequence is (``reg_grpo`` and ``dpo``: no group). What an objective needs beyond log-probabilities is its attribute
``needs``.
"""

from easyvideor1.algorithms.aggregation import token_weights
from easyvideor1.algorithms.objectives.contract import (
    OBJECTIVES,
    Metrics,
    Objective,
    TokenBatch,
    kl_tokens,
    objective_loss,
    off_policy_loss,
    ratio_base,
    token_objective,
)
from easyvideor1.algorithms.objectives.sequence import gmpo, gspo, gspo_token, reg_grpo
from easyvideor1.algorithms.objectives.supervised import dpo, pairs_of, pairs_within, reward_weighted_sft, sft
from easyvideor1.algorithms.objectives.tokens import cispo, luffy, ppo_clip, reinforce, sapo, value_loss

__all__ = [
    "OBJECTIVES",
    "Metrics",
    "Objective",
    "TokenBatch",
    "cispo",
    "dpo",
    "gmpo",
    "gspo",
    "gspo_token",
    "kl_tokens",
    "luffy",
    "objective_loss",
    "off_policy_loss",
    "pairs_of",
    "pairs_within",
    "ppo_clip",
    "ratio_base",
    "reg_grpo",
    "reinforce",
    "reward_weighted_sft",
    "sapo",
    "sft",
    "token_objective",
    "token_weights",
    "value_loss",
]
