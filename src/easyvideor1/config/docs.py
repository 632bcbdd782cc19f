"""The configuration documents itself: a page of tables and a JSON schema, both made from the schema."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from easyvideor1.config.base import CUSTOM, ByName, Changeable, Shorthand, item_marker_of, marker_of
from easyvideor1.config.bases import BASE
from easyvideor1.config.keys import inner_models, is_list
from easyvideor1.config.schema import RunConfig
from easyvideor1.files import write_text

PAGE = "configuration.md"
SCHEMA = "config.schema.json"

_HEAD = """# Configuration

Every key of a run. This page is made from the schema by `make docs`; edit the docstrings in
`src/easyvideor1/config/`, not this page.

A configuration is a YAML file or the name of a shipped recipe. Any key can be set on the command line:

```bash
evr1 config show my.yaml seed=3 data.video.max_frames=16 stages.0.steps=50 stages.grpo.optimizer.lr=1e-6
```

Entries of lists go by index, stages also by name. YAML is read as version 1.2: `1e-6` is a number, and `yes`, `on` and
`12:30` are text. Unknown keys, wrong types and keys written twice are errors that name their line. `evr1 config show`
prints a configuration as it is read, with all defaults. `[]` in a heading stands for the index of a list.

`base:` names another configuration, or several, that a file lies over: a YAML file beside it, or a shipped recipe. The
file then says what differs:

```yaml
base: real/qwen3_vl_8b+lora      # or a list: the later lies over the earlier
data: {train: [{path: my_rows.jsonl}]}
stages: {grpo: {steps: 50}}      # stages of the base, by name; a list replaces them
rollout: {vllm: null}            # null takes a section of the base away
```

Sections are merged key by key; anything else replaces what the base says. `evr1 config show` prints the result, and
errors name the file and line that a value is from. Relative paths are looked for beside the file that is given, not
beside its bases.

Keys that say "required" must be in every entry of their list; all others may be left out. To train, a configuration
needs `model.path`, `data.train` and `stages` as well.

Most keys identify a run: a run directory is only resumed with the same values. Keys marked *changeable* change no
outcome (place, name, engine, caches, batch sizes in tokens, logging, warnings, saving): they may differ when a run
resumes.

