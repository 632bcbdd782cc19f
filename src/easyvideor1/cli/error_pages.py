"""Which page of the documentation says more about an error: by what its message is about, else by its kind."""

from __future__ import annotations

import re

from easyvideor1.types import EasyVideoError

#: What a message is about, as a pattern of its first line, and the page with its anchor. The first that is found
#: counts.
TOPICS: tuple[tuple[str, str], ...] = (
    (
        r"contains a run|cannot be extended|have changed since this run started|in use by another process",
        "architecture.md#resume",
    ),
    (r"output_dir of a run|run directory", "architecture.md#the-run-directory"),
    (r"model\.conventions", "families.md#where-the-libraries-disagree-modelconventions"),
    (r"model\.(path|family|device)\b", "families.md#loading"),
    (r"max_prompt_tokens|budget is impossible", "planning.md#rules"),
    (r"rewards\.custom|rewards\.on_error", "rewards.md#your-own-reward"),
    (r"rewards\.judge|\bjudge\b", "rewards.md#judge"),
    (r"rewards\.parts", "rewards.md#further-parts-weights-and-gates"),
    (r"reference .* cannot be used", "rewards.md#examples-by-type"),
    (r"coordinates", "rewards.md#coordinates"),
    (r"rollout\.vllm|vLLM", "engines.md#the-vllm-engine"),
    (r"rollout\.max_staleness|rollout\.over_sample_rate", "async.md#rules"),
    (r"rollout\.strategy", "strategies.md"),
    (r"rollout\.(engine|workers|placement)", "engines.md"),
    (r"cluster\.", "scaling.md"),
    (r"\bcurriculum\b", "data.md#curricula"),
    (r"\btransforms?\b|data\.prepare", "data.md#transforms"),
    (r"best_by", "evaluation.md#the-best-checkpoint"),
    (r"offline trajector", "hybrid.md"),
    (r"rollouts\.pairs|pair builder", "stages.md#pair-builders"),
    (r"evaluation\.|benchmark", "benchmarks.md"),
    (r"\bloggers?\b", "loggers.md"),
    (r"\.kl\b", "algorithms.md#kl-kl"),
    (r"\.advantage\b", "algorithms.md#advantages-advantage"),
    (r"\.objective\b", "algorithms.md#objectives-objective"),
    (r"cache\.|frame cache", "frames.md#modes"),
    (r"--device|micro_batch_tokens", "fit.md"),
)
#: The page of a class of errors, by ``module:name``; a class inherits that of its base.
KINDS: dict[str, str] = {
    "easyvideor1.training.canary:CanaryStopError": "canary.md#what-to-do",
    "easyvideor1.training.ranks.leader:RankLost": "scaling.md#when-a-rank-dies-or-stalls",
    "easyvideor1.rewards.types:RewardError": "rewards.md#your-own-reward",
    "easyvideor1.types:MediaError": "frames.md",
    "easyvideor1.types:RequestFailed": "engines.md",
    "easyvideor1.types:DataError": "data.md",
    "easyvideor1.types:ConfigError": "configuration.md",
}


def page_of(error: EasyVideoError) -> str:
    """The page about an error as ``docs/PAGE.md#ANCHOR``; empty if there is none."""
    first = (str(error).splitlines() or [""])[0]
    for pattern, page in TOPICS:
        if re.search(pattern, first):
            return f"docs/{page}"
    for kind in type(error).__mro__:
        if page := KINDS.get(f"{kind.__module__}:{kind.__name__}", ""):
            return f"docs/{page}"
    return ""
