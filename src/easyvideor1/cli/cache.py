"""``evr1 cache``: build, inspect, verify and shrink the frame cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import CacheOverrides

if TYPE_CHECKING:
    from easyvideor1.components import Components, PlannedMedia
    from easyvideor1.config import RunConfig
    from easyvideor1.video import BuildProgress, FrameStore

app = typer.Typer(no_args_is_help=True, help="Build, inspect, verify and shrink the frame cache.")

StoreArgument = Annotated[
    str, typer.Argument(metavar="CONFIG|DIR", help="YAML file, name of a shipped recipe, or cache directory.")
]


@app.command()
def build(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...", help="Configuration and overrides, such as data.video.fps=1."
        ),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(help="Video file, directory or glob pattern, instead of a configuration's rows. Repeatable."),
    ] = None,
    image: Annotated[list[str] | None, typer.Option(help="The same for images. Repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint whose patch size the frames must fit.")] = None,
    geometry: Annotated[
        str | None,
        typer.Option(help="Patch size without a checkpoint: qwen2 (also Qwen2.5-VL) or qwen3."),
    ] = None,
    cache: Annotated[str | None, typer.Option(help="Cache directory (cache.dir).")] = None,
    fps: Annotated[str | None, typer.Option(help="data.video.fps")] = None,
    frames: Annotated[str | None, typer.Option(help="data.video.frames")] = None,
    max_frames: Annotated[str | None, typer.Option(help="data.video.max_frames")] = None,
    max_pixels: Annotated[str | None, typer.Option(help="data.video.max_pixels")] = None,
    total_pixels: Annotated[str | None, typer.Option(help="data.video.total_pixels")] = None,
    workers: Annotated[str | None, typer.Option(help="cache.workers")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the size of the build; decode nothing.")] = False,
    verify_: Annotated[
        bool, typer.Option("--verify", help="Check the checksums of existing entries, not only their sizes.")
    ] = False,
) -> None:
    """Decode videos and images into the frame cache: those of a configuration, or given files.

    Intact entries are kept. An entry with a wrong size, or with --verify a wrong checksum, is reported and decoded
    again. You can interrupt the command and run it again.

    A file that cannot be decoded does not stop the others: the command lists it and exits with status 1. Files that
    exceeded cache.deadline before are tried again; a training run does not do that.
    """
    from easyvideor1.types import ConfigError

    options = {
        "model.path": model,
        "cache.dir": cache,
        "data.video.fps": fps,
        "data.video.frames": frames,
        "data.video.max_frames": max_frames,
        "data.video.max_pixels": max_pixels,
        "data.video.total_pixels": total_pixels,
        "cache.workers": workers,
    }
    files = bool(video or image)
    settings = _settings(words or [], [f"{key}={value}" for key, value in options.items() if value is not None], files)
    if not settings.model.path and geometry is None:
        raise ConfigError(
            "model.path is not set, but the frame size depends on the model; add --model DIRECTORY or --geometry qwen3"
        )
    if settings.cache.mode == "decode_only" and not dry_run:
        raise ConfigError("cache.mode is decode_only, so nothing is cached; set cache.mode=prefer_cache to build")
    from easyvideor1.cli.cache_plan import geometry_of, media_of, show_plan
    from easyvideor1.cli.progress import progress
    from easyvideor1.components import Components
    from easyvideor1.video.formats import find_media

    shape = None if geometry is None else geometry_of(geometry)
    with Components.open(settings, geometry=shape, retry_timeouts=not dry_run) as components:
        _ = components.geometry  # before rows are read: a wrong model fails at once
        media = [*find_media(video or (), "video"), *find_media(image or (), "image")]
        refs = media if files else media_of(settings)
        with progress("planning", unit="file") as on_progress:
            planned = components.plan_media(refs, on_progress)
        if planned.rate_note:
            typer.echo(planned.rate_note)
        if dry_run:
            show_plan(planned, components.store, checksums=verify_)
            failures = planned.failures
        else:
            failures = _decode(components, planned, checksums=verify_)
    for path, reason in failures:
        typer.echo(f"  {path}: {reason}", err=True)
    if failures:
        raise typer.Exit(1)


def _decode(components: Components, planned: PlannedMedia, *, checksums: bool) -> tuple[tuple[str, str], ...]:
    from easyvideor1.cli.progress import progress

    with progress("decoding", unit="file") as on_progress:

        def show(build: BuildProgress) -> None:
            # Entries that were present took no time: counting them would spoil the rate and the time left.
            note = f"{build.present} present, {build.failed} failed"
            on_progress(build.done - build.present, build.total - build.present, note)

        report = components.decode_planned(planned, show, checksums=checksums)
    for path, fault in report.damaged:
        typer.echo(f"  DAMAGED: {path}: {fault}; set aside and decoded again", err=True)
    count = len(report.damaged)
    damaged = f", {count} damaged {'entry' if count == 1 else 'entries'} set aside" if count else ""
    typer.echo(
        f"{components.store.directory}: {report.built} built, {report.present} present, {report.failed} failed{damaged}"
    )
    return report.failures


@app.command()
def stats(store: StoreArgument, overrides: CacheOverrides = None) -> None:
    """Show what the cache holds: entries, bytes, codecs, last uses and leftovers of killed processes."""
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.video import store_stats

    opened = _open(store, overrides)
    found = store_stats(opened)
    typer.echo(f"{opened.directory}: {found.entries.files} entries, {size_words(found.entries.bytes)}")
    for title, parts in (("codec", found.by_codec), ("kind", found.by_kind)):
        for name, part in sorted(parts.items()):
            typer.echo(f"  {title} {name}: {part.files} entries, {size_words(part.bytes)}")
    typer.echo(f"  {found.frames} frames, {size_words(found.pixel_bytes)} of pixels")
    if found.features.files:
        typer.echo(f"  vision features of {found.features.files} media, {size_words(found.features.bytes)}")
    if found.oldest_use is not None and found.newest_use is not None:
        typer.echo(f"  last used between {_when(found.oldest_use)} and {_when(found.newest_use)}")
    for words, part in (
        ("entries with a damaged header (run evr1 cache verify)", found.unreadable),
        ("temporary files (evr1 cache gc removes those of killed processes)", found.temporary),
        ("damaged entries set aside (evr1 cache gc removes them after an hour)", found.aside),
    ):
        if part.files:
            typer.echo(f"  {part.files} {words}, {size_words(part.bytes)}")


@app.command()
def doctor(
    store: StoreArgument,
    overrides: CacheOverrides = None,
    every: Annotated[bool, typer.Option("--all", help="Show every entry of the ledger, oldest first.")] = False,
) -> None:
    """Show the health ledger: every file that could not be used, how often, why, and what to do about it."""
    from easyvideor1.video import bad_files

    entries = list(_open(store, overrides).ledger.entries())
    if not entries:
        typer.echo("The health ledger is empty: no file has failed.")
        return
    # Lines, not a table: paths and messages are long, and users copy them.
    if every:
        for entry in entries:
            typer.echo(f"{entry.time} {entry.path}: {entry.reason}: {entry.action}\n    {entry.detail}")
        return
    found = bad_files(entries)
    for file in found:
        often = "" if file.count == 1 else f" ({file.count} times: {_counts(file.reasons)})"
        typer.echo(f"{file.path}: {file.last.reason}{often}")
        typer.echo(f"    {file.last.detail}")
        typer.echo(f"    {file.last.time}: {file.last.action}")
        typer.echo(f"    to do: {file.remedy}")
    typer.echo(f"{len(found)} files: {_counts(Counter(file.last.reason for file in found))}")


@app.command()
def verify(store: StoreArgument, overrides: CacheOverrides = None) -> None:
    """Check every cache entry against its checksum.

    Damaged entries are set aside; the next build decodes them again. The exit status is 1 if there are any.
    """
    from easyvideor1.cli.progress import progress

    opened = _open(store, overrides)
    digests = list(opened.entries())
    broken: list[str] = []
    with progress("verifying", unit="entry") as on_progress:
        for done, digest in enumerate(digests, 1):
            if not opened.verify(digest):
                broken.append(digest)
            on_progress(done, len(digests))
    typer.echo(f"{opened.directory}: {len(digests)} entries, {len(broken)} damaged")
    for digest in broken:
        typer.echo(f"  {digest}: wrong checksum; set aside, and decoded again by the next build", err=True)
    if broken:
        raise typer.Exit(1)


@app.command()
def gc(
    store: StoreArgument,
    overrides: CacheOverrides = None,
    max_size: Annotated[str | None, typer.Option(help="Size to shrink the cache to, such as 100G.")] = None,
    unreferenced: Annotated[
        list[str] | None,
        typer.Option(metavar="CONFIG", help="Remove entries that none of these configurations uses. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be removed; remove nothing.")] = False,
) -> None:
    """Shrink the cache: remove the least recently used entries first, and all leftovers of killed processes.

    An entry that a process on this machine is reading stays. Do not run this while another machine reads the same
    cache over a network file system.
    """
    from easyvideor1.cli.cache_plan import parse_size, referenced_by, size_words
    from easyvideor1.cli.progress import progress
    from easyvideor1.video import collect_garbage

    limit = None if max_size is None else parse_size(max_size)
    opened = _open(store, overrides)
    wanted = referenced_by(unreferenced) if unreferenced else None
    with progress("removing", unit="entry") as on_progress:
        report = collect_garbage(opened, limit, referenced=wanted, dry_run=dry_run, on_progress=on_progress)
    done = "would remove" if dry_run else "removed"
    typer.echo(
        f"{opened.directory}: {done} {report.removed.files} entries ({size_words(report.removed.bytes)}) and "
        f"{report.leftovers.files} leftovers ({size_words(report.leftovers.bytes)}); "
        f"{report.kept.files} entries ({size_words(report.kept.bytes)}) remain"
    )
    features, left = report.features_removed, report.features_kept
    if features.files or left.files:
        typer.echo(
            f"  vision features: {done} those of {features.files} media ({size_words(features.bytes)}); those of "
            f"{left.files} media ({size_words(left.bytes)}) remain"
        )
    if report.busy:
        typer.echo(f"  {report.busy} of them remain because they are in use")


def _settings(words: list[str], options: list[str], files: bool) -> RunConfig:
    """The configuration with its overrides; the defaults where files are given and no configuration."""
    from easyvideor1.config import load_config, parse_config
    from easyvideor1.types import ConfigError

    if files and words and "=" not in words[0] and Path(words[0]).suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(
            f"{words[0]}: --video and --image take one path each; give a directory, or quote the pattern: "
            "--video 'clips/*.mp4'"
        )
    if words and ("=" not in words[0] or Path(words[0]).is_file()):
        return load_config(words[0], [*words[1:], *options])
    if not files:
        raise ConfigError("nothing to cache; give a configuration, or files with --video or --image")
    return parse_config("{}", "defaults", [*words, *options])


def _open(place: str, overrides: list[str] | None) -> FrameStore:
    """The frame store in a directory, or that of a configuration."""
    from easyvideor1.config import load_config
    from easyvideor1.video import FrameStore

    if Path(place).is_dir() and not overrides:
        return FrameStore(place)
    return FrameStore(load_config(place, overrides or ()).cache.dir)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="minutes")


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).most_common())
