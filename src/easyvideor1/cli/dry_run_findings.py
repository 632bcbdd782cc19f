"""What a dry run has found: the state that its parts share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from easyvideor1.types import EasyVideoError

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import RunConfig, StageConfig
    from easyvideor1.data import Loaded, SampleStream
    from easyvideor1.types import Sample


@dataclass
class DryRun:
    """What a dry run has found so far.

    ``problems`` would stop the run or make it useless, and fail the command; ``unchecked`` is what could not be looked
    at, and why. ``planned`` has the stages whose steps and samples are known.
    """

    config: RunConfig
    components: Components
    counted: Mapping[str, int] = field(default_factory=dict)
    loaded: dict[str, list[Loaded]] = field(default_factory=dict)
    planned: list[tuple[StageConfig, SampleStream, list[Loaded]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    #: Bytes that the run would write: of missing frames, and of the largest number of checkpoints.
    frame_bytes: int = 0
    checkpoint_bytes: int = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """An error of the block becomes a problem, once; what follows the block goes on."""
        try:
            yield
        except EasyVideoError as error:
            self.problem(str(error))

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def samples(self) -> list[Sample]:
        """All that were read, of all splits."""
        return [sample for split in self.loaded.values() for source in split for sample in source.samples]
