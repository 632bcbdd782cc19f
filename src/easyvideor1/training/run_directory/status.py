"""``run.json``: what made a run, how far it is, and how long its stages are."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from easyvideor1 import __version__
from easyvideor1.config import RunConfig, dump_config
from easyvideor1.data.row_files import source_digests
from easyvideor1.files import is_sealed, seal, write_json, write_text
from easyvideor1.training.run_directory.layout import evaluations_directory, stage_directory
from easyvideor1.types import ConfigError, DataError

#: What ``run.json`` calls the stage of a run that is through.
FINISHED = "finished"


class RunStatus:
    """``run.json``: what made the run, the steps of its stages, the stage that is under way, and the seconds it has
    taken. The command and its directory are those of the last start: an earlier command may be of a shorter run.

    Seconds count up to the last note, which every checkpoint makes: work that a kill undid is not counted, and neither
    is the time between two starts. ``lengthened`` are the stages that this start makes longer, with their steps so far.
    """

    def __init__(self, run_dir: Path, facts: dict[str, Any], lengthened: Mapping[str, int]) -> None:
        self.file = run_dir / "run.json"
        self.facts = facts
        self.lengthened = dict(lengthened)
        self._before = float(facts["seconds"])
        self._begun = time.monotonic()

    @classmethod
    def open(cls, run_dir: Path, config: RunConfig, steps: Mapping[str, int], *, extended: bool = False) -> RunStatus:
        """Begin the run's files, or continue those that are there.

        Args:
            run_dir: of the run, which this process owns.
            config: of the run, with ``epochs`` as they are given.
            steps: of each stage, by its name.
            extended: whether the run was shorter until now (``check_configuration``).

        Raises:
            ConfigError: see ``check_start``.
        """
        facts, digests = check_start(run_dir, config, steps, extended=extended)
        lengthened: dict[str, int] = {}
        if facts is None:
            facts = {**_facts(config), "data": digests, "starts": 0, "stage": "", "seconds": 0.0}
        elif extended:
            lengthened = _extend(run_dir, config, steps, facts)
        facts |= {"command": sys.argv, "directory": os.getcwd()}  # noqa: PTH109 - as the shell calls it
        facts["starts"] += 1
        facts["steps"] = dict(steps)
        facts["epochs"] = {options.name: options.epochs for options in config.stages if options.epochs is not None}
        status = cls(run_dir, facts, lengthened)
        status.note()
        if extended or not (run_dir / "config.yaml").exists():
            write_text(run_dir / "config.yaml", dump_config(config))
        return status

    def keep_incident(self, text: str) -> None:
        """Keep what this start has found damaged, or does again; what an earlier one has kept already stands."""
        incidents = self.facts.setdefault("incidents", [])
        if not any(known["text"] == text for known in incidents):
            now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            incidents.append({"start": self.facts["starts"], "time": now, "text": text})
            self.note()

    def keep_benchmarks(self, digests: Mapping[str, str]) -> list[str]:
        """Keep the digests of the run's benchmarks by label; returns the labels of those that are not what they were
        when the run began."""
        known: Mapping[str, str] = self.facts.get("benchmarks", {})
        if digests and dict(known) != dict(digests):
            self.facts["benchmarks"] = dict(digests)
            self.note()
        return [label for label, digest in digests.items() if known.get(label, digest) != digest]

    def note(self, stage: str | None = None) -> None:
        """Write down the seconds so far and, if given, the stage that is under way."""
        if stage is not None:
            self.facts["stage"] = stage
        self.facts["seconds"] = round(self._before + time.monotonic() - self._begun, 3)
        write_json(self.file, seal(self.facts))


def check_start(
    run_dir: Path, config: RunConfig, steps: Mapping[str, int], *, extended: bool
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Make sure that ``run.json`` lets a start begin, continue or extend the run; nothing is written.

    The arguments are those of ``RunStatus.open``.

    Returns:
        ``run.json``, ``None`` if there is none, and the digests of the rows by path.

    Raises:
        ConfigError: the rows have changed since the run began, a stage would become shorter, or how long it is is not
            known.
        DataError: ``run.json`` is damaged.
    """
    data = config.data
    digests = source_digests(config, (*data.train, *data.validation, *data.test))
    facts = read_status(run_dir)
    if facts is None:
        if extended:
            raise ConfigError(
                f"{run_dir} cannot be extended: run.json, which keeps how long its stages are, is missing. Start "
                "the command that began the run once more, then extend it"
            )
        return None, digests
    if changed := [path for path, digest in digests.items() if facts["data"].get(path) != digest]:
        raise ConfigError(
            f"{run_dir}: the rows of {', '.join(changed)} have changed since this run started, so resuming would "
            "mix two data sets. Restore them, give this run another name, or remove the directory to start over."
        )
    if extended:
        _check_lengths(run_dir, config, steps, facts.get("steps", {}))
    return facts, digests


