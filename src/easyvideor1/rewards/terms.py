"""How responses are scored: everything that a configuration decides, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards.coordinates import Scale
from easyvideor1.rewards.grammar import ANSWER, Grammar, grammar_of
from easyvideor1.rewards.rules import RULES
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Terms:
    """See ``RewardConfig``. ``forms`` is by canonical task type."""

    accuracy_weight: float = 0.9
    format_weight: float = 0.1
    profile: str = "strict"
    grammar: Grammar = ANSWER
    coordinates: Scale | None = None
    scale_mismatch: Literal["mask", "zero"] = "mask"
    forms: Mapping[str, str] = field(default_factory=dict)
    reading: Literal["any", "asked"] = "any"


def read_terms(config: RewardConfig) -> Terms:
    """The terms of a configuration.

    Raises:
        ConfigError: the grammar, or a task type or form of ``rewards.forms``, is unknown.
    """
    forms: dict[str, str] = {}
    for name, form in config.forms.items():
        try:
            task = canonical_task(name)
        except DataError as error:
            raise ConfigError(f"rewards.forms: {error}") from error
        if task in forms:
            raise ConfigError(f"rewards.forms names one task type twice: {', '.join(config.forms)}")
        rule = RULES[task]
        if rule.comparison(form) is None:
            known = ", ".join((rule.form, *rule.forms))
            raise ConfigError(f"rewards.forms: {task} has no form {form!r}; known: {known}")
        forms[task] = form
    return Terms(
        config.accuracy_weight,
        config.format_weight,
        config.profile,
        grammar_of(config.grammar),
        config.coordinates,
        config.scale_mismatch,
        forms,
        config.reading,
    )
