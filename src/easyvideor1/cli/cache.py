"""``evr1 cache``: fill, look after and verify the frame cache of a configuration."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig
    from easyvideor1.types import MediaRef

app = typer.Typer(no_args_is_help=True, help="Fill, look after and verify the frame cache.")


@app.command()
def build(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Decode all media of all sources into the cache; what is there already is left alone.

    Media that cannot be decoded do not stop the rest: they are listed, and the exit status is 1.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.types import ConfigError
    from easyvideor1.workbench import Workbench

    settings = _load(config, overrides)
    if not settings.model.path:
        raise ConfigError("model.path is not set, and frames are cut to fit the model; add model.path=DIRECTORY")
    bench = Workbench.open(settings)
    refs = media_of(settings)
    with progress("planning", unit="file") as on_progress:
        planned = bench.plan_media(refs, on_progress)
    with progress("decoding", unit="file") as on_progress:
        report = bench.decode_planned(planned, on_progress)
    typer.echo(f"{settings.cache.dir}: {report.built} built, {report.present} present, {report.failed} failed")
    for path, reason in report.failures:
        typer.echo(f"  {path}: {reason}", err=True)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def doctor(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Show the health ledger: every file that could not be used, why, and what was done about it."""
    from easyvideor1.workbench import Workbench

    entries = list(Workbench.open(_load(config, overrides)).ledger.entries())
    if not entries:
        typer.echo("the health ledger is empty: no file has failed")
        return
    # Lines, not a table: paths and messages are long, and are to be copied whole.
    for entry in entries:
        typer.echo(f"{entry.path}: {entry.reason}")
        typer.echo(f"    {entry.detail}")
        typer.echo(f"    {entry.time}: {entry.action}")
    counts = Counter(entry.reason for entry in entries)
    typer.echo(", ".join(f"{count} {reason}" for reason, count in counts.most_common()))


@app.command()
def verify(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Check every entry of the cache against its checksum. Broken ones are set aside, and the exit status is 1."""
    from easyvideor1.cli.progress import progress
    from easyvideor1.workbench import Workbench

    settings = _load(config, overrides)
    store = Workbench.open(settings).store
    digests = list(store.entries())
    broken: list[str] = []
    with progress("verifying", unit="entry") as on_progress:
        for done, digest in enumerate(digests, 1):
            if not store.verify(digest):
                broken.append(digest)
            on_progress(done, len(digests))
    typer.echo(f"{settings.cache.dir}: {len(digests)} entries, {len(broken)} broken")
    for digest in broken:
        typer.echo(f"  {digest}: does not match its checksum; set aside, to be decoded again", err=True)
    if broken:
        raise typer.Exit(1)


def _load(config: str, overrides: list[str] | None) -> RunConfig:
    from easyvideor1.config import load_config

    return load_config(config, overrides or ())


def media_of(config: RunConfig) -> list[MediaRef]:
    """The different media, clips told apart, of all sources, in order of first use. No media file is touched.

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
        for sample in load_source(source, config.data, check_media=False).samples:
            refs.update(dict.fromkeys(sample.media))
    return list(refs)
