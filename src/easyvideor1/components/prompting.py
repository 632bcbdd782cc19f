"""The prompts of a configuration, as rollout strategies make them."""

from __future__ import annotations

from collections.abc import Callable

from easyvideor1.config import RunConfig
from easyvideor1.families.family import Family
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.strategies import OfflineStrategy, PromptBuilder, SingleTurn, Strategy
from easyvideor1.rollout.strategies import open_strategy as open_named
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Sample

#: The sample as it is asked, and the plans of its media.
Shown = Callable[[Sample], tuple[Sample, tuple[MediaPlan, ...]]]


def prompt_builder(
    config: RunConfig,
    family: Family,
    *,
    render: Callable[[Sample], Prompt],
    plan: Callable[[MediaRef], MediaPlan],
    text: Callable[[Sample], str],
    shown: Shown | None,
) -> PromptBuilder:
    """What makes the prompts of strategies, from the functions of components; see ``PromptBuilder``."""
    grammar = grammar_of(config.rewards.grammar)
    return PromptBuilder(render, family, plan, text, shown, grammar, config.prompts.system)


def open_strategy(config: RunConfig, prompts: PromptBuilder) -> Strategy:
    """The strategy that ``rollout.strategy`` names, with the length of its prompts checked.

    Raises:
        ConfigError: there is no such strategy, or it does not take these options.
    """
    return open_named(config.rollout.strategy, prompts, config.data.max_prompt_tokens)


def offline_strategy(config: RunConfig, prompts: PromptBuilder, strategy: Strategy) -> OfflineStrategy:
    """What makes the prompts that rows' offline trajectories answer.

    Those of one turn answer the whole question: the first prompt of the rollout strategy where it asks that, else the
    prompt of a single turn.
    """
    return OfflineStrategy(strategy, strategy if config.rollout.strategy.shows_whole else SingleTurn(prompts))
