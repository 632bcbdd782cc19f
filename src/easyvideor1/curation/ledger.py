"""What a survey knows already: a file beside its output, one line per sample, so that a kill costs little.

The first line is the identity of the survey, every further one a sample with its scored responses, each with a checksum
of its own: a digit that a disk has changed must not become a score. Whoever opens it
holds the lock of the output, so nobody else appends to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from easyvideor1.curation.identity import differences
from easyvideor1.files import append, is_sealed, json_bytes, seal, write_atomic
from easyvideor1.types import ConfigError, DataError

#: Why there is no text: the endpoint does not take the request, or gave no usable reply after all attempts.
Fault = Literal["", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Response:
    """A scored response; ``complete`` if it ended by itself. ``logprobs`` are of the tokens that its text has.

    With a ``fault`` there is no text, nothing was scored, and ``detail`` is what the endpoint said.
    """

    text: str
    complete: bool
    accuracy: float
    total: float
    applicable: bool
    logprobs: tuple[float, ...] | None = None
    fault: Fault = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The responses to a sample, and the digest of the prompt that they answer."""

    prompt: str
    responses: tuple[Response, ...]


class SurveyLedger:
    """The file, and what it holds: ``known`` maps the identifiers of samples to what is known of them."""

    def __init__(self, path: Path, known: dict[str, Known]) -> None:
        self.path = path
        self.known = known

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any]) -> SurveyLedger:
        """Begin the file, or take up what is there. A last line that a kill cut short is removed; a file without
        any responses is begun again.

        Raises:
            ConfigError: it is of another survey; the message names what differs.
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

    def append(self, sample: str, prompt: str, responses: Sequence[Response]) -> None:
        """Keep the responses to a sample; they are on the disk when this returns.

        Raises:
            OSError: the disk refused.
        """
        line = json_bytes(seal({"id": sample, "prompt": prompt, "responses": [asdict(each) for each in responses]}))
        append(self.path, line)
        self.known[sample] = Known(prompt, tuple(responses))

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
            f"{path}:1: this is not the first line of a survey ({error}); remove the file to start over"
        ) from error
    if found := differences(there, json.loads(json_bytes(dict(identity)))):
        raise ConfigError(
            f"{path} holds responses of another survey: {'; '.join(found)}. Restore that to go on, remove the file to "
            "start over, or choose another --out."
        )


def _check_seal(line: Any) -> None:
    if not is_sealed(line):
        raise ValueError("its checksum is wrong")


def _read_line(path: Path, number: int, line: bytes) -> tuple[str, Known]:
    try:
        row = json.loads(line)
        _check_seal(row)
        responses = tuple(
            Response(**{**each, "logprobs": None if each["logprobs"] is None else tuple(each["logprobs"])})
            for each in row["responses"]
        )
        return str(row["id"]), Known(str(row["prompt"]), responses)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}:{number}: this line is damaged ({type(error).__name__}: {error}); remove the line, and its row is "
            "asked again, or remove the file to start over"
        ) from error
