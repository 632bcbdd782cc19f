"""Which run a directory holds: its configuration and its rows, and whether a start continues or extends it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from easyvideor1.config import RunConfig, dump_config
from easyvideor1.config.keys import identifies_run, keys_of
from easyvideor1.config.load import validate
from easyvideor1.config.moved_keys import is_moved
from easyvideor1.config.yaml_source import Source
from easyvideor1.files import flat, write_text
from easyvideor1.types import ConfigError

#: A directory without a run; with this run, whose ``config.yaml`` is or is not as it would be written now; or with a
#: shorter one.
Relation = Literal["new", "same", "rewritten", "extended"]
#: Key whose default has changed: a run that began under the earlier one is not told to start over.
CONVENTIONS = "model.conventions"


def check_configuration(run_dir: Path, config: RunConfig) -> bool:
    """Make sure that the directory is new, holds a run of this very configuration, or holds one that it extends.

    Settings that the schema marks as changeable, such as name, directory, engine and saving, may differ;
    ``config.yaml`` is then rewritten. A run may get longer: its last stage has more steps or epochs,
    or further stages stand behind it. ``RunStatus.open`` writes that down once the rows are known to be the same. Keys
    of later versions have their defaults there.

    Returns:
        Whether ``config`` extends the run that is there.

    Raises:
        ConfigError: it holds another run, and the message names the first values that differ; or ``config.yaml`` there
            cannot be read.
    """
    found = compare_configuration(run_dir, config)
    file = run_dir / "config.yaml"
    # Removed by hand, as ``_unreadable`` advises, or with other settings that may change.
    if found == "rewritten" or (found == "new" and (run_dir / "run.json").exists()):
        write_text(file, dump_config(config))
    return found == "extended"


def compare_configuration(run_dir: Path, config: RunConfig) -> Relation:
    """What a start with ``config`` would be to the run in a directory; nothing is written.

    Raises:
        ConfigError: as ``check_configuration``.
    """
    file, text = run_dir / "config.yaml", dump_config(config)
    if not file.exists():
        return "new"
    try:
        there = file.read_text(encoding="utf-8")
        if there == text:
            return "same"
        values = yaml.safe_load(there)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(_unreadable(file, " ".join(str(error).split()))) from error
    if not isinstance(values, dict):
        raise ConfigError(_unreadable(file, "it has no settings"))
    old, new = flat(_completed(values, str(file))), flat(yaml.safe_load(text))
    changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    changed = [key for key in changed if identifies_run(keys_of(key))]
    if not changed:
        return "rewritten"
    if any(is_moved(keys_of(key)) for key in old):
        raise ConfigError(
            f"{run_dir} contains a run that was begun by an earlier version; finish it with that version, or give this "
            "run another name or output_dir"
        )
    if extends(old, new, changed):
        return "extended"
    if CONVENTIONS in changed and extends(old, new, [key for key in changed if key != CONVENTIONS]):
        raise ConfigError(_other_conventions(run_dir, old[CONVENTIONS], new[CONVENTIONS]))
    shown = "; ".join(f"{key} is {old.get(key)!r} there, {new.get(key)!r} here" for key in changed[:5])
    raise ConfigError(
        f"{run_dir} contains a run with another configuration: {shown}. Give this run another name or output_dir, or "
        "remove the directory to start over. A run can only be extended, by more steps of its last stage or by "
        "another stage behind it."
    )


def extends(old: Mapping[str, Any], new: Mapping[str, Any], changed: Sequence[str]) -> bool:
    """Whether all differences between two configurations, by dotted key, make the same run longer."""
    count = 1 + max((int(key.split(".")[1]) for key in old if re.match(r"stages\.\d+\.", key)), default=-1)
    last = f"stages.{count - 1}."

    def longer(key: str) -> bool:
        before, now = old.get(key), new.get(key)
        return before is None or now is None or now > before

    def is_behind(key: str) -> bool:
        found = re.match(r"stages\.(\d+)\.", key)
        return found is not None and int(found[1]) >= count and key not in old

    lengths = {f"{last}steps", f"{last}epochs"}
    return all(is_behind(key) or (key in lengths and longer(key)) for key in changed)


def _other_conventions(run_dir: Path, there: str, here: str) -> str:
    return (
        f"{run_dir} contains a run whose prompts follow {CONVENTIONS}={there}, here it is {here}. The default was "
        f"transformers and is now released: set {CONVENTIONS}={there} to continue that run, or give this run another "
        "name or output_dir"
    )


def _unreadable(file: Path, fault: str) -> str:
    return (
        f"{file} is damaged: {fault}. So the configuration of that run is unknown. Restore the file from a backup; "
        "or, if this is the command that started that run, remove the file, and it is written again"
    )


def _completed(values: Any, name: str) -> Any:
    """A configuration as this version writes it down; as it is there if this version cannot read it."""
    try:
        return yaml.safe_load(dump_config(validate(Source(values, {(): name}))))
    except (ConfigError, AttributeError, TypeError, ValueError):  # edited by hand, or of a version that knew other keys
        return values
