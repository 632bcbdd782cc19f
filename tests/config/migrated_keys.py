"""Which keys of an old file a migration passes over in silence."""

import copy

import yaml

from easyvideor1.config.migrate import Migration, _leaves, migrate
from easyvideor1.types import ConfigError


def told(done: Migration) -> set[str]:
    """The keys that are listed, as unsupported or as without effect."""
    return {item.key for item in (*done.unsupported, *done.without_effect)}


def silent_keys(text: str) -> set[str]:
    """Keys that are not listed and whose value, when it is changed, changes neither the outcome nor the lists."""
    values, done = yaml.safe_load(text), migrate(text, "old.yaml")
    listed = told(done)
    silent = set()
    for key, value in _leaves(values, ""):
        if value is None or key in listed:
            continue
        other = copy.deepcopy(values)
        *above, last = key.split(".")
        place = other
        for word in above:
            place = place[word]
        place[last] = _another(value)
        try:
            changed = migrate(yaml.safe_dump(other), "old.yaml")
        except ConfigError:
            continue  # told loudly
        if changed.config == done.config and told(changed) == listed:
            silent.add(key)
    return silent


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value // 2 if value > 1 else value + 1
    if isinstance(value, float):
        return value / 2 or 0.5
    return ["tensorboard"] if isinstance(value, list) else f"{value}x"
