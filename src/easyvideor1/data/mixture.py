"""The n-th sample of a mixture of sources, as a pure function of the seed and n: there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from easyvideor1.config.schema import SourceConfig
from easyvideor1.seeds import derive_seed
from easyvideor1.types import ConfigError, Sample

# 2**64 divided by the golden ratio. Its multiples modulo 2**64 are evenly spread at every length (a Weyl sequence), so
# any range of draws has the sources in their weights, to within a draw or two.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 1 << 20


class Mixture:
    """An endless sequence of samples from several sources, each shuffled anew in every epoch, or in its own order."""

    def __init__(
        self,
        sources: Sequence[Sequence[Sample]],
        weights: Sequence[float],
        seed: int,
        *,
        names: Sequence[int],
        salt: Sequence[str] = (),
        shuffle: bool = True,
    ) -> None:
        """Make a mixture.

        Args:
            sources: The samples of each source; none is empty.
            weights: The relative share of each source; positive.
            seed: Determines all randomness, with ``names`` and ``salt``.
            names: The number of each source in the seeds of its order.
            salt: Distinguishes mixtures with the same seed.
            shuffle: Whether a source has a new order in every epoch, or its own in all of them.
        """
        self._shuffle = shuffle
        self._sources = sources
        self._names = names
        self._key: tuple[int | str, ...] = (seed, *salt)
        self._shares = [weight / sum(weights) for weight in weights]
        shares = np.cumsum(weights, dtype=np.float64)
        # The largest float below 2**64 keeps the bound of a last source with almost no weight representable.
        self._bounds = np.minimum(shares[:-1] / shares[-1] * 2.0**64, np.nextafter(2.0**64, 0)).astype(np.uint64)
        self._offset = np.uint64(key(*self._key, "mixture") & (2**64 - 1))
        self._orders: dict[tuple[int, int], NDArray[np.intp]] = {}

    def __len__(self) -> int:
        """Number of samples of all sources."""
        return sum(map(len, self._sources))

    def shares(self) -> dict[int, float]:
        """The share of the draws of each source, by its number in the seeds; the sum is 1."""
        return dict(zip(self._names, self._shares, strict=True))

    def draws(self, first: int, count: int) -> list[Sample]:
        """Draws ``first`` to ``first + count - 1`` of the sequence."""
        ranks = np.zeros(len(self._sources), dtype=np.int64)
        for start in range(0, first, _CHUNK):
            ranks += np.bincount(self._mix(start, min(_CHUNK, first - start)), minlength=len(ranks))
        drawn = []
        for source in self._mix(first, count):
            drawn.append(self._nth(int(source), int(ranks[source])))
            ranks[source] += 1
        return drawn

    def spare(self, step: int, index: int) -> Sample:
        """An extra sample outside the sequence, with the same weights."""
        bits = key(*self._key, "spare", step, index)
        source = int(np.searchsorted(self._bounds, np.uint64(bits & (2**64 - 1)), side="right"))
        return self._sources[source][(bits >> 64) % len(self._sources[source])]

    def _mix(self, first: int, count: int) -> NDArray[np.intp]:
        """The source of each of ``count`` draws, starting at ``first``."""
        places = np.arange(first, first + count, dtype=np.uint64) * _GOLDEN + self._offset
        drawn: NDArray[np.intp] = np.searchsorted(self._bounds, places, side="right")
        return drawn

    def _nth(self, source: int, rank: int) -> Sample:
        epoch, place = divmod(rank, len(self._sources[source]))
        if not self._shuffle:
            return self._sources[source][place]
        return self._sources[source][int(self._order(source, epoch)[place])]

    def _order(self, source: int, epoch: int) -> NDArray[np.intp]:
        found = self._orders.get((source, epoch))
        if found is None:
            if len(self._orders) >= 4 * len(self._sources):  # orders are cached only to save time
                self._orders.clear()
            bits = np.random.PCG64(key(*self._key, "epoch", self._names[source], epoch))
            # Sort raw bits: numpy guarantees that they never change, but not that permutations do not.
            found = np.argsort(bits.random_raw(len(self._sources[source])), kind="stable")
            self._orders[source, epoch] = found
        return found


class ModalityQuota:
    """The number of rows of each part in a step: its share of the step, rounded up or down.

    Which parts are rounded up changes from step to step (systematic sampling from a start that moves by the golden
    ratio), so that in the long run every part has its share, to within a row or two.
    """

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        total = np.cumsum(shares, dtype=np.float64)
        self._bounds = total[:-1] / total[-1]
        self._offset = np.uint64(key(seed, "allotment") & (2**64 - 1))

    def of_step(self, step: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of each part in a step of ``size`` rows, and in all steps before it."""
        before = np.zeros(len(self._bounds) + 1, dtype=np.int64)
        for start in range(0, step, _CHUNK):
            before += self._counts(start, min(_CHUNK, step - start), size).sum(axis=0)
        own: NDArray[np.int64] = self._counts(step, 1, size)[0]
        return own, before

    def _counts(self, first: int, steps: int, size: int) -> NDArray[np.int64]:
        """``(steps, parts)``: number of points ``start, start + 1, ...`` of a step in each part."""
        starts = (np.arange(first, first + steps, dtype=np.uint64) * _GOLDEN + self._offset) / 2.0**64
        below = np.ceil(size * self._bounds[None] - starts[:, None]).clip(0, size).astype(np.int64)
        counts: NDArray[np.int64] = np.diff(below, axis=1, prepend=0, append=size)
        return counts


def source_weights(
    sources: Sequence[SourceConfig], sizes: Sequence[int], *, temperature: float | None, draws: int
) -> list[float]:
    """The relative shares of the sources in a stage.

    Shares are weights; with a temperature T, weight times size to the power of 1 / T (Conneau et al. 2020, XLM-R, sec.
    3, with alpha = 1 / T). A source with epochs takes the draws of that many passes, and sources with weights share the
    rest of the stage; if all have epochs, they share the stage in that proportion.

    Args:
        sources: The configured sources.
        sizes: Number of usable samples of each; a source without any is left out.
        temperature: ``data.temperature``.
        draws: Number of samples drawn in the whole stage.

    Raises:
        ConfigError: sources with epochs leave no draws for those with weights.
    """
    configured = list(zip(sources, sizes, strict=True))
    power, largest = 0.0 if temperature is None else 1.0 / temperature, max(*sizes, 1)
    # Near a temperature of 0 the share of a small source is almost 0; a weight stays positive.
    weights = [source.weight * max((max(size, 1) / largest) ** power, 1e-200) for source, size in configured]
    passes = [None if source.epochs is None else source.epochs * size for source, size in configured]
    taken = sum(number for number in passes if number is not None)
    by_weight = sum(
        weight for weight, number, size in zip(weights, passes, sizes, strict=True) if number is None and size
    )
    left = draws - taken if taken and by_weight else by_weight
    if taken and by_weight and left <= 0:
        raise ConfigError(
            f"the sources with epochs come to {math.ceil(taken)} samples and the stage draws {draws}, which leaves "
            "none for the sources with weights: raise the stage's steps or lower the epochs"
        )
    return [
        weight * left / by_weight if number is None and by_weight else number or 1.0
        for weight, number in zip(weights, passes, strict=True)
    ]


def key(*parts: str | int) -> int:
    """A 128-bit seed, to split into several numbers or to seed a large state."""
    return derive_seed(*parts, bits=128)
