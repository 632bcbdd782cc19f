"""Advantages: pure functions of rewards and groups.

``(rewards_N, group_N) -> advantages_N``: float ``(N,)`` rewards, int64 ``(N,)`` group indices in contiguous blocks. One
that needs more takes an ``AdvantageContext`` as its third parameter, and says what it needs as its attribute ``needs``.
``call_advantage`` calls either.
"""

from easyvideor1.algorithms.advantages.batchwide import gdpo, reinforce_plus_plus, reinforce_plus_plus_baseline, remax
from easyvideor1.algorithms.advantages.contract import (
    ADVANTAGES,
    Advantage,
    AdvantageContext,
    call_advantage,
    flat_groups_teach,
    is_per_token,
    to_tokens,
    wants_context,
)
from easyvideor1.algorithms.advantages.grouped import (
    broadcast_to_turns,
    dr_grpo,
    grpo,
    mean_only,
    ones,
    opo,
    pass_at_k,
    per_turn,
    reward,
    rloo,
)
from easyvideor1.algorithms.advantages.tokens import gae, generalized_advantages
from easyvideor1.algorithms.sequences import group_mean

__all__ = [
    "ADVANTAGES",
    "Advantage",
    "AdvantageContext",
    "broadcast_to_turns",
    "call_advantage",
    "dr_grpo",
    "flat_groups_teach",
    "gae",
    "gdpo",
    "generalized_advantages",
    "group_mean",
    "grpo",
    "is_per_token",
    "mean_only",
    "ones",
    "opo",
    "pass_at_k",
    "per_turn",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "remax",
    "reward",
    "rloo",
    "to_tokens",
    "wants_context",
]
