"""Templates of report pages: one self-contained HTML file, in which everything from data or from a model is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_PLACEHOLDER = re.compile("&lt;(image|video)&gt;")
#: Control characters, which HTML does not allow, but for tab and line feed.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_NONE = "\N{EN DASH}"


def render(template: str, **values: Any) -> str:
    """The HTML that a file of ``templates`` makes of values.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not there.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """One for all pages: it keeps its templates compiled."""
    return page_environment()


def page_environment(*packages: str) -> Environment:
    """Templates of ``packages`` and of this one, with its filters."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "easyvideor1.evaluation")]),
    )
    environment.filters |= {"percent": percent, "number": number, "duration": duration, "kind": kind, "words": words}
    environment.filters |= {"columns": columns, "placeholders": placeholders, "clean": clean}
    return environment


def percent(value: float | None, digits: int = 1) -> str:
    """``0.5`` as ``50.0``; a dash for no value."""
    return _NONE if value is None else f"{100 * value:.{digits}f}"


def number(value: object, digits: int = 3) -> str:
    """A number in few digits; a dash for no value; anything else as it is."""
    if value is None:
        return _NONE
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as text: ``2 min 05 s``."""
    if seconds is None:
        return _NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def kind(value: object) -> str:
    """How the template shows a value of a JSON file: as a table of keys, a table of rows, a list or text."""
    if isinstance(value, Mapping):
        return "mapping"
    if isinstance(value, list | tuple) and value:
        return "rows" if all(isinstance(item, Mapping) for item in value) else "list"
    return "text"


def words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def placeholders(question: str) -> Markup:
    """A question, escaped, with its media placeholders as small marks."""
    return Markup(_PLACEHOLDER.sub(r'<span class="mark">\1</span>', str(escape(question))))


def columns(rows: list[Mapping[str, Any]]) -> list[str]:
    """All keys of the rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def clean(text: str) -> str:
    """A text of a model or a row as a page can show it: without characters that control a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
