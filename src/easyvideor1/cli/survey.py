"""What ``evr1 filter`` and ``evr1 trajectories`` have in common: opening a survey, and telling what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from easyvideor1.types import ConfigError, StoppedError

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import JudgeConfig, RunConfig
    from easyvideor1.curation.ledger import Fault, SurveyLedger
    from easyvideor1.curation.survey import Ask, Surveyed
    from easyvideor1.data import BadRow
    from easyvideor1.types import Sample
    from easyvideor1.video import HealthLedger

#: Rows and files that are told one by one.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found out, the rows that could not be asked, and where both are kept."""

    found: Surveyed
    refused: tuple[BadRow, ...]
    failed_files: frozenset[str]
    ledger: SurveyLedger
    health: HealthLedger
    max_failed: float

    def finish(self, out: Path, samples: Sequence[Sample]) -> None:
        """Write the rows, whole or not at all, and forget what was kept for going on.

        Raises:
            StoppedError: there is not one response, or more than ``max_failed`` of them could not be had or judged;
                nothing is written or forgotten then.
        """
        from easyvideor1.data import write_rows

        asked = len(self.found.answered) + len(self.found.unreadable)
        failed = len(self.found.unreadable) + len(self.found.unjudged)
        partly = sum(not all(one.applicable for one in found) for _, found in self.found.answered)
        partly -= len(self.found.unjudged)
        if not self.found.faults("") or self.found.lost > self.max_failed * asked:
            self._tell_health()
            others = f", and {partly} have only some" if partly else ""
            raise StoppedError(
                f"{failed} of {asked} rows have no response that could be judged{others}, so {out} was not written: "
                f"{'; '.join(self._missing()) or 'no row was asked'}. Correct that and start again (what is known is "
                f"kept in {self.ledger.path}; remove it if you change what is asked), or raise evaluation.max_failed"
            )
        write_rows(out, samples)
        self.ledger.remove()

    def tell(self, out: Path, kept: str, left_out: Sequence[str]) -> None:
        """Print what became of every row and every response, and what to do about media that could not be read.

        Args:
            out: the file.
            kept: what is in it, in words.
            left_out: what is not, in words.
        """
        unasked = [f"{len(self.found.unreadable)} with media that cannot be read"] if self.found.unreadable else []
        unasked += [f"{len(self.refused)} that cannot be used"] if self.refused else []
        rows = len(self.found.answered) + len(self.found.unreadable) + len(self.refused)
        typer.echo(f"wrote {out}: {kept}; left out of {rows} rows: {', '.join([*left_out, *unasked])}")
        for line in self._missing():
            typer.echo(line)
        self._tell_health()

    def _missing(self) -> list[str]:
        """What was refused, failed or could not be read, each with the first message."""
        total = sum(len(responses) for _, responses in self.found.answered)
        lines = []
        kinds: tuple[tuple[Fault, str], ...] = (("refused", "were refused by the endpoint"), ("failed", "failed"))
        for kind, words in kinds:
            missing = self.found.faults(kind)
            if missing:
                lines.append(f"{len(missing)} of {total} responses {words}, the first with: {missing[0].detail}")
        if self.found.unreadable:
            lines.append(
                f"the media of {len(self.found.unreadable)} rows cannot be read, the first: "
                f"{self.found.unreadable[0][1]}"
            )
        unjudged = sum(not (one.applicable or one.fault) for _, found in self.found.answered for one in found)
        if unjudged:
            none = f"; no response to {len(self.found.unjudged)} rows could" if self.found.unjudged else ""
            lines.append(f"{unjudged} of {total} responses could not be judged{none}")
        return lines

    def _tell_health(self) -> None:
        from easyvideor1.video import patients

        for bad in self.refused[:_SHOWN]:
            typer.echo(f"  {bad}", err=True)
        if len(self.refused) > _SHOWN:
            typer.echo(f"  and {len(self.refused) - _SHOWN} more rows", err=True)
        files = self.failed_files | {error.path for _, error in self.found.unreadable}
        ill = [patient for patient in patients(self.health.entries()) if patient.path in files] if files else []
        for patient in ill[:_SHOWN]:
            typer.echo(f"  {patient.path}: {patient.last.reason}\n    to do: {patient.remedy}", err=True)
        if len(ill) > _SHOWN:
            typer.echo(f"  and {len(ill) - _SHOWN} more files; all of them: evr1 cache doctor CONFIG", err=True)


