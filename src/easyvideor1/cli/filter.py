"""``evr1 filter``: keep the rows worth training on, by a model's answers or by a function of one's own."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from easyvideor1.cli.config import ConfigArgument, GenerationOverrides
from easyvideor1.cli.curation import asked_endpoint, open_curation
from easyvideor1.types import ConfigError, StoppedError

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig
    from easyvideor1.curation.filters import FilterOptions, Questions, Verdict
    from easyvideor1.types import Sample


#: What of the command asks a model: of no use to a function of one's own.
_ASKS = (
    "k", "above", "below", "passing", "answered", "complete", "tries", "tags", "checkpoint", "endpoint", "model",
    "api_key_env",
)  # fmt: skip


def filter_rows(
    config: ConfigArgument,
    overrides: GenerationOverrides = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    by: Annotated[
        str, typer.Option(help="pass_rate, temporal_necessity, derivable, or module:attr of your own.")
    ] = "pass_rate",
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per question.")] = 8,
    above: Annotated[float, typer.Option(help="pass_rate: keep rows with a pass rate above this.")] = 0.0,
    below: Annotated[float, typer.Option(help="pass_rate: keep rows with a pass rate below this.")] = 1.0,
    passing: Annotated[float, typer.Option(help="Lowest accuracy at which a response passes.")] = 0.5,
    answered: Annotated[
        float, typer.Option(min=0, max=1, help="A question counts as answered if more than this share passes.")
    ] = 0.5,
    complete: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the responses to a question that must come and be scored.")
    ] = 1.0,
    tries: Annotated[int, typer.Option(min=1, max=3, help="derivable: traces of a row that are looked at.")] = 3,
    tags: Annotated[str, typer.Option(help="derivable: tags of a trace that hold its notes, with commas.")] = "",
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run directory; model.path by default.")] = None,
    endpoint: Annotated[str, typer.Option(help="URL of an OpenAI-compatible endpoint, in place of a checkpoint.")] = "",
    model: Annotated[str, typer.Option(help="Model name at the endpoint.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Environment variable with the API key of the endpoint.")] = "",
    verdicts: Annotated[Path | None, typer.Option(help="File of verdicts; OUT.verdicts.jsonl by default.")] = None,
    context: typer.Context = None,  # type: ignore[assignment]  # only the command line has one
) -> None:
    """Write the rows of data.train that a filter keeps.

    pass_rate keeps rows that are answered sometimes (columns pass_rate, pass_responses). temporal_necessity drops rows
    that are answered without the video or from one frame. derivable keeps rows with a trace from whose notes alone the
    question is answered. Your own is a function sample -> bool, None or Verdict, or a class like these
    (docs/filters.md). Rows that could not be judged are left out and counted. After an interruption, run the same
    command again: it resumes.
    """
    from easyvideor1.curation.filters import FilterOptions
    from easyvideor1.registry import load_attribute

    if not above < below:
        raise ConfigError(f"--above {above:g} must be less than --below {below:g}")
    names = tuple(name.strip().lower() for name in tags.split(",") if name.strip())
    options = FilterOptions(above, below, answered, tries, names)
    own = load_attribute(by, "filter") if ":" in by else None
    if own is not None and not inspect.isclass(own):
        _refuse_given(context, _ASKS, f"{by} is a function, which asks no model")
        _by_function(config, overrides or (), out, by, own, verdicts or out.with_name(f"{out.name}.verdicts.jsonl"))
        return
    _refuse_given(context, ("verdicts",), f"{by} asks a model, whose responses are kept beside --out while it runs")
    if not endpoint:
        _refuse_given(context, ("model", "api_key_env"), "there is no --endpoint URL that it belongs to")
    server = {"url": endpoint, "model": model, "api_key_env": api_key_env}
    asked = asked_endpoint(server, 8, 120.0) if endpoint else None
    if asked is not None and checkpoint is not None:
        raise ConfigError("--checkpoint and --endpoint exclude each other; give one of them")
    _by_answers(config, overrides or (), out, k, checkpoint, asked, by, options, passing, complete)


def _refuse_given(context: typer.Context | None, names: Sequence[str], reason: str) -> None:
    """Refuse options of a command line that would do nothing.

    Raises:
        ConfigError: one of them was given; the message names all that were.
    """
    if context is None:
        return
    options = {str(option.name): option.opts[-1] for option in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]
    if given:
        raise ConfigError(f"{', '.join(options[name] for name in given)} does nothing here: {reason}; remove it")


def _by_answers(
    config: str,
    overrides: Sequence[str],
    out: Path,
    k: int,
    checkpoint: Path | None,
    endpoint: Any,
    by: str,
    options: FilterOptions,
    passing: float,
    complete: float,
) -> None:
    """Ask a model about every row."""
    from dataclasses import asdict

    from easyvideor1.curation.filters import FILTERS, Questions, kept_sample
    from easyvideor1.curation.verdicts import filter_identity, reasons

    made: list[Questions] = []

    def questions(settings: RunConfig) -> Questions:
        factory = FILTERS.resolve(by)
        identity: dict[str, Any] = {}
        if by != "pass_rate":  # whose responses do not depend on it
            identity = {**filter_identity(by, factory), "tries": options.tries, "tags": asdict(options)["tags"]}
        made.append(Questions(factory(options, settings), passing, identity, complete=complete))
        return made[-1]

    with open_curation(config, overrides, out, k, checkpoint, endpoint, questions) as curation:
        found = made[0].verdicts(curation.samples, curation.found)
        kept = _kept(curation.samples, found, kept_sample)
        curation.finish(out, kept)
        unasked = made[0].unasked(curation.samples, curation.found)
        judged = [verdict for sample, verdict in zip(curation.samples, found, strict=True) if sample.id not in unasked]
        lost = sum(verdict.keep is None for verdict in judged)
        curation.tell(out, f"{len(kept)} rows", (*reasons(found), f"{lost} that could not be judged"))


def _kept(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], make: Callable[[Sample, Verdict], Sample]
) -> list[Sample]:
    return [make(sample, verdict) for sample, verdict in zip(samples, verdicts, strict=True) if verdict.keep]


def _by_function(
    config: str, overrides: Sequence[str], out: Path, by: str, function: Callable[..., Any], file: Path
) -> None:
    """Judge every row with a function of one's own; verdicts are kept in ``file``.

    Raises:
        StoppedError: a larger share of the rows than ``evaluation.max_failed`` could not be judged. Nothing is written.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.components import Components
    from easyvideor1.config import load_config
    from easyvideor1.curation.filters import kept_sample
    from easyvideor1.curation.verdicts import VerdictFile, filter_identity, judge_rows, reasons
    from easyvideor1.data import write_rows
    from easyvideor1.locks import file_lock

    settings = load_config(config, overrides)
    if not settings.data.train:
        raise ConfigError("no rows: set data.train in the configuration")
    if out.exists():
        raise ConfigError(f"{out} exists already; remove it, or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        file_lock(out.with_name(f".{out.name}.lock")) as ours,
        file_lock(file.with_name(f".{file.name}.lock")) as alone,
        Components.open(settings) as components,
    ):
        if not ours:
            raise ConfigError(f"another process is writing {out}; wait for it, or choose another --out")
        if not alone:
            raise ConfigError(f"another process is writing {file}; wait for it, or choose another --verdicts")
        with progress("checking rows", unit="row") as advance:
            loaded = components.load_sources(settings.data.train, advance)
        samples = [sample for source in loaded for sample in source.samples]
        known = VerdictFile.open(file, filter_identity(by, function))
        with progress("judging rows", unit="row") as advance:
            found = judge_rows(samples, by, function, known, advance)
        masked = Counter(verdict.reason or f"that {by!r} cannot judge" for verdict in found if verdict.keep is None)
        lost = [f"{count} {reason}" for reason, count in masked.most_common()]
        if samples and masked.total() > settings.evaluation.max_failed * len(samples):
            raise StoppedError(
                f"{masked.total()} of {len(samples)} rows could not be judged, so {out} was not written: "
                f"{'; '.join(lost)}. Fix the cause and run the command again (it resumes from {file}), or raise "
                "evaluation.max_failed"
            )
        kept = _kept(samples, found, kept_sample)
        write_rows(out, kept)
    bad = sum(len(source.bad) for source in loaded)
    left_out = [*reasons(found), *lost, *([f"{bad} that cannot be used"] if bad else [])]
    typer.echo(
        f"wrote {out}: {len(kept)} rows; left out of {len(samples) + bad} rows: {', '.join(left_out) or 'none'}; "
        f"verdicts in {file}"
    )
