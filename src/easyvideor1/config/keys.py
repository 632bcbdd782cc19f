"""What the schema says of keys: which there are, and what may stand under each."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from easyvideor1.config.schema import RunConfig
from easyvideor1.config.source import Keys


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section classes inside an annotation such as ``tuple[StageConfig, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from inner_models(argument)


def annotation_at(path: Keys) -> Any:
    """The annotation that the schema gives ``path``, or None where it says nothing."""
    annotation: Any = RunConfig
    for key in path:
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next((a for a in typing.get_args(annotation) if a is not type(None)), None)
        if isinstance(key, int) or typing.get_origin(annotation) in (tuple, list):
            annotation = (*typing.get_args(annotation), None)[0]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and key in annotation.model_fields:
            annotation = annotation.model_fields[key].annotation
        else:
            return None
    return annotation


def keys_at(path: Keys) -> list[str]:
    """The keys of the section at ``path``; none where there is no section."""
    annotation = annotation_at(path)
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def all_keys(model: type[BaseModel] = RunConfig, above: Keys = ()) -> Iterator[Keys]:
    """The way to every key of the schema; entries of lists show as 0."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        inside = (*path, 0) if typing.get_origin(field.annotation) in (tuple, list) else path
        for inner in inner_models(field.annotation):
            yield from all_keys(inner, inside)


def dotted(path: Keys) -> str:
    """A way to a value, as overrides write it."""
    return ".".join(map(str, path))