@contextmanager
def open_survey(
    config: str,
    overrides: Sequence[str],
    out: Path,
    k: int,
    checkpoint: Path | None,
    endpoint: JudgeConfig | None = None,
) -> Iterator[Survey]:
    """Ask every row of ``data.train`` of a configuration k times; ``out`` is this process's until the block ends.

    Raises:
        ConfigError: ``out`` is there already, another process is at it, there are no rows, or what is kept of an
            earlier start is of another survey.
        EasyVideoError: rows are bad, or the endpoint is down.
    """
    import torch

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.components import Components
    from easyvideor1.config import load_config
    from easyvideor1.locks import file_lock

    settings = load_config(config, overrides)
    if out.suffix.lower() not in (".jsonl", ".json", ".parquet"):
        raise ConfigError(f"--out {out}: name the file .jsonl, .json or .parquet")
    if not settings.data.train:
        raise ConfigError("no rows: set data.train in the configuration")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(out.with_name(f".{out.name}.lock")) as ours:
        if not ours:
            raise ConfigError(f"{out} is being made by another process; wait for it, or choose another --out")
        if out.exists() and not _ledger_path(out).exists():
            raise ConfigError(f"{out} is there already; remove it, or choose another --out")
        used = None if checkpoint is None else checkpoint_to_use(checkpoint)
        with Components.open(settings, used) as components:
            if out.exists():  # written whole, before what was kept for going on could be removed
                _open_ledger(settings, components, out, k, endpoint).remove()
                typer.echo(f"{out} is done: an earlier start was stopped just after it had written all rows")
                raise typer.Exit
            yield _asked(settings, components, out, k, endpoint)


def _ledger_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial.jsonl")


def _open_ledger(
    settings: RunConfig, components: Components, out: Path, k: int, endpoint: JudgeConfig | None
) -> SurveyLedger:
    from easyvideor1.curation.identity import survey_identity
    from easyvideor1.curation.ledger import SurveyLedger

    weights = components.checkpoint if endpoint is None else None
    identity = survey_identity(settings, k=k, checkpoint=weights, endpoint=endpoint)
    return SurveyLedger.open(_ledger_path(out), identity)


def _asked(settings: RunConfig, components: Components, out: Path, k: int, endpoint: JudgeConfig | None) -> Survey:
    from easyvideor1.cli.progress import progress
    from easyvideor1.curation.survey import survey

    with progress("checking rows", unit="row") as advance:
        loaded = components.load_sources(settings.data.train, advance)
    # Before frames are decoded and a model is loaded: a reward that is wrong fails at once.
    components.scorer.try_out(sample for source in loaded for sample in source.samples)
    ledger = _open_ledger(settings, components, out, k, endpoint)
    ask = _ask(components, endpoint, k)
    with progress("building the frame cache", unit="file") as advance:
        built = components.fill_cache(loaded, advance)
    loaded = components.without_failed(loaded, built)
    with progress("asking", unit="row") as advance:
        found = survey([sample for source in loaded for sample in source.samples], ask, components, ledger, advance)
    refused = tuple(row for source in loaded for row in source.bad)
    failed_files = frozenset(path for path, _ in built.failures)
    return Survey(found, refused, failed_files, ledger, components.ledger, settings.evaluation.max_failed)


def _ask(components: Components, endpoint: JudgeConfig | None, k: int) -> Ask:
    from easyvideor1.curation.endpoint import endpoint_ask
    from easyvideor1.curation.survey import engine_ask

    if endpoint is not None:
        return endpoint_ask(components, endpoint, k)
    return engine_ask(components, components.open_engine(components.open_policy().model), k)
