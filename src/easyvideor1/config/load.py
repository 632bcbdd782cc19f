"""A YAML file or a shipped recipe, plus overrides, becomes a ``RunConfig``; every mistake is told with its place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from easyvideor1.config import yaml_source
from easyvideor1.config.base import ByName
from easyvideor1.config.bases import BASE, Written, with_bases
from easyvideor1.config.keys import dotted, is_list_at, mark_at
from easyvideor1.config.moved_keys import moved_to
from easyvideor1.config.paths import path_advice
from easyvideor1.config.schema import RunConfig
from easyvideor1.config.shipped import RECIPE_FILE, composed_text, real_advice, recipe_file, recipe_name, recipes
from easyvideor1.config.suggest import nearest, shown_key, suggest, unused
from easyvideor1.config.yaml_source import Keys, Source, describe
from easyvideor1.types import ConfigError


def load_config(path_or_recipe: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration. Paths in it stay as they are written; ``located`` finds them, beside the file as well.

    Args:
        path_or_recipe: a YAML file, a directory with a ``recipe.yaml``, or the name of a recipe that the package ships
            (``NAME`` or ``recipes/NAME``).
        overrides: ``a.b.c=value`` with the value in YAML. Items of lists go by index (``stages.0.steps=5``, the next
            free index appends) and stages also by name (``stages.grpo.steps=5``).

    Raises:
        ConfigError: there is no such file, it is no YAML, or keys or values are wrong. All wrong keys and values are
            told at once, each with ``file:line`` or its override.
    """
    written = _read(str(path_or_recipe))
    config = _parse(written, overrides)
    if Path(written.name).is_file():  # no shipped recipe
        config.set_origin(Path(written.name).parent)
    return config


