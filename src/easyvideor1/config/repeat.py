"""Loops of stages: an entry ``{repeat: 2, stages: [...]}`` of ``stages`` stands for its stages, so many times over.

They are written out before anything else reads them: a run has stages one after the other, each with a name, a
directory and a seed of its own. Those of the second round are called ``NAME-2``, and so on. Where a stage names another
one of the loop, it means that of its own round.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from easyvideor1.config.yaml_source import Keys, Source, describe
from easyvideor1.types import ConfigError

_KEYS = {"repeat", "stages"}


def is_loop(entry: object) -> bool:
    """Whether an entry of ``stages`` is a loop."""
    return isinstance(entry, Mapping) and "repeat" in entry


def loop_fault(entry: Mapping[str, Any]) -> str:
    """What is wrong with a loop; empty if nothing is."""
    count, stages = entry["repeat"], entry.get("stages")
    if unknown := sorted(set(entry) - _KEYS):
        return f"a loop has the keys repeat and stages alone, got {unknown[0]}; set it in the stages of the loop"
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return f"repeat: expected a whole number of at least 1, got {describe(count)}"
    if not isinstance(stages, list | tuple) or not stages:
        got = f", got {describe(stages)}" if "stages" in entry else ""
        return f"a loop needs `stages`, a list of at least one stage{got}"
    if any(map(is_loop, stages)):
        return "repeat: a loop cannot have another one inside; write one of them out"
    return ""


def rounds(entry: Mapping[str, Any]) -> list[list[Any]]:
    """The stages of each round of a loop without fault, named and referring to each other as said above."""
    names = {stage["name"] for stage in entry["stages"] if isinstance(stage, Mapping) and "name" in stage}
    return [[_of_round(stage, number, names) for stage in entry["stages"]] for number in range(1, entry["repeat"] + 1)]


def _of_round(stage: Any, number: int, names: set[Any]) -> Any:
    stage = deepcopy(stage)
    if number == 1 or not isinstance(stage, dict):
        return stage
    if isinstance(stage.get("name"), str):
        stage["name"] = f"{stage['name']}-{number}"
    read = stage.get("rollouts")
    if isinstance(read, dict) and isinstance(read.get("stages"), list | tuple):
        read["stages"] = [f"{name}-{number}" if name in names else name for name in read["stages"]]
    return stage


def written_out(source: Source) -> Source:
    """A configuration with its loops written out; every value keeps the place where it was written.

    Raises:
        ConfigError: a loop is wrong, or makes a name that another stage has; the message says where.
    """
    stages = source.values.get("stages")
    if not isinstance(stages, list) or not any(map(is_loop, stages)):
        return source
    flat: list[Any] = []
    made: set[int] = set()
    marks = {path: mark for path, mark in source.marks.items() if path[:1] != ("stages",) or len(path) < 2}
    for index, entry in enumerate(stages):
        below: Keys = ("stages", index)
        if not is_loop(entry):
            _move(source.marks, below, ("stages", len(flat)), marks)
            flat.append(entry)
            continue
        if fault := loop_fault(entry):
            raise ConfigError(f"{source.where((*below, 'repeat'))}: stages.{index}: {fault}")
        for number, round_ in enumerate(rounds(entry)):
            for place, stage in enumerate(round_):
                if number:
                    made.add(len(flat))
                _move(source.marks, (*below, "stages", place), ("stages", len(flat)), marks)
                flat.append(stage)
    found = Source({**source.values, "stages": flat}, marks)
    _check_names(found, made)
    return found


def _check_names(source: Source, made: set[int]) -> None:
    """Refuse a stage with the name of one of those that a loop has ``made`` (places in the list)."""
    names: dict[str, int] = {}
    for place, stage in enumerate(source.values["stages"]):
        name = stage.get("name") if isinstance(stage, Mapping) else None
        if not isinstance(name, str):
            continue
        other = names.setdefault(name, place)
        if other == place or not made & {place, other}:
            continue
        of_loop, given = (place, other) if place in made else (other, place)
        where, loop = (source.where(("stages", index, "name")) for index in (given, of_loop))
        raise ConfigError(
            f"{where}: the name {name!r} is taken: the loop makes it for a further round of the stage of {loop}; "
            "choose another name for one of them"
        )


def _move(marks: Mapping[Keys, str], old: Keys, new: Keys, into: dict[Keys, str]) -> None:
    for path, mark in marks.items():
        if path[: len(old)] == old:
            into[(*new, *path[len(old) :])] = mark


@dataclass(frozen=True)
class Loops:
    """Marks the list of stages: the JSON schema, for editors, knows loops."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = handler(schema)
        stage = whole.get("items", {})
        loop = {
            "type": "object",
            "description": "A loop: its stages, so many times over.",
            "properties": {
                "repeat": {"type": "integer", "minimum": 1, "description": "How many times."},
                "stages": {"type": "array", "minItems": 1, "items": stage},
            },
            "required": ["repeat", "stages"],
            "additionalProperties": False,
        }
        return {**whole, "items": {"anyOf": [stage, loop]}}
