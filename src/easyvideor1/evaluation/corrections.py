"""p-values of many comparisons, adjusted so that they can be read one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

Correction = Literal["holm", "bh", "none"]


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted for the chance of any false difference among all (family-wise error; Holm 1979).

    The smallest of m p-values is multiplied by m, the next by m - 1, ...; an adjusted value is never below one of a
    smaller p-value. It holds however the comparisons depend on each other.
    """
    count = len(values)
    adjusted, reached = [0.0] * count, 0.0
    for rank, place in enumerate(sorted(range(count), key=values.__getitem__)):
        reached = max(reached, min(1.0, (count - rank) * values[place]))
        adjusted[place] = reached
    return adjusted


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """Adjusted for the expected share of false differences among those found (FDR; Benjamini and Hochberg 1995).

    The k-th smallest of m p-values is multiplied by m / k; an adjusted value is never above one of a larger p-value.
    It holds for comparisons that are independent or depend on each other positively.
    """
    count = len(values)
    adjusted, reached = [1.0] * count, 1.0
    order = sorted(range(count), key=values.__getitem__)
    for rank in range(count, 0, -1):
        place = order[rank - 1]
        reached = min(reached, count / rank * values[place])
        adjusted[place] = reached
    return adjusted


CORRECTIONS: dict[Correction, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bh": benjamini_hochberg,
    "none": list,
}
