"""A model that is to be planned with and not run: what its directory lacks, and stand-ins for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig


@dataclass(frozen=True, slots=True)
class ModelShape:
    """``missing`` are the parts that the checkpoint lacks (``families.stand_in.missing_parts``).

    ``stand_in`` is a checkpoint with stand-ins for tokenizer or processor settings, ``None`` where these are there.
    """

    missing: tuple[str, ...]
    stand_in: Path | None

    @property
    def exact(self) -> bool:
        """Whether prompts are made by the tokenizer of the model."""
        return "tokenizer" not in self.missing


def open_shape(config: RunConfig, scratch: Path, corpus: Sequence[str]) -> ModelShape:
    """Look at ``config.model.path``, and write stand-ins into ``scratch`` if they are needed.

    Args:
        config: of the run, ``located``.
        scratch: a temporary directory.
        corpus: texts that a stand-in tokenizer is trained on.

    Raises:
        ConfigError: there is no checkpoint, it is of no known family, or no stand-in is known for what it lacks.
    """
    from easyvideor1.components import Components
    from easyvideor1.families.family import configured_family
    from easyvideor1.families.stand_in import has_stand_ins, missing_parts, write_stand_ins
    from easyvideor1.types import ConfigError

    with Components.open(config) as components:
        checkpoint = components.located_checkpoint()
    missing = missing_parts(checkpoint)
    lacking = [part for part in missing if part != "weights"]
    if not lacking:
        return ModelShape(missing, None)
    if not has_stand_ins(checkpoint):
        raise ConfigError(
            f"model.path {str(checkpoint)!r} has no {' and no '.join(lacking)}, and there is no stand-in for a model "
            "of its family; fetch these files of the checkpoint"
        )
    shape = write_stand_ins(checkpoint, scratch / "shape", corpus)
    configured_family(config.model, shape)
    return ModelShape(missing, shape)
