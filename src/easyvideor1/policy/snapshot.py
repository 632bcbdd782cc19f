"""What a checkpoint of a policy consists of, as it is at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from easyvideor1.families.weight_files import LazyTensor, write_tensors, write_weights
from easyvideor1.policy.gathering import Gathering


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file of tensors beside the weights, and text that goes with them."""

    name: str
    tensors: Mapping[str, LazyTensor]
    settings: Mapping[str, str] = field(default_factory=dict)


def _as_it_is(error: RuntimeError) -> Exception:
    return error


class Snapshot:
    """A checkpoint that is still to be written, by one rank; the others ``answer`` until it is.

    Args:
        gathering: where the tensors come from.
        weights: as checkpoints of the family name them.
        files: of other tensors.
        companions: files that are no tensors, by name.
    """

    def __init__(
        self,
        gathering: Gathering,
        weights: Mapping[str, LazyTensor],
        files: Sequence[TensorFile],
        companions: Mapping[str, bytes],
    ) -> None:
        self._gathering, self._weights, self._files, self._companions = gathering, weights, files, companions
        #: The error to raise where other ranks fail.
        self.explain: Callable[[RuntimeError], Exception] = _as_it_is

    def tell_each(self, on_tensor: Callable[[], None]) -> None:
        """Call ``on_tensor`` before each tensor, on any rank, from the thread that writes or answers."""
        self._gathering.on_tensor = on_tensor

    def write(self, directory: Path) -> None:
        """Write everything into an existing empty directory; one tensor at a time is made whole.

        Raises:
            OSError: the disk refused.
        """
        try:
            for name, content in self._companions.items():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).write_bytes(content)
            write_weights(directory, self._weights)
            for file in self._files:
                write_tensors(directory / file.name, file.tensors, file.settings)
        except RuntimeError as error:
            if (explained := self.explain(error)) is error:
                raise
            raise explained from error

    def answer(self) -> None:
        """Give what the rank that writes asks for, until it is done."""
        self._gathering.answer()
        self.close()

    def close(self) -> None:
        """Let go of the tensors, and of the ranks that answer; may be called again."""
        self._gathering.end()
