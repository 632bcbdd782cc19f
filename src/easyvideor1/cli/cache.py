"""``evr1 cache``: fill, look after and verify the frame cache of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig
    from easyvideor1.types import Geometry, MediaPlan, MediaRef
    from easyvideor1.video import HealthLedger

app = typer.Typer(no_args_is_help=True, help="Fill, look after and verify the frame cache.")


@app.command()
def build(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Decode all media of all sources into the cache; what is there already is left alone.

    The exit status is 1 when media could not be decoded; `evr1 cache doctor` says which and why.
    """
    from easyvideor1 import video
    from easyvideor1.cli.progress import progress
    from easyvideor1.config import load_config
    from easyvideor1.models import load_family

    settings = load_config(config, overrides or ())
    refs = media_of(settings)
    geometry = load_family(settings.model.path, trust_remote_code=settings.model.trust_remote_code).geometry
    store = video.FrameStore(settings.cache.dir, codec=settings.cache.codec)
    ledger = health_ledger(settings)
    planned, unreadable = plan_media(refs, settings, geometry, ledger)
    with progress("decoding", unit="file") as on_progress:
        report = video.build(planned, store, ledger, settings.cache, on_progress)
    failures = [*unreadable, *report.failures]
    typer.echo(f"{settings.cache.dir}: {report.built} built, {report.present} present, {len(failures)} failed")
    for path, reason in failures:
        typer.echo(f"  {path}: {reason}", err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def doctor(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Show the health ledger: every file that could not be read, why, and what was done about it."""
    from rich.console import Console
    from rich.table import Table

    from easyvideor1.config import load_config

    ledger = health_ledger(load_config(config, overrides or ()))
    entries = list(ledger.entries())
    if not entries:
        typer.echo("the health ledger is empty: no file has failed")
        return
    table = Table("file", "reason", "detail", "what was done")
    for entry in entries:
        table.add_row(entry.path, entry.reason, entry.detail, entry.action)
    Console().print(table)


@app.command()
def verify(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Read every entry of the cache and check it against its checksum; the exit status is 1 if one is broken."""
    from easyvideor1 import video
    from easyvideor1.cli.progress import progress
    from easyvideor1.config import load_config

    settings = load_config(config, overrides or ())
    store = video.FrameStore(settings.cache.dir, codec=settings.cache.codec)
    digests = list(store.entries())
    broken: list[str] = []
    with progress("verifying", unit="entry") as on_progress:
        for done, digest in enumerate(digests, 1):
            if store.get(digest) is None:
                broken.append(digest)
            on_progress(done, len(digests))
    typer.echo(f"{settings.cache.dir}: {len(digests)} entries, {len(broken)} broken")
    for digest in broken:
        typer.echo(f"  {digest}: does not match its checksum and will be decoded again", err=True)
    if broken:
        raise typer.Exit(1)


def health_ledger(config: RunConfig) -> HealthLedger:
    """The ledger that lies beside the entries of the cache."""
    from easyvideor1.video import HealthLedger

    return HealthLedger(Path(config.cache.dir) / "health.jsonl")


def media_of(config: RunConfig) -> list[MediaRef]:
    """The different media, clips told apart, of all sources, in order of first use.

    Raises:
        ConfigError: the configuration has no source.
        DataError: a source cannot be read, or a row is bad and ``data.on_bad_row`` is ``error``.
    """
    from easyvideor1.data import load_source
    from easyvideor1.types import ConfigError

    sources = (*config.data.train, *config.data.validation, *config.data.test)
    if not sources:
        raise ConfigError("no source to cache: set data.train, data.validation or data.test")
    refs: dict[MediaRef, None] = {}
    for source in dict.fromkeys(sources):
        for sample in load_source(source, config.data).samples:
            refs.update(dict.fromkeys(sample.media))
    return list(refs)


def plan_media(
    refs: list[MediaRef], config: RunConfig, geometry: Geometry, ledger: HealthLedger
) -> tuple[list[tuple[MediaRef, MediaPlan]], list[tuple[str, str]]]:
    """Plan every medium. Those that cannot be probed or planned go to the ledger and into the second list."""
    from easyvideor1 import video
    from easyvideor1.cli.progress import progress
    from easyvideor1.types import MediaError

    planned: dict[str, tuple[MediaRef, MediaPlan]] = {}
    failures: list[tuple[str, str]] = []
    with progress("planning", unit="file") as on_progress:
        for done, ref in enumerate(refs, 1):
            budget = config.data.image if ref.kind == "image" else config.data.video
            try:
                plan = video.plan(video.probe(ref.path), budget, geometry, start=ref.start, end=ref.end)
                planned.setdefault(plan.digest, (ref, plan))
            except MediaError as error:
                ledger.record(ref.path, error.reason, str(error), "left out of the cache")
                failures.append((ref.path, f"{error.reason}: {error}"))
            on_progress(done, len(refs))
    return list(planned.values()), failures
