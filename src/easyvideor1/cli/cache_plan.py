"""What ``evr1 cache`` plans before it decodes: which media, how many entries, and how many bytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from easyvideor1.types import ConfigError
from easyvideor1.video.entry import TYPICAL_RATIO, Codec, raw_bytes

if TYPE_CHECKING:
    from easyvideor1.components import PlannedMedia
    from easyvideor1.config import RunConfig
    from easyvideor1.types import Geometry, MediaPlan, MediaRef
    from easyvideor1.video import FrameStore

#: Sizes in bytes as people write them: powers of 1024.
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGTP])(?:i?B)?|B)?", re.IGNORECASE)


def show_plan(planned: PlannedMedia, store: FrameStore, *, checksums: bool = False) -> None:
    """Print the size of a build: ``raw`` bytes are exact, those of other codecs are estimated from typical ratios.

    With ``checksums``, existing entries are checked by checksum, not only by size.
    """
    plans = {plan.digest: plan for _, plan in planned.items}
    found = {digest: store.check_entry(plan, checksums=checksums, set_aside=False) for digest, plan in plans.items()}
    missing = [plan for digest, plan in plans.items() if not found[digest].there]
    kinds = [plan.kind for plan in plans.values()]
    typer.echo(
        f"{store.directory}: {kinds.count('video')} videos and {kinds.count('image')} images (equal clips and files "
        f"count once), {len(planned.failures)} failed to plan"
    )
    for words, some in (("total", list(plans.values())), ("to build", missing)):
        typer.echo(f"  {words}: {len(some)} entries, {_frames(some)} frames, {sum(p.tokens for p in some)} tokens")
        sizes = []
        for codec in get_args(Codec):
            size = sum(map(raw_bytes, some)) * TYPICAL_RATIO[codec]
            mark = " (cache.codec)" if codec == store.codec else ""
            sizes.append(f"{codec} {'' if codec == 'raw' else 'about '}{size_words(size)}{mark}")
        typer.echo(f"    bytes: {', '.join(sizes)}")
    for path, fault in (each for one in found.values() for each in one.damaged):
        typer.echo(f"  DAMAGED: {path}: {fault}; the build decodes it again", err=True)
    typer.echo(f"  free disk space: {size_words(shutil.disk_usage(_existing(store.directory)).free)}")


def referenced_by(configs: Sequence[str]) -> set[str]:
    """Digests of all plans of all rows of some configurations.

    Raises:
        ConfigError: a media file cannot be planned, so that its entry would look unreferenced.
    """
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
                f"{config}: {len(planned.failures)} media files cannot be planned ({path}: {reason}), so their entries "
                "would look unreferenced; correct the rows, or use --max-size alone"
            )
        digests.update(plan.digest for _, plan in planned.items)
    return digests


def _frames(plans: Sequence[MediaPlan]) -> int:
    return sum(len(plan.frame_indices) for plan in plans)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


def media_of(config: RunConfig) -> list[MediaRef]:
    """The distinct media references (clips count separately) of all sources, in order of first use.

    No media file is opened.

    Raises:
        ConfigError: the configuration has no source.
        DataError: a source cannot be read, or a row is bad and ``data.on_bad_row`` is ``error``.
    """
    from easyvideor1.config import located
    from easyvideor1.config.paths import require_sources
    from easyvideor1.data import embedded_media, load_source

    config = located(config)
    sources = (*config.data.train, *config.data.validation, *config.data.test)
    if not sources:
        raise ConfigError("no rows to cache; set data.train, data.validation or data.test")
    require_sources(config, sources)
    refs: dict[MediaRef, None] = {}
    for source in dict.fromkeys(sources):
        for sample in load_source(
            source, config.data, check_media=False, embedded=embedded_media(config.cache)
        ).samples:
            refs.update(dict.fromkeys(sample.media))
    return list(refs)


def geometry_of(name: str) -> Geometry:
    """The patch geometry of a model family.

    Raises:
        ConfigError: unknown name.
    """
    from easyvideor1.types import Geometry

    known = {"qwen2": Geometry(14, 2, 2), "qwen3": Geometry(16, 2, 2)}
    if name not in known:
        raise ConfigError(f"--geometry {name}: expected {' or '.join(known)}; or give --model DIRECTORY")
    return known[name]


def parse_size(text: str) -> int:
    """Bytes of a size such as ``100G``, ``1.5 TiB`` or ``4096``; G, GB and GiB all mean 1024**3.

    Raises:
        ConfigError: the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a size; write it like 500M, 100G or 1.5T")
    number, unit = match.groups()
    return int(float(number) * 1024 ** (0 if unit is None else "KMGTP".index(unit.upper()) + 1))


def size_words(size: float) -> str:
    """A number of bytes with three digits and a unit: ``1.46 GiB``."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1024
    if unit == "B":
        return f"{size:.0f} B"
    digits = 2 if size < 10 else 1 if size < 100 else 0
    return f"{size:.{digits}f} {unit}"
