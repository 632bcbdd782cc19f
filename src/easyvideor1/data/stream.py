"""The samples of every training step, as a pure function: there is no state to save."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from easyvideor1.config.transforms import TransformOptions
from easyvideor1.data.mixture import Mixture, ModalityQuota, key
from easyvideor1.data.transforms import BoundTransform, Transform, TransformContext, resolve_transforms
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, DataError, Modality, Sample

# Extra draws per missing sample before transforms count as dropping everything.
_PATIENCE = 64


class SampleStream:
    """An endless mixture of sources, each shuffled anew in every epoch, or in its own order.

    ``batch(step, size)`` depends only on the constructor's arguments, ``step`` and ``size``, so a resumed run gets the
    samples of an uninterrupted one. If all steps have one ``size``, draw ``i`` of step ``t`` is draw ``t * size + i``
    of the stream; no sample of a source is drawn twice in one of its epochs.

    With ``balance`` every modality is its own stream, and a step takes its share from each.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[Sample]],
        weights: Sequence[float],
        seed: int,
        transforms: Sequence[Transform | TransformOptions | str] = (),
        tasks: Sequence[str] = (),
        balance: Mapping[Modality, float] | None = None,
        *,
        shuffle: bool = True,
        steps: int = 0,
    ) -> None:
        """Make a stream.

        Args:
            samples: The samples of each source.
            weights: The relative share of each source in the mixture.
            seed: Determines all randomness.
            transforms: Applied in order to every drawn sample; functions, sections of the configuration, registered
                names or ``module:attr``.
            tasks: Task types to keep; all if empty. A source without any of them is left out.
            balance: Relative shares of the modalities in every step, exact to within one sample before transforms.
                Modalities without samples are left out, and so are samples of modalities without a share.
            shuffle: Whether a source has a new order in every epoch, or its own in all of them.
            steps: Length of the stage, for transforms that follow a schedule.

        Raises:
            ConfigError: a transform is unknown, or weights and sources do not match.
            DataError: no sample is left.
        """
        if any(isinstance(source, Sample) for source in samples):
            raise TypeError("samples must be one sequence of samples per source, not the samples themselves")
        if len(samples) != len(weights):
            raise ConfigError(f"{len(samples)} sources but {len(weights)} weights - give every source one weight")
        if any(not np.isfinite(weight) or weight <= 0 for weight in weights):
            raise ConfigError(f"weights of sources must be positive numbers, got {list(weights)}")
        wanted = {canonical_task(task) for task in tasks}
        kept = [[sample for sample in source if not wanted or sample.task in wanted] for source in samples]
        self._transforms = tuple(map(_bound, transforms))
        self._steps = steps
        self._seed = seed
        parts = _parts(kept, weights, balance)
        if not parts:
            known = sorted({sample.task for source in samples for sample in source})
            named = sorted(name for name, share in (balance or {}).items() if share > 0)
            raise DataError(
                f"no sample to draw from: asked for the tasks {sorted(wanted) or 'of all types'}"
                f"{'' if balance is None else f' and the modalities {named}'}, "
                f"the sources have {known or 'no samples'} - correct the sources or the stage's tasks"
            )
        # Seeds use the index in the full list, so that a filter does not reorder the other sources.
        self._mixtures = [
            Mixture(
                [source for source in part if source],
                [weight for source, weight in zip(part, own, strict=True) if source],
                seed,
                names=[index for index, source in enumerate(part) if source],
                salt=salt,
                shuffle=shuffle,
            )
            for salt, _, part, own in parts
        ]
        total = sum(share for _, share, _, _ in parts)
        self._parts = [share / total for _, share, _, _ in parts]
        self._quota = ModalityQuota(self._parts, seed)

        def rebuilt(ids: Collection[str]) -> SampleStream:
            left = [[sample for sample in source if sample.id not in ids] for source in samples]
            return SampleStream(left, weights, seed, transforms, tasks, balance, shuffle=shuffle, steps=steps)

        self._rebuilt = rebuilt

    def without(self, ids: Collection[str]) -> SampleStream:
        """The stream of the same sources without some samples, in the same order otherwise.

        Raises:
            DataError: no sample is left.
        """
        return self._rebuilt(ids)

    def __len__(self) -> int:
        """Number of samples of all sources, after the filter by task type."""
        return sum(map(len, self._mixtures))

    def shares(self) -> dict[int, float]:
        """The share of all draws of each source, by its index in the constructor; the sum is 1."""
        found: dict[int, float] = {}
        for mixture, part in zip(self._mixtures, self._parts, strict=True):
            for source, share in mixture.shares().items():
                found[source] = found.get(source, 0.0) + part * share
        return found

    def batch(
        self, step: int, size: int, *, training_step: int | None = None, curriculum: object = None
    ) -> list[Sample]:
        """The ``size`` samples of a step, transformed. A pure function, of the ``curriculum`` too if there is one.

        ``training_step`` is the step that transforms are told, counted from 0, where a step of training draws several
        batches (of further rounds); ``step`` itself if None.

        A transform that returns several samples takes more places of the batch; a transform that returns none is
        replaced by further draws, which depend on the seed and the step.

        Raises:
            ConfigError: a transform does not return a list of samples.
            DataError: the transforms drop almost everything.
        """
        if step < 0 or size <= 0:
            raise ValueError(f"step must be >= 0 and size > 0, got {step} and {size}")
        told = step if training_step is None else training_step
        drawn = _Draw(step, told, TransformContext(None, self._steps, curriculum))
        if len(self._mixtures) == 1:
            return self._fill(self._mixtures[0], step * size, size, drawn)
        counts, before = self._quota.of_step(step, size)
        parts = zip(self._mixtures, before.tolist(), counts.tolist(), strict=True)
        filled = [self._fill(mixture, first, count, drawn) for mixture, first, count in parts]
        # Spread over the step, so that any part of it has the shares too.
        placed = [((n + 0.5) / len(part), k, sample) for k, part in enumerate(filled) for n, sample in enumerate(part)]
        return [sample for _, _, sample in sorted(placed, key=lambda item: item[:2])]

    def _fill(self, mixture: Mixture, first: int, count: int, drawn: _Draw) -> list[Sample]:
        """``count`` transformed samples of one mixture."""
        out: list[Sample] = []
        for sample in mixture.draws(first, count):
            out += self._transformed(sample, drawn)
        spare = 0
        while len(out) < count:
            if spare == count * _PATIENCE:
                raise DataError(
                    f"the transforms left {len(out)} of {count + spare} samples at step {drawn.step}, {count} are "
                    "needed - use transforms that drop less"
                )
            out += self._transformed(mixture.spare(drawn.step, spare), drawn)
            spare += 1
        return out[:count]

    def _transformed(self, sample: Sample, drawn: _Draw) -> list[Sample]:
        current = [sample]
        for position, transform in enumerate(self._transforms):
            after: list[Sample] = []
            for index, item in enumerate(current):
                rng = np.random.default_rng(key(self._seed, "transform", position, index, item.id, drawn.step))
                after += apply_transform(transform, item, drawn.training_step, rng, drawn.context)
            current = after
        return current