def _check_lengths(run_dir: Path, config: RunConfig, steps: Mapping[str, int], before: Mapping[str, int]) -> None:
    for options in config.stages:
        directory = stage_directory(run_dir, config, options)
        if options.name not in before:
            if directory.exists():
                raise ConfigError(f"{run_dir} cannot be extended: run.json does not say how long {directory.name} is")
            continue
        old, new = before[options.name], steps[options.name]
        if new < old:
            raise ConfigError(
                f"{run_dir}: stage {options.name} has {old} steps there, {new} here; a run can be made longer, not "
                "shorter. Give this run another name or output_dir"
            )


def _extend(run_dir: Path, config: RunConfig, steps: Mapping[str, int], facts: dict[str, Any]) -> dict[str, int]:
    """Get a run ready to become longer; returns the stages that do, with their steps so far.

    The test evaluation at the former end of a stage gets the name of its step (``02-grpo-000050``): ``02-grpo`` is the
    one at the new end. All of this can be done twice, so a kill in between does no harm. ``check_start`` has found it
    possible.
    """
    before: Mapping[str, int] = facts.get("steps", {})
    lengthened: dict[str, int] = {}
    for options in config.stages:
        directory = stage_directory(run_dir, config, options)
        if options.name not in before:
            continue
        old, new = before[options.name], steps[options.name]
        if new > old:
            lengthened[options.name] = old
            for label in ("", *facts.get("benchmarks", {})):
                _rename(evaluations_directory(run_dir, label), directory.name, f"{directory.name}-{old:06d}")
    if facts["stage"] == FINISHED:
        longer = [one for one in config.stages if before.get(one.name) != steps[one.name]]
        facts["stage"] = stage_directory(run_dir, config, longer[0]).name if longer else FINISHED
    return lengthened


def _rename(evaluations: Path, name: str, new: str) -> None:
    """Give an evaluation another name, if it is there."""
    for suffix in ("jsonl", "json"):  # the rows first: without them the other file counts for nothing
        file = evaluations / f"{name}.{suffix}"
        if file.exists():
            file.rename(file.with_name(f"{new}.{suffix}"))


def read_status(run_dir: Path) -> dict[str, Any] | None:
    """``run.json``; ``None`` when there is none.

    Raises:
        DataError: it is damaged.
    """
    file = run_dir / "run.json"
    if not file.exists():
        return None
    try:
        facts: dict[str, Any] = json.loads(file.read_bytes())
        float(facts["seconds"]), int(facts["starts"]), dict(facts["data"]), str(facts["stage"]), int(facts["threads"])
        counted = facts.get("steps", {})  # runs of older versions have none
        if not all(isinstance(steps, int) and steps > 0 for steps in counted.values()):
            raise ValueError(f"steps {counted!r}")
        dict(facts.get("epochs", {}))
        {str(label): str(digest) for label, digest in dict(facts.get("benchmarks", {})).items()}
        [str(incident["text"]) for incident in facts.get("incidents", [])]
        if "checksum" in facts and not is_sealed(facts):  # an earlier version wrote none
            raise ValueError("its checksum is wrong")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not the status of a run ({error!r}); remove it and start again") from error
    facts.pop("checksum", None)
    return facts


def _facts(config: RunConfig) -> dict[str, Any]:
    versions = {"easyvideor1": __version__, "python": platform.python_version()}
    versions |= {package: version(package) for package in ("torch", "transformers", "av", "numpy")}
    return {
        "name": config.name,
        "seed": config.seed,
        "versions": versions,
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def lock_owner(directory: Path) -> Mapping[str, Any]:
    """The process that has claimed a run, by its lock file; a file of an earlier version is empty."""
    try:
        found = json.loads((directory / ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def other_host(directory: Path) -> str:
    """The other machine that has claimed a run, where it may still work; empty if it is this one, or none."""
    host = str(lock_owner(directory).get("host", ""))
    return "" if host == socket.gethostname() else host
