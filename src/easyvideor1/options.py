"""Options of functions and classes that a configuration names: declared beside them, checked before they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from easyvideor1.types import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def with_options(model: type[BaseModel]) -> Callable[[F], F]:
    """Decorator that declares the options of a function of your own, as its attribute ``Options``.

    The keys beside its ``name`` in the configuration are checked against this pydantic model, and the function gets an
    instance of it.
    """

    def declare(function: F) -> F:
        function.Options = model  # type: ignore[attr-defined]
        return function

    return declare


def own_options(function: object, chosen: BaseModel, place: str = "options") -> Any:
    """The options that a function is given.

    Args:
        function: of the package, or the user's own.
        chosen: the section of the configuration that names it.
        place: what messages call that section.

    Returns:
        An instance of the model that the function declared (``with_options``); without one, ``chosen`` itself.

    Raises:
        ConfigError: a key is not one of the declared model, or its value is wrong.
    """
    model: type[BaseModel] | None = getattr(function, "Options", None)
    if model is None:
        return chosen
    given = chosen.model_extra or {}
    known = list(model.model_fields)
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"{place}.{unknown[0]}: unknown key; valid keys here: {', '.join(known) or 'none'}")
    try:
        return model.model_validate({name: getattr(chosen, name) for name in chosen.model_fields_set if name in known})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, (place, *problem["loc"])))
        raise ConfigError(f"{key}: {problem['msg']}") from error
