"""The run directory: whose it is, which run it holds, how far that run is."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from easyvideor1 import __version__
from easyvideor1.config import RunConfig, SourceConfig, dump_config
from easyvideor1.config.load import validate
from easyvideor1.config.places import located_source
from easyvideor1.config.source import Source
from easyvideor1.data import source_files
from easyvideor1.files import file_digest, is_sealed, seal, write_json, write_text
from easyvideor1.locks import file_lock
from easyvideor1.types import ConfigError, DataError

#: What ``run.json`` calls the stage of a run that is through.
FINISHED = "finished"
#: Keys of the configuration that change nothing of what a run does: what watches it, when it is saved, what it is
#: called and where it is.
_FREE = re.compile(
    r"canary\..*|loggers(\.\d+)?|project|name|output_dir|evaluation\.max_failed|stages\.\d+\.(save_every|keep_checkpoints|max_unusable_steps)"
)


def run_directory(config: RunConfig) -> Path:
    """``output_dir`` with its fields filled in.

    Raises:
        ConfigError: it has a field that is not known.
    """
    try:
        return Path(config.output_dir.format(name=config.name, seed=config.seed))
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"output_dir {config.output_dir!r} has an unknown field ({error!r}); use only {{name}} and {{seed}}"
        ) from error


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold the run directory for this process; the claim ends with the process, however that ends.

    Where nothing was written in the meantime, the directory goes again: a mistake in rows leaves no trace.

    Raises:
        ConfigError: another process holds it.
    """
    made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(run_dir / ".lock") as ours:
            if not ours:
                raise ConfigError(f"{run_dir} is in use by another process; wait for it, or give this run another name")
            yield
    finally:
        with suppress(OSError):  # of a directory that is not empty, be it by a process that has come in between
            for path in made:
                path.rmdir()


def check_configuration(run_dir: Path, config: RunConfig) -> None:
    """Make sure that the directory is new or holds a run of this very configuration.

    What only watches a run (``canary``) or says when it is saved (``save_every``, ``keep_checkpoints``) may change, and
    so may its name and place, so that it goes on where it was moved or copied to; then the file is written anew. Keys
    that came with a later version are at their defaults there.

    Raises:
        ConfigError: it holds another run, and the message names the first values that differ; or ``config.yaml`` there
            cannot be read.
    """
    file, text = run_dir / "config.yaml", dump_config(config)
    if not file.exists():
        if (run_dir / "run.json").exists():  # taken away, as below
            write_text(file, text)
        return
    try:
        there = file.read_text(encoding="utf-8")
        if there == text:
            return
        values = yaml.safe_load(there)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(_unreadable(file, " ".join(str(error).split()))) from error
    if not isinstance(values, dict):
        raise ConfigError(_unreadable(file, "it has no settings"))
    old, new = flat(_completed(values, str(file))), flat(yaml.safe_load(text))
    changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    if all(map(_FREE.fullmatch, changed)):
        write_text(file, text)
        return
    shown = "; ".join(f"{key} is {old.get(key)!r} there, {new.get(key)!r} here" for key in changed[:5])
    raise ConfigError(
        f"{run_dir} contains a run with another configuration: {shown}. Give this run another name "
        "or output_dir, or remove the directory to start over."
    )


def _unreadable(file: Path, fault: str) -> str:
    return (
        f"{file} is damaged: {fault}. Whether the run there is one of this configuration cannot be told. Put the file "
        "back from a copy; or, if this is the command that began that run, remove the file: it is written anew"
    )


def _completed(values: Any, name: str) -> Any:
    """A configuration as this version writes it down; as it is there if this version cannot read it."""
    try:
        return yaml.safe_load(dump_config(validate(Source(values, {(): name}))))
    except (ConfigError, AttributeError, TypeError, ValueError):  # edited by hand, or of a version that knew other keys
        return values


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted key, as overrides name them."""
    if isinstance(value, Mapping):
        items = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        items = [(str(index), entry) for index, entry in enumerate(value)]
    else:
        return {path: value}
    return {key: leaf for name, entry in items for key, leaf in flat(entry, f"{path}.{name}".lstrip(".")).items()}


class RunStatus:
    """``run.json``: what made the run, the steps of its stages, the stage that is under way, and the seconds it has
    taken.

    Seconds count up to the last note, which every checkpoint makes: work that a kill undid is not counted, and neither
    is the time between two starts.
    """

    def __init__(self, run_dir: Path, facts: dict[str, Any]) -> None:
        self.file = run_dir / "run.json"
        self.facts = facts
        self._before = float(facts["seconds"])
        self._begun = time.monotonic()

    @classmethod
    def open(cls, run_dir: Path, config: RunConfig, steps: Mapping[str, int]) -> RunStatus:
        """Begin the run's files, or take up those that are there; ``steps`` are those of each stage, by its name.

        Raises:
            ConfigError: the rows have changed since the run began.
        """
        data = config.data
        digests = source_digests(config, (*data.train, *data.validation, *data.test))
        facts = read_status(run_dir)
        if facts is None:
            facts = {**_facts(config), "data": digests, "starts": 0, "stage": "", "seconds": 0.0}
        elif changed := [path for path, digest in digests.items() if facts["data"].get(path) != digest]:
            raise ConfigError(
                f"{run_dir}: the rows of {', '.join(changed)} have changed since this run started, so resuming would "
                "mix two data sets. Restore them, give this run another name, or remove the directory to start over."
            )
        facts["starts"] += 1
        facts["steps"] = dict(steps)
        status = cls(run_dir, facts)
        if not (run_dir / "config.yaml").exists():
            write_text(run_dir / "config.yaml", dump_config(config))
        status.note()
        return status

    def keep_incident(self, text: str) -> None:
        """Keep what this start has found damaged, or does again; what an earlier one has kept already stands."""
        incidents = self.facts.setdefault("incidents", [])
        if not any(known["text"] == text for known in incidents):
            now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            incidents.append({"start": self.facts["starts"], "time": now, "text": text})
            self.note()

    def note(self, stage: str | None = None) -> None:
        """Write down the seconds so far and, if given, the stage that is under way."""
        if stage is not None:
            self.facts["stage"] = stage
        self.facts["seconds"] = round(self._before + time.monotonic() - self._begun, 3)
        write_json(self.file, seal(self.facts))


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
        "command": sys.argv,
        "versions": versions,
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def source_digests(config: RunConfig, sources: Iterable[SourceConfig]) -> dict[str, str]:
    """SHA-256 of the rows of every source of a configuration, by its path as it is written there.

    It is that of the file, or of the names and digests of all files of a source that has several.
    """
    return {source_name(source): _digest(located_source(config, source)) for source in sources}


def source_name(source: SourceConfig) -> str:
    """The path of a source as it is written, with the configuration of a data set on the Hub, if one is named."""
    return f"{source.path} ({source.subset})" if source.subset else source.path


def _digest(source: SourceConfig) -> str:
    files = source_files(source)
    if len(files) == 1:
        return file_digest(files[0])
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return whole.hexdigest()
