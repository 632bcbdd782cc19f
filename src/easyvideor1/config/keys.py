"""What the schema says of keys: which there are, and what may stand under each."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from easyvideor1.config.base import ByName, Changeable, Shorthand, item_marker_of, marker_of
from easyvideor1.config.schema import RunConfig
from easyvideor1.config.yaml_source import Keys


def inner_models(field: FieldInfo) -> list[type[BaseModel]]:
    """The section classes of a field, such as the one of ``tuple[StageConfig, ...]``; every class of a ``ByName``."""
    mark = marker_of(field) or item_marker_of(field)
    if isinstance(mark, ByName):
        return list(dict.fromkeys(mark.classes.values()))
    return list(_models_inside(field.annotation))


def is_list(annotation: Any) -> bool:
    """Whether an annotation is that of a list."""
    return typing.get_origin(annotation) in (tuple, list)


def fields_at(path: Keys) -> list[FieldInfo]:
    """What the schema says of the key at the end of ``path``: nothing, one field, or one of each class of a ``ByName``.

    Indices of lists are part of a path, but not its end.
    """
    models: list[type[BaseModel]] = [RunConfig]
    fields: list[FieldInfo] = []
    for key in path:
        if isinstance(key, int):
            continue
        fields = [model.model_fields[key] for model in models if key in model.model_fields]
        models = [model for field in fields for model in inner_models(field)]
    return fields


def identifies_run(path: Keys) -> bool:
    """Whether the value at ``path`` tells one run from another; if not, it may change in a run that has begun."""
    above = (path[:length] for length in range(1, len(path) + 1))
    return not any(
        isinstance(mark, Changeable) for each in above for field in fields_at(each) for mark in field.metadata
    )


def mark_at(path: Keys) -> Shorthand | None:
    """The mark of the section at ``path``, if a word may stand for it."""
    find = item_marker_of if path and isinstance(path[-1], int) else marker_of
    return next((find(field) for field in fields_at(path)), None)


def is_list_at(path: Keys) -> bool | None:
    """Whether there is a list at ``path``; None where the schema says nothing."""
    if path and isinstance(path[-1], int):
        return False
    return next((is_list(_without_null(field.annotation)) for field in fields_at(path)), None)


def is_required_section(path: Keys) -> bool:
    """Whether there is a section at ``path`` that cannot be null."""
    fields = fields_at(path)
    return bool(fields) and all(
        inner_models(field) and not is_list(field.annotation) and type(None) not in typing.get_args(field.annotation)
        for field in fields
    )


def keys_at(path: Keys, name: object = None) -> list[str]:
    """The keys of the section at ``path``; none where there is no section.

    Where classes are chosen by name, they are those of the class for ``name``, or of all classes if there is none.
    """
    if is_list_at(path):
        return []
    mark = mark_at(path)
    chosen = mark.class_of(name) if isinstance(mark, ByName) else None
    models = (
        [chosen] if chosen else [m for field in fields_at(path) for m in inner_models(field)] if path else [RunConfig]
    )
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def all_keys(model: type[BaseModel] = RunConfig, above: Keys = ()) -> list[Keys]:
    """The way to every key of the schema; entries of lists show as 0."""
    return list(dict.fromkeys(_all_keys(model, above)))


def _all_keys(model: type[BaseModel], above: Keys) -> Iterator[Keys]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        inside = (*path, 0) if is_list(field.annotation) else path
        for inner in inner_models(field):
            yield from _all_keys(inner, inside)


def keys_of(text: str) -> Keys:
    """The way that ``dotted`` wrote."""
    return tuple(int(word) if word.isdigit() else word for word in text.split("."))


def dotted(path: Keys) -> str:
    """A way to a value, as overrides write it."""
    return ".".join(map(str, path))


def _models_inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_inside(argument)


def _without_null(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((a for a in typing.get_args(annotation) if a is not type(None)), None)
    return annotation
