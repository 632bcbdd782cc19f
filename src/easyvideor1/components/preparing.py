"""``data.prepare``: transforms that are applied once to every row, before it is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from easyvideor1.config.transforms import TransformOptions
from easyvideor1.data import BadRow, Loaded
from easyvideor1.data.bad_rows import Policy
from easyvideor1.data.mixture import key
from easyvideor1.data.stream import apply_transform
from easyvideor1.data.transforms import BoundTransform, TransformContext, resolve_transforms
from easyvideor1.types import ConfigError, DataError, MediaError, MediaInfo, Sample


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
            samples += _prepared(sample, transforms, seed, probe)
        except DataError as error:
            what, _, remedy = str(error).partition(" - ")
            bad[sample.id] = BadRow(sample.where, "", what, remedy or "correct the row")
        except MediaError as error:
            bad[sample.id] = BadRow(sample.where, "", str(error), "replace the file or remove the row")
    usable = source.without(bad, policy)
    dropped = len(usable.samples) - len(samples)
    return replace(usable, samples=samples, filtered=usable.filtered + dropped)


def _prepared(
    sample: Sample, transforms: Sequence[BoundTransform], seed: int, probe: Callable[[str], MediaInfo]
) -> list[Sample]:
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
    return [sample]
