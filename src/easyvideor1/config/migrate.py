"""YAML of EasyR1 and EasyVideoR1, and of earlier versions of this package, becomes a configuration of this version.

Every old key is either translated or listed with the reason why it is not. Where the old default differs from ours and
the file leaves the key out, the old default is written down, so that the new file asks for the run that the old one
described.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config.legacy_file import LATER, LegacyFile, UnsupportedKey
from easyvideor1.config.load import validate
from easyvideor1.config.migrate_cluster import cluster
from easyvideor1.config.migrate_critic import same_as_policy
from easyvideor1.config.migrate_sections import cache, data, evaluation, model, prompts, rewards, rollout
from easyvideor1.config.migrate_stage import stage
from easyvideor1.config.migrate_switches import without_effect
from easyvideor1.config.moved_keys import nested
from easyvideor1.config.schema import RunConfig
from easyvideor1.config.unsupported_keys import HOLDS, REASONS
from easyvideor1.config.writing import dump_config
from easyvideor1.config.yaml_source import Source, read_yaml
from easyvideor1.types import ConfigError

#: Default of ``model.conventions`` in earlier versions of this package.
EARLIER_CONVENTIONS = "transformers"
_CRITIC = "worker.critic."

#: The section of verl that EasyR1 calls ``worker``.
_OF_VERL = "actor_rollout_ref"


@dataclass(frozen=True, slots=True)
class Migration:
    """``text`` is the new YAML, and its comments list the keys without a counterpart.

    ``unsupported`` asked for something that this version does otherwise or not at all; ``without_effect`` asked for
    nothing in the old file either, such as the bounds of a filter that is off.
    """

    config: RunConfig
    text: str
    unsupported: tuple[UnsupportedKey, ...]
    without_effect: tuple[UnsupportedKey, ...] = ()


def migrate_file(path: str | Path) -> Migration:
    """``migrate`` for a file.

    Raises:
        ConfigError: the file cannot be read or holds values that cannot be translated.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return migrate(text, str(path))


def migrate(text: str, name: str) -> Migration:
    """Translate the YAML of EasyR1 or EasyVideoR1, or of an earlier version of this package.

    Args:
        text: the old YAML.
        name: what messages call it.

    Raises:
        ConfigError: it is no such YAML, or a value cannot be translated; the message names the line.
    """
    source = read_yaml(text, name)
    if "stages" in source.values:
        return _from_earlier_version(source, name)
    old = LegacyFile(source)
    sections = {"data", "algorithm", "worker", "trainer"}
    if not sections & set(old.source.values):
        raise ConfigError(
            f"{name}: no section of {', '.join(sorted(sections))}: this is not a YAML file of EasyR1 or EasyVideoR1"
        )
    actor = source.values.get(_OF_VERL)
    if isinstance(actor, dict) and {"model", "rollout"} & set(actor) and "worker" not in source.values:
        raise ConfigError(
            f"{name}: section {_OF_VERL}: this is a YAML file of verl, whose keys mean other things; "
            "write the configuration by hand, with the table in docs/howto/migrate.md"
        )
    new = _run(old)
    sections_of = {"model": model, "data": data, "cache": cache, "prompts": prompts, "rewards": rewards}
    sections_of |= {"rollout": rollout, "cluster": cluster, "evaluation": evaluation}
    new |= {name: section for name, of in sections_of.items() if (section := of(old))}
    new["stages"] = [stage(old)]
    _leave_the_rest(old)
    config = validate(Source(new, {(): name}))
    unsupported, idle = (
        tuple(sorted(keys, key=lambda item: item.key)) for keys in (old.unsupported, old.without_effect)
    )
    comments = _comments(name, unsupported, _notes(config), idle)
    return Migration(config, comments + dump_config(config, only_set=True), unsupported, idle)


def _notes(config: RunConfig) -> list[str]:
    """What a reader of the new file should know of lines that are in it."""
    if (profile := config.rewards.profile) == "strict":
        return []
    return [f"rewards.profile: {profile} scores as the published file did, faults included; the default is strict"]


