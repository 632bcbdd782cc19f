"""Responses to every row, for ``evr1 trajectories`` and ``evr1 filter``, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, GenerationOverrides
from easyvideor1.types import ConfigError, RequestFailed, StoppedError, TurnError

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import JudgeConfig, RunConfig
    from easyvideor1.curation.filters import Questions
    from easyvideor1.curation.ledger import ResponseLedger
    from easyvideor1.curation.responses import CollectedResponses
    from easyvideor1.data import BadRow
    from easyvideor1.engines.engine import Engine
    from easyvideor1.types import Sample
    from easyvideor1.video import HealthLedger

app = typer.Typer(no_args_is_help=True, help="Collect offline trajectories.")

#: Rows and files that are listed one by one.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Curation:
    """The rows that could be used and the others, the responses to all that was asked about them, and the files that
    keep both."""

    samples: tuple[Sample, ...]
    found: CollectedResponses
    refused: tuple[BadRow, ...]
    failed_files: frozenset[str]
    ledger: ResponseLedger
    health: HealthLedger
    max_failed: float

    def finish(self, out: Path, samples: Sequence[Sample]) -> None:
        """Write the rows atomically, and remove the ledger that a restart would resume from.

        Raises:
            StoppedError: there is no response at all, or a larger share than ``max_failed`` failed or could not be
                scored. Nothing is written or removed then.
        """
        from easyvideor1.data import write_rows

        without = len(self.found.unreadable) + len(self.found.unfinished)
        asked, failed = len(self.found.answered) + without, without + len(self.found.unjudged)
        partly = sum(not all(one.score.applicable for one in found) for _, found in self.found.answered)
        partly -= len(self.found.unjudged)
        if not self.found.faults("") or self.found.lost > self.max_failed * asked:
            self._tell_health()
            others = f", and {partly} have only some" if partly else ""
            raise StoppedError(
                f"{failed} of {asked} rows have no response that could be scored{others}, so {out} was not written: "
                f"{'; '.join(self._missing()) or 'there was no row'}. Fix the cause and run the command again (it "
                f"resumes from {self.ledger.path}; remove that file if you change the configuration), or raise "
                "evaluation.max_failed"
            )
        write_rows(out, samples)
        self.ledger.remove()

    def tell(self, out: Path, kept: str, left_out: Sequence[str]) -> None:
        """Print the outcome of every row and response, and remedies for media files that cannot be read.

        Args:
            out: the file.
            kept: what the file contains, in words.
            left_out: what was left out, in words.
        """
        unasked = [f"{len(self.found.unreadable)} with unreadable media"] if self.found.unreadable else []
        lost = sum(isinstance(fault, RequestFailed) for _, fault in self.found.unfinished)
        turns = len(self.found.unfinished) - lost
        unasked += [f"{turns} without a further turn"] if turns else []
        unasked += [f"{lost} that the engine did not answer"] if lost else []
        unasked += [f"{len(self.refused)} that cannot be used"] if self.refused else []
        rows = len(self.samples) + len(self.refused)
        typer.echo(f"wrote {out}: {kept}; left out of {rows} rows: {', '.join([*left_out, *unasked])}")
        for line in self._missing():
            typer.echo(line)
        self._tell_health()

    def _missing(self) -> list[str]:
        """What was refused, failed or unreadable, each with its first error message."""
        total = sum(len(responses) for _, responses in self.found.answered)
        lines = []
        kinds = (("refused", "were refused by the endpoint"), ("failed", "failed"))
        for kind, words in kinds:
            missing = self.found.faults(kind)
            if missing:
                lines.append(f"{len(missing)} of {total} responses {words}; first error: {missing[0].score.reason}")
        if self.found.unreadable:
            lines.append(
                f"the media files of {len(self.found.unreadable)} rows cannot be read; first error: "
                f"{self.found.unreadable[0][1]}"
            )
        for fault_kind, what in ((TurnError, "have no prompt of a further turn"), (RequestFailed, "have no answer")):
            if faults := [fault for _, fault in self.found.unfinished if isinstance(fault, fault_kind)]:
                lines.append(f"{len(faults)} rows {what}; first error: {faults[0]}")
        unjudged = sum(not (one.score.applicable or one.fault) for _, found in self.found.answered for one in found)
        if unjudged:
            none = f"; {len(self.found.unjudged)} rows have none that could" if self.found.unjudged else ""
            lines.append(f"{unjudged} of {total} responses could not be scored{none}")
        return lines

    def _tell_health(self) -> None:
        from easyvideor1.video import bad_files

        for bad in self.refused[:_SHOWN]:
            typer.echo(f"  {bad}", err=True)
        if len(self.refused) > _SHOWN:
            typer.echo(f"  and {len(self.refused) - _SHOWN} more rows", err=True)
        files = self.failed_files | {error.path for _, error in self.found.unreadable}
        failed = [file for file in bad_files(self.health.entries()) if file.path in files] if files else []
        for file in failed[:_SHOWN]:
            typer.echo(f"  {file.path}: {file.last.reason}\n    to do: {file.remedy}", err=True)
        if len(failed) > _SHOWN:
            typer.echo(f"  and {len(failed) - _SHOWN} more files; evr1 cache doctor CONFIG lists all of them", err=True)


@contextmanager
def open_curation(
    config: str,
    overrides: Sequence[str],
    out: Path,
    k: int,
    checkpoint: Path | None,
    endpoint: JudgeConfig | None = None,
    questions: Callable[[RunConfig], Questions] | None = None,
) -> Iterator[Curation]:
    """Sample k responses to every row of ``data.train``; this process holds a lock on ``out`` until the block ends.

    With ``questions``, what they make of the rows is asked in place of the rows.

    Raises:
        ConfigError: ``out`` exists already, another process holds the lock, there are no rows, or the ledger of an
            earlier start belongs to other settings.
        EasyVideoError: rows are bad, or the endpoint is down.
    """
    import torch

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.components import Components
    from easyvideor1.config import load_config
    from easyvideor1.locks import file_lock

    settings = load_config(config, overrides)
    if out.suffix.lower() not in (".jsonl", ".json", ".parquet"):
        raise ConfigError(f"--out {out}: the file name must end in .jsonl, .json or .parquet")
    if not settings.data.train:
        raise ConfigError("no rows: set data.train in the configuration")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(out.with_name(f".{out.name}.lock")) as ours:
        if not ours:
            raise ConfigError(f"another process is writing {out}; wait for it, or choose another --out")
        if out.exists() and not _ledger_path(out).exists():
            raise ConfigError(f"{out} exists already; remove it, or choose another --out")
        used = None if checkpoint is None else checkpoint_to_use(checkpoint, settings)
        asked = None if questions is None else questions(settings)
        with Components.open(settings, used) as components:
            if out.exists():  # complete, but an earlier start was killed before it removed the ledger
                _open_ledger(settings, components, out, k, endpoint, asked).remove()
                typer.echo(f"{out} is complete: an earlier start wrote all rows before it stopped")
                raise typer.Exit
            yield _collected(settings, components, out, k, endpoint, asked)


def _ledger_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial.jsonl")


def _open_ledger(
    settings: RunConfig,
    components: Components,
    out: Path,
    k: int,
    endpoint: JudgeConfig | None,
    questions: Questions | None,
) -> ResponseLedger:
    from easyvideor1.curation.ledger import ResponseLedger, responses_identity

    weights = components.checkpoint if endpoint is None else None
    identity = responses_identity(settings, k=k, checkpoint=weights, endpoint=endpoint)
    if questions is not None and questions.identity:
        identity["filter"] = dict(questions.identity)
    return ResponseLedger.open(_ledger_path(out), identity)


def _collected(
    settings: RunConfig,
    components: Components,
    out: Path,
    k: int,
    endpoint: JudgeConfig | None,
    questions: Questions | None,
) -> Curation:
    from easyvideor1.cli.progress import progress
    from easyvideor1.curation.responses import collect_responses, from_endpoint, from_engine
    from easyvideor1.engines.endpoint import EndpointEngine

    with progress("checking rows", unit="row") as advance:
        loaded = components.load_sources(settings.data.train, advance)
    # Before frames are decoded and a model is loaded: a broken reward fails at once.
    components.scorer.try_out(sample for source in loaded for sample in source.samples)
    ledger = _open_ledger(settings, components, out, k, endpoint, questions)
    asking = components if questions is None else questions.components(components)
    engine: Engine
    if endpoint is None:
        engine = components.open_engine()
        generate = from_engine(asking, engine, k)
    else:
        system = components.config.prompts.system
        engine = EndpointEngine(components.family, components.load, endpoint, system=system)
        generate = from_endpoint(asking, engine, k, endpoint.concurrency)
    with closing(engine):
        with progress("building the frame cache", unit="file") as advance:
            built = components.fill_cache(loaded, advance)
        loaded = components.without_failed(loaded, built)
        samples = [sample for source in loaded for sample in source.samples]
        asked = samples if questions is None else questions.of(samples)
        with progress("sampling responses", unit="row") as advance:
            found = collect_responses(asked, generate, asking, ledger, advance)
    refused = tuple(row for source in loaded for row in source.bad)
    failed_files = frozenset(path for path, _ in built.failures)
    return Curation(
        tuple(samples), found, refused, failed_files, ledger, components.ledger, settings.evaluation.max_failed
    )


@app.callback()
def _root() -> None:
    pass


@app.command("collect")
def collect(
    config: ConfigArgument,
    overrides: GenerationOverrides = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per row.")] = 4,
    threshold: Annotated[float, typer.Option(help="Keep responses with a total reward above this.")] = 0.9,
    keep: Annotated[int, typer.Option(min=1, help="Largest number of responses to keep per row, best first.")] = 1,
    all_rows: Annotated[bool, typer.Option("--all", help="Also write rows without a good response.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run directory; model.path by default.")] = None,
    endpoint: Annotated[str, typer.Option(help="URL of an OpenAI-compatible endpoint, in place of a checkpoint.")] = "",
    model: Annotated[str, typer.Option(help="Model name at the endpoint.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Environment variable with the API key of the endpoint.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Concurrent requests to the endpoint.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Timeout of one request, in seconds.")] = 120.0,
) -> None:
    """Sample several responses to every row of data.train, and write the rows with the responses above a threshold.

    The new trajectories replace those that a row has. Log-probs of a checkpoint's responses are kept where the text
    tokenises to the same ids again. Responses that reached the length limit are never kept. Requests that the endpoint
    refuses, or that fail, are counted and not scored. After an interruption, run the same command again: it resumes.
    """
    from dataclasses import replace

    from easyvideor1.types import OfflineTrajectory

    if endpoint and checkpoint is not None:
        raise ConfigError("--checkpoint and --endpoint exclude each other; give one of them")
    for name, value in (("--model", model), ("--api-key-env", api_key_env)):
        if value and not endpoint:
            raise ConfigError(f"{name} {value} needs an endpoint; add --endpoint URL, or remove {name}")
    options = {"url": endpoint, "model": model, "api_key_env": api_key_env}
    asked = asked_endpoint(options, concurrency, timeout) if endpoint else None
    rows, kept = [], 0
    with open_curation(config, overrides or (), out, k, checkpoint, asked) as curation:
        for sample, responses in curation.found.answered:
            good = [r for r in responses if r.score.applicable and r.finish == "stop" and r.score.total > threshold]
            good = sorted((r for r in good if r.response.strip()), key=lambda r: -r.score.total)
            good = list({response.response: response for response in good}.values())[:keep]
            kept += len(good)
            if good or all_rows:
                offline = tuple(OfflineTrajectory(response.response, response.logprobs) for response in good)
                rows.append(replace(sample, offline=offline))
        curation.finish(out, rows)
        poor = len(curation.found.answered) - len(rows)
        curation.tell(out, f"{len(rows)} rows with {kept} trajectories", (f"{poor} without a good response",))


def asked_endpoint(options: dict[str, str], concurrency: int, timeout: float) -> JudgeConfig:
    """The endpoint of the options.

    Raises:
        ConfigError: an option is missing or invalid.
    """
    from pydantic import ValidationError

    from easyvideor1.config import JudgeConfig

    try:
        return JudgeConfig(**options, concurrency=concurrency, timeout=timeout)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        what = f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--endpoint {options['url']} --model {options['model']!r}: {what}") from error