`evr1 config migrate OLD.yaml -o NEW.yaml` rewrites a configuration of EasyR1, EasyVideoR1 or an earlier version. Keys
with a counterpart are converted; keys without one are listed with the reason, on the terminal and in the comments of
the new file. Keys that had no effect in the old file, such as the bounds of a filter that is off, have their own list.
`total_epochs` becomes the `epochs` of a stage. EasyR1 drops the last incomplete batch of an epoch, so the step count
here can be larger. The new file asks for the GPUs of the old one, with a rank and an engine of vLLM on each, placed by
Ray. To run it in one process, delete `cluster`; `engine`, `vllm`, `workers`, `placement` and `gpus_per_worker` of
`rollout`; and `parameters` of `model.offload`.
"""


def configuration_page() -> str:
    """The page of all keys, as Markdown: one table per section with key, type, default and meaning."""
    places: dict[type[BaseModel], list[str]] = {}
    marks: dict[str, ByName] = {}
    for model, place, mark in _sections(RunConfig, "", None):
        places.setdefault(model, []).append(place)
        if mark is not None:
            marks[place] = mark
    parts = [_HEAD]
    for model, where in places.items():
        title = ", ".join(f"`{place}`" for place in where if place) or "Top level"
        if where[0] in marks:
            head, rows = (
                "| key | read by | type | default | what |\n|---|---|---|---|---|",
                _rows_by_name(marks[where[0]]),
            )
        else:
            head = "| key | type | default | what |\n|---|---|---|---|"
            rows = [_row(name, field) for name, field in model.model_fields.items()]
        text = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
        parts.append(f"## {title}\n\n{text}\n\n" + "\n".join([head, *rows]) + "\n")
    return "\n".join(parts)


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a configuration, for editors that complete and check YAML."""
    schema = RunConfig.model_json_schema()
    one = {"type": "string", "minLength": 1}
    schema["properties"][BASE] = {
        "anyOf": [one, {"type": "array", "minItems": 1, "items": one}],
        "description": "What the file lies over: YAML files, or shipped recipes.",
    }
    stages = schema["properties"]["stages"]
    changes = {"type": "object", "description": "Changes of the stages of the base, by name."}
    schema["properties"]["stages"] = {
        **{key: stages[key] for key in ("default", "description", "title") if key in stages},
        "anyOf": [{key: value for key, value in stages.items() if key not in ("default", "description")}, changes],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def json_schema_text() -> str:
    """``json_schema`` as it is written to disk."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_documents(directory: Path) -> tuple[Path, ...]:
    """Write the page and the schema to ``directory``; both paths are returned."""
    page, schema = directory / PAGE, directory / SCHEMA
    write_text(page, configuration_page())
    write_text(schema, json_schema_text())
    return page, schema


def stale_documents(directory: Path) -> tuple[Path, ...]:
    """The files in ``directory`` that are missing or do not say what the schema says."""
    stale: list[Path] = []
    page, schema = directory / PAGE, directory / SCHEMA
    if not page.is_file() or page.read_text(encoding="utf-8") != configuration_page():
        stale.append(page)
    # Compared as values: how a schema is spelled is pydantic's affair and differs between its versions.
    if not schema.is_file() or _parsed(schema) != json_schema():
        stale.append(schema)
    return tuple(stale)


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None  # not JSON, so not what the schema says: the caller calls it stale


def _sections(
    model: type[BaseModel], place: str, mark: ByName | None
) -> Iterator[tuple[type[BaseModel], str, ByName | None]]:
    """Every section, its place, and its mark where its class is chosen by name; such a section comes once."""
    yield model, place, mark
    for name, field in model.model_fields.items():
        inside = f"{place}.{name}" if place else name
        chosen = marker_of(field)
        if isinstance(chosen, ByName):
            assert isinstance(field.annotation, type)
            yield from _sections(field.annotation, inside, chosen)
            continue
        if isinstance(of_items := item_marker_of(field), ByName):
            item = typing.get_args(typing.get_args(field.annotation)[0])[0]
            yield from _sections(item, f"{inside}[]", of_items)
            continue
        for inner in inner_models(field):
            yield from _sections(inner, f"{inside}[]" if is_list(field.annotation) else inside, None)


def _rows_by_name(mark: ByName) -> list[str]:
    """One row for each key of the classes of a section that are chosen by name, with the names that read it."""
    readers: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for name, model in mark.classes.items():
        for key, field in model.model_fields.items():
            row = _row(key, field, "READERS")
            fields.setdefault(row, field)
            if name != CUSTOM:
                readers.setdefault(row, []).append(f"`{name}`")
    rows = []
    for row in fields:
        names = readers.get(row, [])
        every = len(names) == len(mark.names())
        if row.startswith("| `name` "):
            words = " or ".join(names) + (" or `module:attr`" if mark.takes_custom else "")
            default = f"`{json.dumps(mark.default)}`" if mark.default else "required"
            row = row.replace("| text | required |", f"| {words} | {default} |")
            every = True
        rows.append(row.replace("READERS", "all" if every else ", ".join(names)))
    return rows


def _row(name: str, field: FieldInfo, *further: str) -> str:
    what = " ".join((field.description or "").split()).replace("``", "`")
    if any(isinstance(mark, Changeable) for mark in field.metadata):
        what += " (*changeable*)"
    cells = [f"`{name}`", *further, _type(field), _default(field), what]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    mark = marker_of(field)
    if isinstance(mark, Shorthand):
        return f"section, or its {mark.key}"
    if (of_items := item_marker_of(field)) is not None:
        return f"list of (section, or its {of_items.key})"
    return type_words(field.annotation, field.metadata)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "see below"
    if isinstance(default, tuple):
        default = list(default)
    return f"`{json.dumps(default, ensure_ascii=False)}`"


_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def type_words(annotation: Any, metadata: typing.Sequence[object] = ()) -> str:
    """An annotation in words for people who do not write Python, such as ``integer > 0 or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner: list[object] = []
        for extra in arguments[1:]:
            inner += extra.metadata if isinstance(extra, FieldInfo) else [extra]
        return type_words(arguments[0], [*inner, *metadata])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(argument) for argument in arguments)
    if origin in (tuple, list):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"list of {len(arguments)}: " + ", ".join(type_words(argument) for argument in arguments)
        words = type_words(arguments[0])
        return f"list of ({words})" if " or " in words else f"list of {words}"
    if origin is dict:
        return f"section of {type_words(arguments[0])} to {type_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    limits = [
        f"{sign} {getattr(bound, name)}"
        for bound in metadata
        for name, sign in _SIGNS.items()
        if getattr(bound, name, None) is not None
    ]
    name = _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{name} {' and '.join(limits)}" if limits else name