def parse_config(text: str, name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """``load_config`` for text already at hand; ``name`` is what messages call it."""
    return _parse(Written(name, text), overrides)


def read_over_bases(path_or_recipe: str | Path) -> tuple[Source, dict[str, str]]:
    """The values of what ``load_config`` reads with the place of each, and the texts that they are from, by name.

    Raises:
        ConfigError: there is no such file or base, or it is no YAML.
    """
    written = _read(str(path_or_recipe))
    texts = {written.name: written.text}

    def find(named: str, folder: Path | None) -> Written:
        found = _base(named, folder)
        texts[found.name] = found.text
        return found

    return with_bases(written, find), texts


def _parse(written: Written, overrides: Sequence[str]) -> RunConfig:
    source = with_bases(written, _base)
    marks = dict(source.marks)
    for override in overrides:
        _apply(source.values, marks, override)
    return validate(Source(source.values, marks))


def validate(source: Source) -> RunConfig:
    """Check values against the schema.

    Raises:
        ConfigError: one line per wrong key or value.
    """
    try:
        # Strict, so that '5' is no number and 1 no boolean; by way of JSON, whose lists may become tuples.
        return RunConfig.model_validate_json(json.dumps(source.values), strict=True)
    except ValidationError as error:
        problems = [_explain(dict(problem), source) for problem in error.errors(include_url=False)]
    if {"worker", "algorithm", "trainer"} & set(source.values):
        problems.append("this looks like EasyR1 or EasyVideoR1 YAML; translate it first: evr1 config migrate FILE")
    raise ConfigError("\n".join(dict.fromkeys(problems)))


def _base(named: str, folder: Path | None) -> Written:
    """What a base names: a file beside the one that names it or from the working directory, or a shipped recipe."""
    beside = None if folder is None else folder / named
    return _read(str(beside) if beside is not None and beside.is_file() else named)


def _read(path_or_recipe: str) -> Written:
    path = Path(path_or_recipe)
    if path.suffix.lower() in (".jsonl", ".json", ".parquet"):
        raise ConfigError(f"{path}: this is a file of rows, not a configuration; name it in data.train of a YAML file")
    if path.is_file():
        try:
            return Written(path_or_recipe, path.read_text(encoding="utf-8"), path.parent)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if path.is_dir() and (path / RECIPE_FILE).is_file():
        return _read(str(path / RECIPE_FILE))
    if (shipped := recipe_name(path_or_recipe)) is not None:
        file = recipe_file(shipped)
        if file is None:  # several names with + between them
            return Written(f"recipe {shipped}", composed_text(shipped))
        return Written(f"recipe {shipped}", file.read_text(encoding="utf-8"), file.parent)
    if path.is_dir():
        raise ConfigError(f"{path}: this is a directory; give the YAML file in it")
    if advice := real_advice(path_or_recipe):
        raise ConfigError(f"{path_or_recipe}: {advice}")
    known = ", ".join(recipes()) or "none"
    if path.suffix in (".yaml", ".yml") or os.sep in path_or_recipe:
        hint = path_advice(path_or_recipe, [path]) or f"shipped recipes by name: {known}"
        raise ConfigError(f"{path}: no such file (from {Path.cwd()}); {hint}")
    near = nearest(path_or_recipe, recipes())
    hint = f"did you mean {near[0]}?" if near else f"shipped recipes: {known}"
    raise ConfigError(f"{path_or_recipe!r} is neither a file nor a recipe: {hint}")


def _apply(values: dict[str, Any], marks: dict[Keys, str], override: str) -> None:
    """Set one override in ``values``, making the sections and lists on its way."""
    name = f"override {override!r}"
    dotted, equals, text = override.partition("=")
    words = dotted.strip().split(".")
    if not equals or not all(words):
        raise ConfigError(f"{name}: write it as key=value, for example stages.0.steps=5")
    value = yaml_source.parse_value(text, name)
    at: Any = values
    path: Keys = ()
    for position, word in enumerate(words):
        key = _step(at, path, word, name)
        path = (*path, key)
        last = position == len(words) - 1
        if not last and (mark := mark_at(path)) is not None:  # a word that stands for a section
            if isinstance(at, dict):
                at[key] = mark.expand(at.get(str(key)))
            elif isinstance(key, int) and key < len(at):
                at[key] = mark.expand(at[key])
        following: Any = value if last else _empty(path, words[position + 1])
        if isinstance(at, list) and key == len(at):
            at.append(following)
            marks[path] = name
        elif last or (isinstance(at, dict) and at.get(str(key)) is None):
            at[key] = following
            marks[path] = name
        if last:
            # What the file said below this key is gone, and so are its lines.
            for old in [mark for mark in marks if mark[: len(path)] == path and mark != path]:
                del marks[old]
        at = at[key]


def _step(at: Any, path: Keys, word: str, name: str) -> str | int:
    """The key or index that ``word`` means inside ``at``."""
    shown = dotted(path)
    if isinstance(at, dict):
        return word
    if not isinstance(at, list):
        raise ConfigError(f"{name}: {shown} holds {describe(at)} and has no {word!r} inside")
    if re.fullmatch(r"[0-9]+", word):
        if int(word) > len(at):
            raise ConfigError(f"{name}: {shown} has {len(at)} entries; the highest index that may be set is {len(at)}")
        return int(word)
    names = [str(item.get("name")) for item in at if isinstance(item, dict) and "name" in item]
    for index, item in enumerate(at):
        if isinstance(item, dict) and item.get("name") == word:
            return index
    known = f" or a name ({', '.join(names)})" if names else ""
    raise ConfigError(f"{name}: {shown} is a list of {len(at)}: say which entry by index{known}, got {word!r}")


def _empty(path: Keys, following: str) -> Any:
    """What to make at ``path`` when an override goes through it: the schema knows lists from sections."""
    known = is_list_at(path)
    return [] if (following.isdigit() if known is None else known) else {}


def _explain(problem: dict[str, Any], source: Source) -> str:
    """One pydantic error in words: where, which key, what was expected, what was found, what to do."""
    path = _without_names(problem["loc"])
    place, key = source.where(path), dotted(path)
    kind = problem["type"]
    if kind == "extra_forbidden":
        if new := moved_to(path, source.values):
            return f"{place}: {shown_key(path, source.values)} is now {shown_key(new, source.values)}"
        if reason := unused(path, source.values):
            return f"{place}: {shown_key(path, source.values)} {reason}"
        return f"{place}: unknown key {shown_key(path, source.values)}: {suggest(path, source.values)}"
    if kind == "missing":
        return f"{place}: {key} is required and not set"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{place}: {key}: {_unknown_name(path, problem['input'])}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {key}: {message}" if key else f"{place}: {message}"
    message = message.replace("Input should be ", "expected ", 1)
    for words, plain in _PLAIN_WORDS.items():
        message = message.replace(words, plain)
    found = problem["input"]
    hint = ""
    if isinstance(found, str) and kind == "literal_error":
        near = nearest(found, re.findall(r"'([^']*)'", message))
        hint = f"; did you mean {near[0]}?" if near else ""
    elif isinstance(found, bool | int | float) and kind == "string_type":
        hint = "; put it in quotes"
    elif isinstance(found, float) and kind == "int_type" and found.is_integer():
        hint = f"; write {int(found)}"
    elif path == ("stages",) and isinstance(found, dict):
        hint = f"; changes of stages by name need {BASE}: FILE, whose stages they change"
    return f"{place}: {key}: {message}, got {describe(found)}{hint}"


def _without_names(loc: Sequence[str | int]) -> Keys:
    """The way to a value without the names that pydantic puts behind sections whose class is chosen by name."""
    path: Keys = ()
    skip = False
    for key in loc:
        if not skip:
            path = (*path, key)
        skip = not skip and isinstance(mark_at(path), ByName)
    return path


def _unknown_name(path: Keys, found: object) -> str:
    """The message for a section whose name is in no table."""
    mark = mark_at(path)
    assert isinstance(mark, ByName)
    name = found.get("name") if isinstance(found, dict) else found
    if not isinstance(name, str):
        return f"expected a name, or a section with a name, got {describe(found)}"
    near = nearest(name, mark.names())
    own = "; your own goes in as module:attr" if mark.takes_custom else ""
    return (
        f"unknown name {name!r}: {f'did you mean {near[0]}? ' if near else ''}known are {', '.join(mark.names())}{own}"
    )


_PLAIN_WORDS = {
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "a valid dictionary": "a section",
    "an object": "a section",
}
