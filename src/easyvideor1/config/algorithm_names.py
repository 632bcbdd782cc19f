"""What the configuration knows of the algorithms that come with the package, by name.

The functions say the same of themselves (``algorithms.needs``), but the configuration stands below them and may not
import them: ``tests/config/test_algorithm_names.py`` holds both together. A name that is on no list is the user's own,
and of that nothing is known here.
"""

from __future__ import annotations

#: Advantages whose baseline is the group's own mean: 0 where responses score the same, or where there is only one.
GROUP_CENTRED = frozenset(
    {
        "dr_grpo",
        "gdpo",
        "grpo",
        "mean_only",
        "opo",
        "pass_at_k",
        "per_turn",
        "reinforce_plus_plus_baseline",
        "rloo",
    }
)
#: All advantages.
ADVANTAGES = GROUP_CENTRED | {"gae", "ones", "reinforce_plus_plus", "remax", "reward"}
#: Advantages that read no total reward, so that what is taken off it is lost.
WITHOUT_REWARD = frozenset({"gdpo", "ones", "pass_at_k"})

#: Objectives of whole sequences: their terms have no meaning token by token.
SEQUENCE_OBJECTIVES = frozenset({"dpo", "gmpo", "gspo", "gspo_token", "reg_grpo"})
#: Objectives of whole sequences that take one advantage for each.
ONE_ADVANTAGE = frozenset({"gmpo", "gspo", "reg_grpo"})
#: Objectives that take no ratio to older log-probs.
WITHOUT_RATIO = frozenset({"dpo", "reinforce", "reward_weighted_sft", "sft"})
#: Objectives that read ``clip_low`` and ``clip_high``.
CLIPPED = frozenset({"cispo", "gmpo", "gspo", "gspo_token", "luffy", "ppo_clip"})
#: Objectives that read ``clip_dual``.
DUAL_CLIPPED = frozenset({"luffy", "ppo_clip"})
#: All objectives.
OBJECTIVES = SEQUENCE_OBJECTIVES | WITHOUT_RATIO | CLIPPED | {"sapo"}

#: All token weighters.
WEIGHTERS = frozenset({"entropy_top", "none", "tw_grpo"})
#: Corrections that cut a weight, and those that leave out what lies outside two bounds.
TRUNCATING = frozenset({"tis", "tis_sequence"})
MASKING = frozenset({"geometric_mask", "icepop", "sequence_mask"})
#: All corrections.
CORRECTIONS = TRUNCATING | MASKING | {"none"}

#: The option of a stage that names one of each kind, and the names that come with the package.
KINDS = {"advantage": ADVANTAGES, "objective": OBJECTIVES, "weighter": WEIGHTERS, "correction": CORRECTIONS}
