"""Samples that ask the same: repeated rows, and rows that give the same question different answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from easyvideor1.types import Sample


@dataclass(frozen=True, slots=True)
class Repeated:
    """``unique`` are the first samples of their kind, in order. ``copies`` ask and answer what an earlier one does, and
    ``conflicts`` ask it with another answer; both are pairs with the earlier one."""

    unique: list[Sample] = field(default_factory=list)
    copies: list[tuple[Sample, Sample]] = field(default_factory=list)
    conflicts: list[tuple[Sample, Sample]] = field(default_factory=list)


def find_repeated(samples: Iterable[Sample]) -> Repeated:
    """Samples with the same task, question, options and media, whatever their ids. Case and spaces do not count, and
    the order of options does, since the answer is a letter."""
    found = Repeated()
    first: dict[tuple[object, ...], Sample] = {}
    for sample in samples:
        media = tuple((ref.kind, ref.path, ref.start, ref.end) for ref in sample.media)
        key = (sample.task, _plain(sample.question), tuple(map(_plain, sample.options)), media)
        earlier = first.setdefault(key, sample)
        if earlier is sample:
            found.unique.append(sample)
        elif _plain(earlier.answer) == _plain(sample.answer):
            found.copies.append((earlier, sample))
        else:
            found.conflicts.append((earlier, sample))
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
