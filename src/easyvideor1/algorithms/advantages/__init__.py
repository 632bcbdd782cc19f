"""Advantages: pure functions of rewards and groups.

``(rewards_N, group_N) -> advantages_N``: float ``(N,)`` rewards, int64 ``(N,)`` group indices in contiguous blocks. One
that needs more takes an ``AdvantageContext`` as its third parameter, and says what it needs as its attribute ``needs``
(``@requires``). One whose baseline is the group's own mean says so (``@group_centred``).
``call_advantage`` calls either.
"""

from easyvideor1.algorithms.advantages.contract import (
    ADVANTAGES,
    Advantage,
    AdvantageContext,
    call_advantage,
    is_per_token,
    wants_context,
)
from easyvideor1.algorithms.advantages.responses import (
    dr_grpo,
    gdpo,
    grpo,
    mean_only,
    ones,
    opo,
    pass_at_k,
    per_turn,
    reinforce_plus_plus_baseline,
    remax,
    reward,
    rloo,
)
from easyvideor1.algorithms.advantages.tokens import gae, generalized_advantages, reinforce_plus_plus
from easyvideor1.algorithms.needs import group_centred, is_group_centred
from easyvideor1.algorithms.sequences import group_mean

__all__ = [
    "ADVANTAGES",
    "Advantage",
    "AdvantageContext",
    "call_advantage",
    "dr_grpo",
    "gae",
    "gdpo",
    "generalized_advantages",
    "group_centred",
    "group_mean",
    "grpo",
    "is_group_centred",
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
    "wants_context",
]
