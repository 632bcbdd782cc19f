"""What all sections of the configuration share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Changeable:
    """Marks an option, or a whole section, that does not identify a run: it may change between two starts."""


#: ``save_every: Annotated[int, CHANGEABLE]``.
CHANGEABLE = Changeable()


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key is an error, and so is an infinite number but where allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """Directory of the YAML file that a configuration was read from, if it was. No setting: all origins are equal."""

    folder: Path | None = field(default=None, compare=False)


def identifies(section: type[Section], key: str) -> bool:
    """Whether the option under a dotted key (``stages.0.save_every``) is part of what identifies a run.

    A key that is unknown, or of a section that is chosen by a name, does.
    """
    within: type[BaseModel] | None = section
    for part in key.split("."):
        if part.isdigit():
            continue
        field = None if within is None else within.model_fields.get(part)
        if field is None:
            return True
        if any(isinstance(mark, Changeable) for mark in field.metadata):
            return False
        kinds = (field.annotation, *get_args(field.annotation))
        within = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return True


def require_order(section: Section, low: str, high: str) -> None:
    least, most = getattr(section, low), getattr(section, high)
    if least > most:
        raise ValueError(f"{low} ({least}) is larger than {high} ({most}); lower the first or raise the second")
