"""``evr1 filter`` and ``evr1 trajectories``: sample responses to every row, and keep the rows worth training on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument
from easyvideor1.types import ConfigError, StoppedError

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import JudgeConfig, RunConfig
    from easyvideor1.curation.ledger import Fault, SurveyLedger
    from easyvideor1.curation.survey import Ask, Surveyed
    from easyvideor1.data import BadRow
    from easyvideor1.types import Sample
    from easyvideor1.video import HealthLedger

app = typer.Typer(no_args_is_help=True, help="Offline trajectories.")

#: Rows and files that are told one by one.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Curation:
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
        from easyvideor1.video import bad_files

        for bad in self.refused[:_SHOWN]:
            typer.echo(f"  {bad}", err=True)
        if len(self.refused) > _SHOWN:
            typer.echo(f"  and {len(self.refused) - _SHOWN} more rows", err=True)
        files = self.failed_files | {error.path for _, error in self.found.unreadable}
        ill = [patient for patient in bad_files(self.health.entries()) if patient.path in files] if files else []
        for patient in ill[:_SHOWN]:
            typer.echo(f"  {patient.path}: {patient.last.reason}\n    to do: {patient.remedy}", err=True)
        if len(ill) > _SHOWN:
            typer.echo(f"  and {len(ill) - _SHOWN} more files; all of them: evr1 cache doctor CONFIG", err=True)


@contextmanager
def open_curation(
    config: str,
    overrides: Sequence[str],
    out: Path,
    k: int,
    checkpoint: Path | None,
    endpoint: JudgeConfig | None = None,
) -> Iterator[Curation]:
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


def _asked(settings: RunConfig, components: Components, out: Path, k: int, endpoint: JudgeConfig | None) -> Curation:
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
    return Curation(found, refused, failed_files, ledger, components.ledger, settings.evaluation.max_failed)


def _ask(components: Components, endpoint: JudgeConfig | None, k: int) -> Ask:
    from easyvideor1.curation.endpoint import endpoint_ask
    from easyvideor1.curation.survey import engine_ask

    if endpoint is not None:
        return endpoint_ask(components, endpoint, k)
    return engine_ask(components, components.open_engine(components.open_policy().model), k)


def filter_rows(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per row.")] = 8,
    above: Annotated[float, typer.Option(help="Keep rows with a higher pass rate than this.")] = 0.0,
    below: Annotated[float, typer.Option(help="Keep rows with a lower pass rate than this.")] = 1.0,
    passing: Annotated[float, typer.Option(help="Accuracy from which a response passes.")] = 0.5,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run; model.path if left out.")] = None,
) -> None:
    """Answer every row of data.train several times and write those with a pass rate between the bounds.

    Rows get the columns pass_rate and pass_responses. Started again after a kill, it goes on where it was. A row none
    of whose responses could be judged, or whose media cannot be read, is left out and counted.
    """
    from dataclasses import replace

    if not above < below:
        raise ConfigError(f"no pass rate lies between --above {above:g} and --below {below:g}")
    kept, low, high, unjudged = [], 0, 0, 0
    with open_curation(config, overrides or (), out, k, checkpoint) as curation:
        for sample, responses in curation.found.answered:
            judged = [response.accuracy >= passing for response in responses if response.applicable]
            if not judged:
                unjudged += 1
                continue
            rate = sum(judged) / len(judged)
            low += rate <= above
            high += rate >= below
            if above < rate < below:
                extra = {**sample.extra, "pass_rate": rate, "pass_responses": len(judged)}
                kept.append(replace(sample, extra=extra))
        curation.finish(out, kept)
        curation.tell(
            out,
            f"{len(kept)} rows",
            (
                f"{low} with a pass rate of at most {above:g}",
                f"{high} of at least {below:g}",
                f"{unjudged} that could not be judged",
            ),
        )


@app.callback()
def _root() -> None:
    pass


@app.command("collect")
def collect(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per row.")] = 4,
    threshold: Annotated[float, typer.Option(help="Keep responses whose total is above this.")] = 0.9,
    keep: Annotated[int, typer.Option(min=1, help="Responses that a row keeps, the best first.")] = 1,
    all_rows: Annotated[bool, typer.Option("--all", help="Write rows without a good response, too.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run; model.path if left out.")] = None,
    endpoint: Annotated[str, typer.Option(help="Address of an OpenAI-compatible endpoint, asked instead.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the endpoint's key.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the endpoint at the same time.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")] = 120.0,
) -> None:
    """Answer every row of data.train several times and write rows with the responses that score above a threshold.

    They take the place of the trajectories that a row has. Log-probs of a checkpoint's responses are kept where the
    text gives the same tokens again. Responses that were cut at the limit are never kept; those that the endpoint
    refuses, or that fail, are counted and never scored. Started again after a kill, it goes on where it was.
    """
    from dataclasses import replace

    from easyvideor1.types import OfflineTrajectory

    if endpoint and checkpoint is not None:
        raise ConfigError("--checkpoint and --endpoint name two models to ask; give one of them")
    for name, value in (("--model", model), ("--api-key-env", api_key_env)):
        if value and not endpoint:
            raise ConfigError(f"{name} {value} is of an endpoint; add --endpoint ADDRESS, or leave it out")
    options = {"url": endpoint, "model": model, "api_key_env": api_key_env}
    asked = _endpoint(config, overrides or (), options, concurrency, timeout) if endpoint else None
    rows, kept = [], 0
    with open_curation(config, overrides or (), out, k, checkpoint, asked) as curation:
        for sample, responses in curation.found.answered:
            good = [r for r in responses if r.applicable and r.complete and r.total > threshold and r.text.strip()]
            good = list({response.text: response for response in sorted(good, key=lambda r: -r.total)}.values())[:keep]
            kept += len(good)
            if good or all_rows:
                offline = tuple(OfflineTrajectory(response.text, response.logprobs) for response in good)
                rows.append(replace(sample, offline=offline))
        curation.finish(out, rows)
        poor = len(curation.found.answered) - len(rows)
        curation.tell(out, f"{len(rows)} rows with {kept} trajectories", (f"{poor} without a good response",))


def _endpoint(
    config: str, overrides: Sequence[str], options: dict[str, str], concurrency: int, timeout: float
) -> JudgeConfig:
    """The endpoint of some options, asked as the rollout of a configuration draws.

    Raises:
        ConfigError: an option is missing or cannot be.
    """
    from pydantic import ValidationError

    from easyvideor1.config import JudgeConfig, load_config

    rollout = load_config(config, overrides).rollout
    # top_k is no field of OpenAI's own, but one of servers such as vLLM and SGLang; sent only where it is wanted.
    drawn = {"top_p": rollout.top_p} | ({"top_k": rollout.top_k} if rollout.top_k else {})
    try:
        return JudgeConfig(
            **options,
            concurrency=concurrency,
            timeout=timeout,
            temperature=rollout.temperature,
            reply_tokens=rollout.max_new_tokens,
            extra_body=drawn,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        what = f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--endpoint {options['url']} --model {options['model']!r}: {what}") from error
