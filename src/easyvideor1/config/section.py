"""What all sections of the configuration share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Changeable:
    """Marks a field that does not identify a run: it may change in a run that has begun, which then resumes."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-identifies-run": False}


CHANGEABLE = Changeable()


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key is an error, and so is an infinite number but where allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """Directory of the YAML file that a configuration was read from, if it was. No setting: all origins are equal."""

    folder: Path | None = field(default=None, compare=False)


def require_order(section: Section, low: str, high: str) -> None:
    least, most = getattr(section, low), getattr(section, high)
    if least > most:
        raise ValueError(f"{low} ({least}) is larger than {high} ({most}); lower the first or raise the second")