#: Salt of a part's seeds, its share of a step, and its samples and weights by source.
_Part = tuple[tuple[str, ...], float, list[list[Sample]], list[float]]


def _parts(
    sources: Sequence[list[Sample]], weights: Sequence[float], balance: Mapping[Modality, float] | None
) -> list[_Part]:
    """The streams of a step: one, or one per modality with a share and samples."""
    if balance is None:
        return [((), 1.0, list(sources), list(weights))] if any(sources) else []
    parts: list[_Part] = []
    for modality, share in balance.items():
        own = [[sample for sample in source if sample.modality == modality] for source in sources]
        # The weight of a source is divided over its modalities by their number of samples.
        shares = [
            weight * len(part) / max(len(whole), 1) for weight, part, whole in zip(weights, own, sources, strict=True)
        ]
        if share > 0 and any(own):
            parts.append(((modality,), share, own, shares))
    return parts


@dataclass(frozen=True, slots=True)
class _Draw:
    """The step of the stream that is drawn, the step of training that it is for, and what transforms are given."""

    step: int
    training_step: int
    context: TransformContext


def _bound(transform: Transform | TransformOptions | str) -> BoundTransform:
    if isinstance(transform, str | TransformOptions):
        return resolve_transforms([transform])[0]
    return BoundTransform(transform, TransformOptions(name=_name(transform)))


def apply_transform(
    transform: BoundTransform, sample: Sample, step: int, rng: np.random.Generator, context: TransformContext
) -> list[Sample]:
    """What a transform makes of a sample.

    Raises:
        ConfigError: it is not a list of samples.
    """
    try:
        result = transform(sample, step, rng, context)
    except Exception as error:
        error.add_note(
            f"in the transform {_name(transform.function)} of sample {sample.id!r} ({sample.where}) at step {step}"
        )
        raise
    if not isinstance(result, list) or not all(isinstance(item, Sample) for item in result):
        raise ConfigError(
            f"transform {_name(transform.function)} returned {type(result).__name__} for sample {sample.id!r} - "
            "it must return a list of samples"
        )
    return result


def _name(transform: Transform) -> str:
    return str(getattr(transform, "__qualname__", repr(transform)))
