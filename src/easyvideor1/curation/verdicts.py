"""Verdicts of a filter of one's own, kept in a file while they are made: a command that is run again asks for the rest.

The first line says which filter it is, with the digest of its code; every further line is the verdict of one row, with
the digest of the row. A row that changed is judged again, and so is one whose media files changed, and one that could
not be judged.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from easyvideor1.curation.code import code_digest
from easyvideor1.curation.filters import RowFunction, Verdict
from easyvideor1.files import append, file_digest, is_sealed, json_bytes, seal, write_atomic
from easyvideor1.registry import error_words
from easyvideor1.types import ConfigError, DataError, MediaError, OfflineTrajectory, Sample
from easyvideor1.video.media_files import media_version

#: Of the lines of a file of verdicts; a file of another format is not taken up.
FORMAT = "2"


def filter_identity(target: str, function: Callable[..., Any]) -> dict[str, str]:
    """What decides the verdicts of a filter: its name, the digest of its file or of all of its package, and what a
    function ``identity()`` on it returns, if it has one: the version of a model that it asks, say.

    Raises:
        ConfigError: ``identity`` returns no text.
        OSError: a file of the code cannot be read.
    """
    code = code_digest(target) if ":" in target else None
    if code is None:
        source = inspect.getsourcefile(inspect.unwrap(function))
        code = "" if source is None else file_digest(source)
    own = None if inspect.isclass(function) else getattr(function, "identity", None)
    said = own() if callable(own) else ""
    if not isinstance(said, str):
        raise ConfigError(f"the identity() of the filter {target!r} returned {said!r}; it must return a text")
    return {"filter": target, "format": FORMAT, "code": code, **({"identity": said} if said else {})}


class VerdictFile:
    """The verdicts that are known, by row, in a file that grows."""

    def __init__(self, path: Path, known: dict[tuple[str, str], Verdict]) -> None:
        self.path = path
        self._known = known

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, str]) -> VerdictFile:
        """Begin the file, or take up what is there; a last line that a kill cut short is removed.

        Raises:
            ConfigError: its verdicts are those of another filter, or of other code.
            DataError: a line is damaged.
        """
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        first, *lines = whole.splitlines() or [b""]
        if not first:
            write_atomic(path, json_bytes(seal(dict(identity))))
            return cls(path, {})
        there = _read(path, 1, first)
        names = dict.fromkeys((*identity, *there))
        if changed := [key for key in names if key != "checksum" and there.get(key) != identity.get(key)]:
            raise ConfigError(
                f"{path} has verdicts of {there.get('filter')!r}, whose {' and '.join(changed)} changed since; remove "
                "the file to judge all rows again, or name another one with --verdicts"
            )
        known = {}
        for number, line in enumerate(lines, 2):
            row = _read(path, number, line)
            traces = None if row["traces"] is None else tuple(map(_trace, row["traces"]))
            known[row["sample"], row["digest"]] = Verdict(row["keep"], row["reason"], row["columns"], traces)
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        return cls(path, known)

    def get(self, sample: Sample) -> Verdict | None:
        """The verdict of a row, if it is known and the row is as it was then."""
        return self._known.get((sample.id, row_digest(sample)))

    def add(self, sample: Sample, verdict: Verdict) -> None:
        """Keep a verdict; it is on the disk when this returns."""
        key = (sample.id, row_digest(sample))
        line = {"sample": key[0], "digest": key[1], "keep": verdict.keep, "reason": verdict.reason}
        traces = None if verdict.traces is None else [asdict(trace) for trace in verdict.traces]
        append(self.path, json_bytes(seal({**line, "columns": dict(verdict.columns), "traces": traces})))
        self._known[key] = verdict


def _trace(fields: Mapping[str, Any]) -> OfflineTrajectory:
    logprobs = fields["logprobs"]
    return OfflineTrajectory(
        fields["text"], None if logprobs is None else tuple(logprobs), before=tuple(fields["before"])
    )


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not is_sealed(row):
        raise DataError(f"{path}:{number}: this line is damaged; remove it, and its row is judged again")
    return row


def row_digest(sample: Sample) -> str:
    """A digest of everything that a row says, and of the sizes and times of change of its media files."""
    values = {**asdict(sample), "where": "", "extra": {name: str(value) for name, value in sample.extra.items()}}
    values["files"] = [_version(ref.path) for ref in sample.media]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _version(path: str) -> tuple[int, ...] | str:
    """Size and time of change of a medium, or why it has none; a copy that keeps them is the same medium."""
    try:
        return media_version(path)[1:3]
    except MediaError as error:
        return error.reason


def judge_rows(
    samples: Sequence[Sample],
    target: str,
    function: RowFunction,
    verdicts: VerdictFile,
    on_progress: Callable[[int, int], None],
) -> list[Verdict]:
    """The verdict of every row by a function of one's own.

    A row for which it raises, because what it asks is down say, is masked: its verdict is ``None`` with the name of the
    filter and the error, and it is judged again by the next start.

    Raises:
        ConfigError: the function returns something that is no verdict.
    """
    found = []
    for number, sample in enumerate(samples, 1):
        verdict = verdicts.get(sample)
        if verdict is None:
            verdict = _judged(sample, target, function)
            if verdict.keep is not None:
                verdicts.add(sample, verdict)
        found.append(verdict)
        on_progress(number, len(samples))
    return found


def _judged(sample: Sample, target: str, function: RowFunction) -> Verdict:
    try:
        answer = function(sample)
    except Exception as error:  # noqa: BLE001  (whatever a scorer that is down raises: masked, named and counted)
        return Verdict(None, f"for which the filter {target!r} raised {error_words(error)}")
    if isinstance(answer, Verdict):
        return answer
    if answer is None or isinstance(answer, bool):
        return Verdict(answer, "" if answer else f"that {target!r} {'cannot judge' if answer is None else 'drops'}")
    raise ConfigError(
        f"the filter {target!r} returned {answer!r} for {sample.where or sample.id}; it must return true, false, None "
        "or a Verdict"
    )


def reasons(verdicts: Sequence[Verdict]) -> list[str]:
    """What was left out, in words, most frequent first."""
    counts = Counter(verdict.reason for verdict in verdicts if verdict.keep is False)
    return [f"{count} {reason}" for reason, count in counts.most_common()]
