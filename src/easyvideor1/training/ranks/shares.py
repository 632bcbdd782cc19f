"""What each group of ranks is given of a pass, and how what the groups return is put together.

The first rank plans the micro-batches of the whole pass and cuts the plan. A group gets the turns of its own
micro-batches, with what is per turn or token of them, and what was decided over all turns as numbers (the weight of all
tokens). Ranks that compute together are one group and get the same share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from easyvideor1.packing.balance import MicroBatchRows
from easyvideor1.policy.update_batch import BackwardResult, Observations, UpdateBatch
from easyvideor1.training.ranks.wire import Sender
from easyvideor1.types import Prompt, Turn

#: Numbers of the tokens of every turn, by its number.
ByTurn = dict[int, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A group's part of a pass; a group may have none.

    Attributes:
        what: an update or turns, with the turns of this share alone, numbered anew and in order.
        micro_batches: with these numbers.
        numbers: int64 ``(M,)``, those that its turns have in the whole pass.
    """

    what: UpdateBatch | Sequence[Turn]
    micro_batches: list[MicroBatchRows]
    numbers: torch.Tensor

    @classmethod
    def of(cls, what: UpdateBatch | Sequence[Turn], micro_batches: Sequence[MicroBatchRows]) -> Share:
        """The share of ``what`` that some micro-batches of its plan make up."""
        every = sorted({number for rows in micro_batches for row in rows for number in row.sequences})
        place = {number: own for own, number in enumerate(every)}
        renumbered = [
            [replace(row, sequences=tuple(place[number] for number in row.sequences)) for row in rows]
            for rows in micro_batches
        ]
        part = what.part(every) if isinstance(what, UpdateBatch) else [what[number] for number in every]
        return cls(part, renumbered, torch.tensor(every, dtype=torch.int64))

    @property
    def arguments(self) -> tuple[UpdateBatch | Sequence[Turn], list[MicroBatchRows]]:
        """What a method of the policy is called with."""
        return self.what, self.micro_batches

    def prompts(self) -> Iterator[Prompt]:
        """Of every turn."""
        return (turn.prompt for rows in self.micro_batches for row in rows for turn in row.turns)


class ShareSender:
    """Packs the shares of passes for groups of ranks, each with a ``Receiver`` of its own.

    A pass with a prompt that the one before was not about begins a rollout: what else was sent is dropped then, by all
    groups. So the passes of a step send a prompt to a group once, though its turns change groups between them.
    """

    def __init__(self, groups: Iterable[int]) -> None:
        self._senders = {group: Sender() for group in groups}
        self._prompts: dict[int, Prompt] = {}  # by identity; the object is kept, so that it stays its own

    def pack(self, shares: Sequence[Share]) -> Iterator[tuple[int, bytes]]:
        """Groups and their packed arguments, one after the other; ``shares`` are those of all groups."""
        prompts = {id(prompt): prompt for share in shares for prompt in share.prompts()}
        if anew := not prompts.keys() <= self._prompts.keys():
            self._prompts = prompts
        for group, sender in self._senders.items():
            yield group, sender.pack(shares[group].arguments, anew=anew)


def joined_turns(parts: Sequence[ByTurn], shares: Sequence[Share]) -> ByTurn:
    """What is known by turn, of all turns and in their order; ``shares`` are those of the parts, in their order."""
    pairs = zip(parts, (share.numbers.tolist() for share in shares), strict=True)
    return dict(sorted((numbers[own], values) for part, numbers in pairs for own, values in part.items()))


def joined_results(parts: Sequence[BackwardResult], shares: Sequence[Share]) -> BackwardResult:
    """The result of an update from those of its shares."""
    seen = [
        replace(part.observations, turn=share.numbers[part.observations.turn])
        for part, share in zip(parts, shares, strict=True)
    ]
    return BackwardResult(Observations.joined(seen), summed([part.sums for part in parts]))


def summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums of metrics over shares, each of which may have other ones."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part[name] for part in parts if name in part) for name in names}