def _from_earlier_version(source: Source, name: str) -> Migration:
    """A configuration of this package whose stages have all their options at the top."""
    values, unsupported = dict(source.values), []
    if isinstance(values["stages"], list):
        stages = []
        for index, old in enumerate(values["stages"]):
            new, unused = nested(old) if isinstance(old, Mapping) else (old, [])
            stages.append(new)
            unsupported += [
                UnsupportedKey(
                    f"stages.{index}.{key}", json.dumps(old[key]), "the algorithms of this stage do not read it"
                )
                for key in unused
            ]
        values["stages"] = stages
    notes = []
    if isinstance(own := values.get("model", {}), Mapping) and "conventions" not in own:
        values["model"] = {**own, "conventions": EARLIER_CONVENTIONS}
        notes.append(f"model.conventions: {EARLIER_CONVENTIONS} was the default; without that line it is released")
    config = validate(Source(values, source.marks))
    comments = _comments(name, tuple(unsupported), notes)
    return Migration(config, comments + dump_config(config, only_set=True), tuple(unsupported))


def _run(old: LegacyFile) -> dict[str, Any]:
    """What stands in no section."""
    project = str(old.get("trainer.project_name", "easy_r1"))
    new: dict[str, Any] = {
        "name": str(old.get("trainer.experiment_name", "demo")),
        "output_dir": str(old.get("trainer.save_checkpoint_path", f"runs/{project}/{{name}}")),
        "project": project,
        "seed": old.integer("data.seed", 1),
    }
    wanted = old.get("trainer.logger", [])
    named = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, list) else []
    if loggers := [name for name in named if name in ("tensorboard", "wandb", "swanlab")]:
        new["loggers"] = loggers
    if other := [name for name in named if name not in (*loggers, "console", "file")]:
        old.drop("trainer.logger", "known loggers are tensorboard, wandb, trackio and swanlab", other)
    if old.integer("worker.rollout.seed", new["seed"]) != new["seed"]:
        old.drop("worker.rollout.seed", "one seed, data.seed, now decides everything random")
    return new


def _leave_the_rest(old: LegacyFile) -> None:
    """List every key of the file that no translation asked for, but what asks for nothing that is not so anyway."""
    idle = without_effect(old)
    for key, value in _leaves(old.source.values, ""):
        if key in old.asked or value is None or (key in HOLDS and HOLDS[key] == value):
            continue
        if (reason := _longest(idle, key)) is not None:
            old.idle(key, reason, value)
        elif (later := LATER.get(key)) is not None:
            old.drop(key, f"an early name of {later}, which is there as well", value)
        elif not (key.startswith(_CRITIC) and same_as_policy(old, key.removeprefix(_CRITIC))):
            old.drop(key, _longest(REASONS, key) or "not a key of EasyR1 or EasyVideoR1 known here", value)


def _longest(reasons: Mapping[str, str], key: str) -> str | None:
    """The reason of the longest prefix that fits."""
    fitting = [prefix for prefix in reasons if key.startswith(prefix)]
    return reasons[max(fitting, key=len)] if fitting else None


def _leaves(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            out += _leaves(value, f"{prefix}{name}.")
        elif value != {}:
            out.append((f"{prefix}{name}", value))
    return out


def _comments(
    name: str,
    unsupported: tuple[UnsupportedKey, ...],
    notes: Sequence[str] = (),
    idle: tuple[UnsupportedKey, ...] = (),
) -> str:
    lines = [f"# Migrated from {Path(name).name} by `evr1 config migrate`.", *(f"# {note}." for note in notes)]
    for heading, keys in (("Not carried over", unsupported), ("Without effect in that file", idle)):
        lines += [f"# {heading}:"] * bool(keys)
        lines += [f"#   {item.key} ({item.value}): {item.reason}".replace("\n", " ") for item in keys]
    return "\n".join(lines) + "\n\n"
