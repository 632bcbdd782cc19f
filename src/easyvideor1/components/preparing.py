"""Rows as they are read, and ``data.prepare``: transforms that are applied once to every row, before it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from easyvideor1.config import RunConfig, SourceConfig
from easyvideor1.config.paths import as_written, located_source
from easyvideor1.config.transforms import TransformOptions
from easyvideor1.data import BadRow, CheckCache, Loaded, distinct_stems, embedded_media, load_source
from easyvideor1.data.bad_rows import Policy
from easyvideor1.data.mixture import key
from easyvideor1.data.stream import apply_transform
from easyvideor1.data.transforms import BoundTransform, TransformContext, resolve_transforms
from easyvideor1.types import ConfigError, DataError, MediaError, MediaInfo, MediaRef, Sample


def read_prepared(
    config: RunConfig,
    sources: Sequence[SourceConfig],
    check_cache: CheckCache,
    *,
    check_media: bool,
    probe: Callable[[str], MediaInfo],
    probing: Callable[[Iterable[MediaRef]], AbstractContextManager[None]],
) -> list[Loaded]:
    """The rows of some sources, read and transformed as ``data.prepare`` says.

    Args:
        config: of the run, with its paths as they are found.
        sources: what is read.
        check_cache: checks that were passed before.
        check_media: whether files have to be there.
        probe: describes a media file.
        probing: has the files of some media described ahead, inside of its block.

    Raises:
        ConfigError: as ``prepare``.
        DataError: as ``load_source`` and ``prepare``.
    """
    data = config.data
    loaded = [
        load_source(
            located_source(config, source),
            data,
            coordinates=config.rewards.coordinates,
            stem=stem,
            embedded=embedded_media(config.cache),
            check_cache=check_cache,
            check_media=check_media,
        )
        for source, stem in zip(
            sources, distinct_stems([as_written(config, source.path) for source in sources]), strict=True
        )
    ]
    if not data.prepare:
        return loaded
    with probing(ref for source in loaded for sample in source.samples for ref in sample.media):
        return [prepare(source, data.prepare, config.seed, probe, data.on_bad_row) for source in loaded]


def prepare(
    source: Loaded, chosen: Sequence[TransformOptions], seed: int, probe: Callable[[str], MediaInfo], policy: Policy
) -> Loaded:
    """A source with every sample transformed; samples that a transform drops count as filtered.

    What is random follows from ``seed`` and the sample alone, so that training, evaluation and curation see the same.

    Args:
        source: as it was read.
        chosen: the transforms, in order.
        seed: of the run.
        probe: describes a media file.
        policy: for rows that a transform refuses.

    Raises:
        ConfigError: there is no such transform, or one makes several samples of a row.
        DataError: a transform refuses rows and ``policy`` is ``error``, or no row is left.
    """
    transforms = resolve_transforms(chosen, "data.prepare")
    samples: list[Sample] = []
    bad: dict[str, BadRow] = {}
    for sample in source.samples:
        try:
            samples += prepared(sample, transforms, seed, probe)
        except DataError as error:
            what, _, remedy = str(error).partition(" - ")
            bad[sample.id] = BadRow(sample.where, "", what, remedy or "correct the row")
        except MediaError as error:
            bad[sample.id] = BadRow(sample.where, "", str(error), "replace the file or remove the row")
    usable = source.without(bad, policy)
    dropped = len(usable.samples) - len(samples)
    return replace(usable, samples=samples, filtered=usable.filtered + dropped)


def prepared(
    sample: Sample, transforms: Sequence[BoundTransform], seed: int, probe: Callable[[str], MediaInfo]
) -> list[Sample]:
    """One sample after ``data.prepare``; none if a transform drops it.

    Raises:
        ConfigError: a transform makes several samples of it.
        DataError: a transform refuses it.
        MediaError: a transform reads a medium that cannot be used.
    """
    read = sample
    for position, transform in enumerate(transforms):
        rng = np.random.default_rng(key(seed, "prepare", position, sample.id))
        found = apply_transform(transform, sample, 0, rng, TransformContext(None, probe=probe))
        if not found:
            return []
        if len(found) > 1 or found[0].id != sample.id:
            raise ConfigError(
                f"data.prepare.{position}: {transform.section.name} made {len(found)} samples of {sample.id!r}; a row "
                "stays one sample with its id here: name the transform in data.transforms"
            )
        sample = found[0]
    return [sample if sample is read else replace(sample, as_read=read)]
