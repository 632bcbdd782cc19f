"""What all sections of the configuration share: their base class, marks, and options chosen by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Changeable:
    """Marks a field that does not identify a run: it may change in a run that has begun, which then resumes."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-identifies-run": False}


CHANGEABLE = Changeable()


class BaseConfig(BaseModel):
    """Base of all sections: frozen; an unknown key is an error, and so is an infinite number but where allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def unused(self, keys: list[str], wanted: str) -> Iterator[str]:
        """A sentence for each of ``keys`` that differs from its default, where nothing reads them."""
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                yield f"{key} would have no effect: it goes with {wanted}; set that, or leave out {key}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Directory of the YAML file that a configuration was read from, if it was. No setting: all origins are equal."""

    folder: Path | None = field(default=None, compare=False)


def require_order(section: BaseConfig, low: str, high: str) -> None:
    least, most = getattr(section, low), getattr(section, high)
    if least > most:
        raise ValueError(f"{low} ({least}) is larger than {high} ({most}); lower the first or raise the second")


def as_tuples(value: Any) -> Any:
    """Lists as tuples, at any depth. A section whose class is chosen by name is no longer JSON when it is checked, and
    then a list is no tuple (pydantic's strict mode)."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


#: What stands in a table for every ``module:attr``.
CUSTOM = "module:attr"


@dataclass(frozen=True)
class Shorthand:
    """Marks a section that a word may stand for: ``kl: k3`` is short for ``kl: {estimator: k3}``, with ``key`` the
    key that the word is the value of."""

    key: str

    def expand(self, value: Any) -> Any:
        """The section that a word stands for; anything else as it is."""
        return {self.key: value} if isinstance(value, str) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


@dataclass(frozen=True)
class ByName(Shorthand):
    """Marks a section whose class is chosen by its ``name``; a word stands for the name alone.

    ``classes`` is the table of names. Where it has ``CUSTOM``, that class is for every name with a colon. A section
    without a name has the name ``default``.
    """

    key: str = "name"
    default: str = ""
    classes: Mapping[str, type[BaseConfig]] = field(default_factory=dict, hash=False)

    def expand(self, value: Any) -> Any:
        value = super().expand(value)
        return {"name": self.default, **value} if isinstance(value, dict) and "name" not in value else value

    def entry(self, name: object) -> object:
        """The entry of ``classes`` for a name: the name itself, or ``CUSTOM``."""
        return CUSTOM if isinstance(name, str) and ":" in name else name

    def class_of(self, name: object) -> type[BaseConfig] | None:
        """The class for a name, or ``None`` if there is none."""
        return self.classes.get(str(self.entry(name)))

    @property
    def takes_custom(self) -> bool:
        """Whether a name may be ``module:attr``."""
        return CUSTOM in self.classes

    def names(self) -> list[str]:
        """The names of the table."""
        return [name for name in self.classes if name != CUSTOM]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(each) for name, each in self.classes.items()}
        return core_schema.no_info_before_validator_function(
            self.expand, core_schema.tagged_union_schema(choices, self._tag)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        words: list[JsonSchemaValue] = [{"enum": self.names()}]
        if self.takes_custom:
            words.append({"type": "string", "pattern": ":"})
        return {"anyOf": [*words, handler(schema)]}

    def _tag(self, value: Any) -> Any:
        return self.entry(value.get("name") if isinstance(value, dict) else getattr(value, "name", None))


def marker_of(field: FieldInfo) -> Shorthand | None:
    """The mark of a field, if it has one."""
    return next((mark for mark in field.metadata if isinstance(mark, Shorthand)), None)


def item_marker_of(field: FieldInfo) -> Shorthand | None:
    """The mark of the items of a list, if they have one."""
    items = [item for item in get_args(field.annotation) if get_origin(item) is Annotated]
    return next((mark for item in items for mark in item.__metadata__ if isinstance(mark, Shorthand)), None)
