"""What a cache will hold, known from plans alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from easyvideor1.cli.sizes import size_words
from easyvideor1.types import ConfigError
from easyvideor1.video.codecs import TYPICAL_RATIO, Codec
from easyvideor1.video.entry import raw_bytes

if TYPE_CHECKING:
    from easyvideor1.components import PlannedMedia
    from easyvideor1.types import MediaPlan
    from easyvideor1.video import FrameStore


def show_plan(planned: PlannedMedia, store: FrameStore, *, checksums: bool = False) -> None:
    """Print how much a build will be: ``raw`` bytes are exact, those of other codecs go by typical ratios.

    With ``checksums`` every byte of what is there is checked, and not its size alone.
    """
    plans = {plan.digest: plan for _, plan in planned.items}
    found = {digest: store.look(plan, checksums=checksums, set_aside=False) for digest, plan in plans.items()}
    missing = [plan for digest, plan in plans.items() if not found[digest].there]
    kinds = [plan.kind for plan in plans.values()]
    typer.echo(
        f"{store.directory}: {kinds.count('video')} videos and {kinds.count('image')} images (clips and equal files "
        f"counted once), {len(planned.failures)} cannot be planned"
    )
    for words, some in (("in all", list(plans.values())), ("to build", missing)):
        typer.echo(f"  {words}: {len(some)} entries, {_frames(some)} frames, {sum(p.tokens for p in some)} tokens")
        sizes = []
        for codec in get_args(Codec):
            size = sum(map(raw_bytes, some)) * TYPICAL_RATIO[codec]
            mark = " (cache.codec)" if codec == store.codec else ""
            sizes.append(f"{codec} {'' if codec == 'raw' else 'about '}{size_words(size)}{mark}")
        typer.echo(f"    bytes: {', '.join(sizes)}")
    for path, fault in (each for one in found.values() for each in one.damaged):
        typer.echo(f"  DAMAGED: {path}: {fault}; it will be decoded again", err=True)
    typer.echo(f"  free on that disk: {size_words(shutil.disk_usage(_existing(store.directory)).free)}")


def referenced_by(configs: Sequence[str]) -> set[str]:
    """Digests of all plans of all rows of some configurations.

    Raises:
        ConfigError: a medium cannot be planned, so that its entry would be taken for one that nobody wants.
    """
    from easyvideor1.cli.cache import media_of
    from easyvideor1.cli.progress import progress
    from easyvideor1.components import Components
    from easyvideor1.config import load_config

    digests: set[str] = set()
    for config in configs:
        settings = load_config(config)
        with Components.open(settings) as components, progress(f"planning {config}", unit="file") as on_progress:
            planned = components.plan_media(media_of(settings), on_progress)
        if planned.failures:
            path, reason = planned.failures[0]
            raise ConfigError(
                f"{config}: {len(planned.failures)} media cannot be planned ({path}: {reason}), so their entries "
                "cannot be told from those that nobody wants; correct the rows, or use --max-size alone"
            )
        digests.update(plan.digest for _, plan in planned.items)
    return digests


def _frames(plans: Sequence[MediaPlan]) -> int:
    return sum(len(plan.frame_indices) for plan in plans)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
