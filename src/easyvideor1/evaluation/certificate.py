"""A result of one model on one benchmark: a directory with its certificate and its records.

::

    OUT/BENCHMARK/MODEL-DIGEST/
        certificate.json    everything that moves a number, sealed; its digest names the directory
        answers.jsonl       the responses of the model, appended as they come: what is not asked again
        result.jsonl        the scored records, made of the answers
        result.json         the aggregates of the records
        probe.json          of a probe: its paired differences from the score
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.result import Evaluation
from easyvideor1.files import is_sealed, read_json, seal, write_json
from easyvideor1.types import DataError

CERTIFICATE = "certificate.json"
ANSWERS = "answers.jsonl"
#: Name of the evaluation in a result's directory.
RECORDS = "result"
PROBE = "probe.json"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured, and everything that moves a number.

    ``model`` is a label for tables. ``asking`` is what decides the responses: the model's digest, frames, pixels,
    templates, engine, dtype, sampling, seed, versions; its ``questions`` say which questions were asked (count, refused
    rows, digest of all prompts). ``scoring`` is what decides the scores of responses: rewards, judge, metrics. Both are
    JSON. Two results with the same ``digest`` ask in the same way, so that they share the answers to every question
    that both ask: each answer has the digests of its own row and prompt.
    """

    benchmark: str
    version: str
    model: str
    asking: Mapping[str, Any]
    scoring: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the response to any question, as 16 hexadecimal digits."""
        asking = {name: value for name, value in self.asking.items() if name != "questions"}
        decides = {"benchmark": self.benchmark, "version": self.version, "asking": asking}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def probe(self) -> str:
        """The name of the probe that a result is of; empty for a score."""
        shown = self.asking.get("shown")
        probe = shown.get("probe") if isinstance(shown, Mapping) else None
        return str(probe or self.asking.get("probe") or "")

    @property
    def score(self) -> Certificate:
        """That of the score that a probe is compared to, by the same digest: the questions asked as they are. Which
        questions these were is not in it."""
        if not self.probe:
            return self
        asking = {name: value for name, value in self.asking.items() if name not in ("questions", "probe")}
        if isinstance(asking.get("shown"), Mapping):
            asking["shown"] = {**asking["shown"], "probe": ""}
        return replace(self, benchmark=self.benchmark.removesuffix(f"-{self.probe}"), asking=asking)

    def directory(self, out: Path) -> Path:
        """Where the result belongs below ``out``."""
        label = re.sub(r"[^\w.-]+", "-", self.model).strip("-.") or "model"
        return out / self.benchmark / f"{label}-{self.digest[:8]}"

    def to_json(self) -> dict[str, Any]:
        """The content of ``certificate.json``, unsealed."""
        return {
            "benchmark": self.benchmark,
            "version": self.version,
            "model": self.model,
            "digest": self.digest,
            "asking": dict(self.asking),
            "scoring": dict(self.scoring),
        }

    def write(self, directory: Path) -> None:
        """Write ``certificate.json``, atomically."""
        write_json(directory / CERTIFICATE, seal(self.to_json()))

    @classmethod
    def load(cls, directory: Path) -> Certificate:
        """Read ``certificate.json``.

        Raises:
            DataError: it is missing or damaged.
        """
        path = directory / CERTIFICATE
        found = read_json(path)
        if not is_sealed(found):
            raise DataError(f"{path}: is not what was written (its checksum differs); evaluate again")
        try:
            names = ("benchmark", "version", "model", "asking", "scoring")
            return cls(**{name: found[name] for name in names})
        except KeyError as error:
            raise DataError(f"{path}: is no certificate (it has no {error}); evaluate again") from error


@dataclass(frozen=True, slots=True)
class Result:
    """A finished result: its directory, certificate and records."""

    directory: Path
    certificate: Certificate
    evaluation: Evaluation

    @classmethod
    def load(cls, directory: Path) -> Result:
        """Read a result.

        Raises:
            DataError: a file is missing or damaged; the message names it.
        """
        return cls(directory, Certificate.load(directory), Evaluation.load(directory, RECORDS))


def find_results(places: Iterable[Path]) -> list[Path]:
    """The directories of results at or below these places, in order."""
    found = [path.parent for place in places for path in sorted(place.rglob(CERTIFICATE))]
    return list(dict.fromkeys(found))
