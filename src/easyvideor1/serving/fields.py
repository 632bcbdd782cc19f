"""Read the fields of a JSON object by kind; what is of another kind is refused by name."""

from __future__ import annotations

import json
from typing import Any

from easyvideor1.serving.errors import RequestError

Fields = dict[str, Any]

_SHOWN = 60


class FieldReader:
    """The fields of an object; ``known`` are the names that were asked for."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.known: set[str] = set()

    def any(self, name: str) -> Any:
        """A value of any kind; None if it is missing."""
        self.known.add(name)
        return self._fields.get(name)

    def flag(self, name: str) -> bool:
        return bool(self._of_kind(name, bool, "true or false"))

    def text(self, name: str) -> str:
        value = self._of_kind(name, str, "a string") or ""
        check_text(value, name)
        return str(value)

    def list(self, name: str) -> Any:
        return self._of_kind(name, list, "a list") or []

    def object(self, name: str) -> Fields:
        return dict(self._of_kind(name, dict, "an object") or {})

    def _of_kind(self, name: str, kind: type, wanted: str) -> Any:
        value = self.any(name)
        if value is not None and not isinstance(value, kind):
            raise wrong(name, value, wanted)
        return value

    def whole(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number from ``low`` to ``high``."""
        value = self.any(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        value = self.any(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)


def check_text(text: str, where: str) -> None:
    """Refuse what no tokenizer can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        what = f"{where} holds half of a surrogate pair, which is no character; send valid Unicode"
        raise RequestError(what, param=where, code="invalid_value") from None


def wrong(name: str, value: Any, wanted: str) -> RequestError:
    """The error of a field that is not what is ``wanted``."""
    return RequestError(f"{name} is {in_words(value)}, not {wanted}", param=name, code="invalid_value")


def in_words(value: Any) -> str:
    """A value in few words: long ones by their kind."""
    if value is None:
        return "missing"
    if isinstance(value, str | int | float):
        shown = json.dumps(value)
        return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return "a list" if isinstance(value, list) else "an object"
