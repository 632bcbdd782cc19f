"""The order of training: which samples make up the batch of a step, without any state to save."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from easyvideor1.data.transforms import Transform, resolve_transforms
from easyvideor1.seeds import derive_seed
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, DataError, Sample

# 2**64 divided by the golden ratio: multiples of it, modulo 2**64, fill the circle evenly at every length, so that
# every stretch of draws holds the sources in their weights to within a draw or two (a Weyl sequence).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 1 << 20
# Spare draws per missing sample before a chain of transforms is said to drop everything.
_PATIENCE = 64


class SampleStream:
    """An endless mixture of sources, each gone through epoch by epoch in an order of its own.

    ``batch(step, size)`` depends on the constructor's arguments, ``step`` and ``size`` alone: a resumed run asks for
    the next step and gets what an uninterrupted one would have got. With one ``size`` for all steps, draw ``i`` of step
    ``t`` is draw ``t * size + i`` of the stream; no sample of a source comes twice within one of its epochs.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[Sample]],
        weights: Sequence[float],
        seed: int,
        transforms: Sequence[Transform | str] = (),
        tasks: Sequence[str] = (),
    ) -> None:
        """Make a stream.

        Args:
            samples: The samples of each source.
            weights: The share of each source in the mixture, relative to the others.
            seed: Everything random follows from it.
            transforms: Applied in order to every drawn sample; functions, registered names or ``module:attr``.
            tasks: Task types to keep; all if empty. A source without any of them takes no part.

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
        present = [index for index, source in enumerate(kept) if source]
        if not present:
            known = sorted({sample.task for source in samples for sample in source})
            raise DataError(
                f"no sample to draw from: asked for the tasks {sorted(wanted) or 'of all types'}, "
                f"the sources have {known or 'no samples'} - correct the sources or the stage's tasks"
            )
        self._sources = [kept[index] for index in present]
        # The index in the full list takes part in the seeds, so that a filter does not reorder the other sources.
        self._names = present
        self._seed = seed
        self._transforms = tuple(resolve_transforms([t])[0] if isinstance(t, str) else t for t in transforms)
        shares = np.cumsum([weights[index] for index in present], dtype=np.float64)
        # The largest float below 2**64 keeps the bound of an all but weightless last source representable.
        self._bounds = np.minimum(shares[:-1] / shares[-1] * 2.0**64, np.nextafter(2.0**64, 0)).astype(np.uint64)
        self._offset = np.uint64(_key(seed, "mixture") & (2**64 - 1))
        self._orders: dict[tuple[int, int], NDArray[np.intp]] = {}

    def __len__(self) -> int:
        """Samples of all sources together, after the filter on task types."""
        return sum(map(len, self._sources))

    def batch(self, step: int, size: int) -> list[Sample]:
        """The ``size`` samples of a step, transformed.

        A transform that returns several samples uses up more of the batch; one that returns none has its place taken by
        further draws, whose choice again follows from the seed and the step.

        Raises:
            ConfigError: a transform does not return a list of samples.
            DataError: the transforms drop (nearly) everything.
        """
        if step < 0 or size <= 0:
            raise ValueError(f"step must be >= 0 and size > 0, got {step} and {size}")
        out: list[Sample] = []
        for sample in self._draws(step * size, size):
            out += self._transformed(sample, step)
        spare = 0
        while len(out) < size:
            if spare == size * _PATIENCE:
                raise DataError(
                    f"the transforms left {len(out)} of {size + spare} samples at step {step}, {size} are needed - "
                    "use transforms that drop less"
                )
            out += self._transformed(self._spare(step, spare), step)
            spare += 1
        return out[:size]

    def _draws(self, first: int, count: int) -> list[Sample]:
        ranks = np.zeros(len(self._sources), dtype=np.int64)
        for start in range(0, first, _CHUNK):
            ranks += np.bincount(self._mix(start, min(_CHUNK, first - start)), minlength=len(ranks))
        drawn = []
        for source in self._mix(first, count):
            drawn.append(self._nth(int(source), int(ranks[source])))
            ranks[source] += 1
        return drawn

    def _mix(self, first: int, count: int) -> NDArray[np.intp]:
        """Which source each of ``count`` draws from ``first`` on comes from."""
        places = np.arange(first, first + count, dtype=np.uint64) * _GOLDEN + self._offset
        return np.searchsorted(self._bounds, places, side="right")

    def _nth(self, source: int, rank: int) -> Sample:
        epoch, place = divmod(rank, len(self._sources[source]))
        return self._sources[source][int(self._order(source, epoch)[place])]

    def _order(self, source: int, epoch: int) -> NDArray[np.intp]:
        key = (source, epoch)
        if key not in self._orders:
            if len(self._orders) >= 4 * len(self._sources):  # orders are kept only to save time
                self._orders.clear()
            bits = np.random.PCG64(_key(self._seed, "epoch", self._names[source], epoch))
            # Sorting raw bits, because numpy promises those to stay the same for ever, but not its permutations.
            self._orders[key] = np.argsort(bits.random_raw(len(self._sources[source])), kind="stable")
        return self._orders[key]

    def _spare(self, step: int, index: int) -> Sample:
        bits = _key(self._seed, "spare", step, index)
        source = int(np.searchsorted(self._bounds, np.uint64(bits & (2**64 - 1)), side="right"))
        return self._sources[source][(bits >> 64) % len(self._sources[source])]

    def _transformed(self, sample: Sample, step: int) -> list[Sample]:
        current = [sample]
        for position, transform in enumerate(self._transforms):
            after: list[Sample] = []
            for index, item in enumerate(current):
                rng = np.random.default_rng(_key(self._seed, "transform", position, index, item.id, step))
                after += _apply(transform, item, step, rng)
            current = after
        return current


def _apply(transform: Transform, sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    try:
        result = transform(sample, step, rng)
    except Exception as error:
        error.add_note(f"in the transform {_name(transform)} of sample {sample.id!r} ({sample.where}) at step {step}")
        raise
    if not isinstance(result, list) or not all(isinstance(item, Sample) for item in result):
        raise ConfigError(
            f"transform {_name(transform)} returned {type(result).__name__} for sample {sample.id!r} - "
            "it must return a list of samples"
        )
    return result


def _name(transform: Transform) -> str:
    return str(getattr(transform, "__qualname__", repr(transform)))


def _key(*parts: str | int) -> int:
    """128 bits, for what is cut into several numbers or seeds a large state."""
    return derive_seed(*parts, bits=128)
