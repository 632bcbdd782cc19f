"""The ledger of collected responses: a file beside the output, one line per sample, so that a kill costs little.

The first line is the identity of the command: what decides the responses and their scores. Every further line is the
record of a sample with its scored responses (``records.trajectories``). Each line has a checksum of its own: a digit
that a disk has changed must not become a score. Whoever opens the file holds the lock of the output, so nobody else
appends to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1 import __version__
from easyvideor1.config import JudgeConfig, RunConfig, located
from easyvideor1.curation.code import code_digest
from easyvideor1.data.row_files import source_digests
from easyvideor1.families.checkpoint import checkpoint_digests
from easyvideor1.files import append, file_digest, flat, is_sealed, json_bytes, seal, write_atomic
from easyvideor1.records.trajectories import SampleRecord, record_from_json, rollout_row
from easyvideor1.types import ConfigError, DataError

#: Of the lines; a ledger of another format is not resumed.
_FORMAT = 2
#: Differences that a message spells out.
_SHOWN = 5
#: Parts of an identity that hold digests by name, in words.
_DIGESTS = {
    "rows": "the rows of",
    "code": "the code of",
    "judge templates": "the judge's template",
    "checkpoint": "the checkpoint's file",
}


def responses_identity(
    config: RunConfig, *, k: int, checkpoint: Path | None, endpoint: JudgeConfig | None = None
) -> dict[str, Any]:
    """Everything that decides the responses and their scores, as plain values, so that a start with something else is
    refused.

    Prompts and media are not in here: their digests stand beside every sample's responses (``prompt_digest``).

    Args:
        config: of the command.
        k: responses per sample.
        checkpoint: whose model answers; ``None`` if an endpoint does.
        endpoint: that answers; its model may change behind its name, which nobody here can see.

    Raises:
        ConfigError: a reward, a family or an engine of the configuration cannot be imported.
        OSError: a file cannot be read.
    """
    return {
        "easyvideor1": __version__,
        "ledger": _FORMAT,
        "k": k,
        "config": _deciding(config),
        "rows": source_digests(config, config.data.train),
        "code": _code_digests(config),
        "judge templates": _files(located(config).rewards.judge.templates, "*.j2"),
        "checkpoint": {} if checkpoint is None else checkpoint_digests(checkpoint),
        "endpoint": {} if endpoint is None else {"url": endpoint.url, "model": endpoint.model},
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The first few differences between two identities, in words."""
    old, new = flat(there), flat(here)
    changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    found = []
    for key in changed:
        part, _, name = key.partition(".")
        if part in _DIGESTS:
            found.append(f"{_DIGESTS[part]} {name} changed")
        else:
            found.append(f"{key.removeprefix('config.')} is {old.get(key)!r} there, {new.get(key)!r} here")
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [*found[:_SHOWN], *more]


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The configuration less what no response and no score depends on: one may change that and go on."""
    values = config.model_dump(mode="json")
    for name in ("name", "output_dir", "stages", "evaluation"):
        del values[name]
    for name in ("train", "validation", "test", "on_bad_row", "on_visual_mismatch"):
        del values["data"][name]  # what of ``train`` decides is in the prompts, and in the files of rows
    values["cache"] = {"codec": values["cache"]["codec"]}
    return values


def _code_digests(config: RunConfig) -> dict[str, str]:
    """Of the user's own code that the configuration names, by module: its file, or all of the package it belongs to."""
    named = [*config.rewards.custom.values(), *(part.reward for part in config.rewards.parts)]
    named += [config.model.family, config.rollout.engine, config.rollout.strategy.name]
    found: dict[str, str] = {}
    for target in filter(lambda name: ":" in name, named):
        if (digest := code_digest(target)) is not None:
            found[target.partition(":")[0]] = digest
    return found


def _files(directory: str | None, pattern: str) -> dict[str, str]:
    if directory is None:
        return {}
    return {file.name: file_digest(file) for file in sorted(Path(directory).glob(pattern))}


@dataclass(frozen=True, slots=True)
class Known:
    """A sample with its responses, and the digest of the prompt that they answer."""

    prompt_digest: str
    record: SampleRecord


class ResponseLedger:
    """The file, and what it holds: ``known`` maps the identifiers of samples to what is known of them."""

    def __init__(self, path: Path, known: dict[str, Known]) -> None:
        self.path = path
        self.known = known

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any]) -> ResponseLedger:
        """Begin the file, or take up what is there. A last line that a kill cut short is removed; a file without
        any responses is begun again.

        Raises:
            ConfigError: its responses were collected differently; the message names what differs.
            DataError: a line is damaged.
        """
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        first, *lines = whole.splitlines() or [b""]
        if not lines:  # or a start that went no further: there is nothing in it to keep apart
            write_atomic(path, json_bytes(seal(identity)))
            return cls(path, {})
        _check_identity(path, first, identity)
        known = dict(_read_line(path, number, line) for number, line in enumerate(lines, 2))
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        return cls(path, known)

    def append(self, prompt_digest: str, record: SampleRecord) -> None:
        """Keep a sample with its responses; they are on the disk when this returns.

        Raises:
            OSError: the disk refused.
        """
        append(self.path, json_bytes(seal({**rollout_row(record), "prompt_digest": prompt_digest})))
        self.known[record.sample] = Known(prompt_digest, record)

    def remove(self) -> None:
        """Forget everything: the output is written."""
        self.path.unlink(missing_ok=True)


def _check_identity(path: Path, line: bytes, identity: Mapping[str, Any]) -> None:
    try:
        there = json.loads(line)
        _check_seal(there)
        del there["checksum"]
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}:1: not the first line of a ledger of responses ({error}); remove the file to start over"
        ) from error
    if found := differences(there, json.loads(json_bytes(dict(identity)))):
        raise ConfigError(
            f"{path} holds responses that were collected differently: {'; '.join(found)}. Restore that to resume, "
            "remove the file to start over, or choose another --out."
        )


def _check_seal(line: Any) -> None:
    if not is_sealed(line):
        raise ValueError("its checksum is wrong")


def _read_line(path: Path, number: int, line: bytes) -> tuple[str, Known]:
    try:
        row = json.loads(line)
        _check_seal(row)
        record = record_from_json(row)
        return record.sample, Known(str(row["prompt_digest"]), record)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}:{number}: this line is damaged ({type(error).__name__}: {error}); remove the line, and the "
            "responses to its row are collected again, or remove the file to start over"
        ) from error
