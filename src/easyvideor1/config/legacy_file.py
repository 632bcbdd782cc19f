"""The legacy YAML file that is migrated: its values by dotted key, which were read, and which are unsupported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from easyvideor1.config.yaml_source import Source, describe
from easyvideor1.types import ConfigError

#: Key -> what early versions called it (EasyR1 before May 2025). They are read where the later name is not there.
EARLY: Mapping[str, tuple[str, ...]] = {
    "data.format_prompt": ("data.format_prompt_path",),
    "trainer.total_epochs": ("trainer.total_episodes",),
    "trainer.val_freq": ("trainer.test_freq",),
    "worker.actor.clip_ratio_low": ("worker.actor.clip_ratio",),
    "worker.actor.clip_ratio_high": ("worker.actor.clip_ratio",),
    "worker.actor.ulysses_size": ("worker.actor.ulysses_sequence_parallel_size",),
    "worker.actor.optim.lr_warmup_ratio": ("worker.actor.optim.lr_warmup_steps_ratio",),
    "worker.actor.optim.lr_scheduler_type": ("worker.actor.optim.warmup_style",),
    "worker.critic.optim.lr_warmup_ratio": ("worker.critic.optim.lr_warmup_steps_ratio",),
    "worker.critic.optim.lr_scheduler_type": ("worker.critic.optim.warmup_style",),
    "worker.reward.reward_function": ("worker.reward.score_function", "worker.reward.compute_score"),
    "worker.reward.reward_function_kwargs.accuracy_weight": ("worker.reward.score_function_kwargs.accuracy_weight",),
    "worker.reward.reward_function_kwargs.format_weight": ("worker.reward.score_function_kwargs.format_weight",),
}
#: The other way round, for keys that were not read because the later name is there as well.
LATER: Mapping[str, str] = {early: key for key, names in EARLY.items() for early in names}


@dataclass(frozen=True, slots=True)
class UnsupportedKey:
    """An old key that has no counterpart: its dotted name, its value as text, and why."""

    key: str
    value: str
    reason: str


@dataclass
class LegacyFile:
    """The old file: remembers which keys were asked for, and which of those could not be kept."""

    source: Source
    asked: set[str] = field(default_factory=set)
    unsupported: list[UnsupportedKey] = field(default_factory=list)
    without_effect: list[UnsupportedKey] = field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """The value at a dotted key, or the old framework's default when it is absent or null."""
        written = self._written(key)
        self.asked.add(written)
        value = self._at(written)
        if isinstance(value, str) and "${" in value:
            self.drop(written, "an OmegaConf reference is not resolved; write its value")
            return default
        return default if value is None else value

    def number(self, key: str, default: float) -> float:
        """A finite number; the three that follow raise ``ConfigError`` with the line for anything else, too."""
        return float(self._numeric(key, default))

    def integer(self, key: str, default: int) -> int:
        value = self._numeric(key, default)
        if not float(value).is_integer():
            raise ConfigError(f"{self.where(key)}: {key}: expected a whole number, got {describe(value)}")
        return int(value)

    def _numeric(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, str):
            # PyYAML reads 1e-6 as text, and old files were written for that reading.
            try:
                value = float(value)
            except ValueError:
                value = None
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise ConfigError(f"{self.where(key)}: {key}: expected a number, got {describe(self.get(key))}")
        return value

    def numbers(self, key: str, default: tuple[float, ...]) -> list[float]:
        """As many numbers as ``default`` has: a list, or the text of a tuple, which is what YAML makes of one."""
        value = self.get(key, default)
        items = value.strip("()[] ").split(",") if isinstance(value, str) else value
        try:
            found = [float(item) for item in items if not isinstance(item, bool)]
        except (TypeError, ValueError, OverflowError):
            found = []
        if len(found) != len(default) or len(items) != len(found) or not all(map(_is_finite, found)):
            raise ConfigError(f"{self.where(key)}: {key}: expected {len(default)} numbers, got {describe(value)}")
        return found

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        words = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
        value = words.get(value.lower(), value) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ConfigError(f"{self.where(key)}: {key}: expected true or false, got {describe(value)}")
        return value

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def written(self, key: str) -> Any:
        """The value at a key as it stands, or None; that does not count as asked for."""
        return self._at(self._written(key))

    def where(self, key: str) -> str:
        return self.source.where(tuple(self._written(key).split(".")))

    def _at(self, key: str) -> Any:
        value: Any = self.source.values
        for word in key.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
        return value

    def _written(self, key: str) -> str:
        """The name under which the file has a key: its own, or an early one."""
        if self._at(key) is not None:
            return key
        return next((early for early in EARLY.get(key, ()) if self._at(early) is not None), key)

    def drop(self, key: str, reason: str, value: Any = None) -> None:
        """Put a key on the list of what has no counterpart, under the name that the file gives it."""
        self._note(self.unsupported, key, reason, value)

    def idle(self, key: str, reason: str, value: Any = None) -> None:
        """The same for a key that did nothing in the old run either, so that nothing is lost."""
        self._note(self.without_effect, key, reason, value)

    def _note(self, notes: list[UnsupportedKey], key: str, reason: str, value: Any) -> None:
        key = self._written(key)
        self.asked.add(key)
        value = self._at(key) if value is None else value
        if all(item.key != key for item in (*self.unsupported, *self.without_effect)):
            text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
            notes.append(UnsupportedKey(key, text, reason))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
