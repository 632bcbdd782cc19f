"""The page of all commands, made from what typer knows of them."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

_HEAD = """# Commands

Every command with its arguments and options. This page is made from the command line itself by `make docs`; edit the
functions in `src/easyvideor1/cli/`, not this page.

`evr1 COMMAND --help` prints the same in a terminal. The exit status is 0 on success, 1 when a check failed, 2 for an
error that the message explains, 3 when work stopped for an external cause and can resume, and 130 after Ctrl-C.
`--debug` shows the traceback of an error. Settings of a configuration are written without dashes, as `KEY=VALUE`
([configuration](../configuration.md)).
"""


def command_page() -> str:
    """The page as Markdown."""
    import typer

    from easyvideor1.cli.app import app

    commands = list(_commands(typer.main.get_command(app), ("evr1",)))
    parts = [_HEAD, _table(commands)]
    parts += [_section(words, command) for words, command in commands]
    return "\n".join(parts)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, each in inner.items():
        if not each.hidden:
            yield from _commands(each, (*words, name))


def _table(commands: list[tuple[tuple[str, ...], Any]]) -> str:
    rows = [
        f"| [`{' '.join(words)}`](#{'-'.join(words)}) | {_cell(_paragraphs(command)[0])} |"
        for words, command in commands
    ]
    return "\n".join(["| command | what it does |", "|---|---|", *rows, ""])


def _section(words: tuple[str, ...], command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument" and not one.hidden]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([*words, *(["[OPTIONS]"] if options else []), *map(_metavar, arguments)])
    lines = [f"## {' '.join(words)}", "", "```text", usage, "```", ""]
    for paragraph in _paragraphs(command):
        lines += [paragraph, ""]
    if arguments:
        lines += ["| argument | what |", "|---|---|"]
        lines += [f"| `{_cell(_metavar(one))}` | {_cell(one.help or '')} |" for one in arguments]
        lines += [""]
    if options:
        lines += ["| option | value | default | what |", "|---|---|---|---|"]
        kinds = value_types(command)
        lines += [_option(one, kinds.get(one.name, str)) for one in options]
        lines += [""]
    return "\n".join(lines)


def _paragraphs(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("``", "`")
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def value_types(command: Any) -> dict[str, Any]:
    """The type of each parameter of a command by its name, without ``Annotated`` and ``None``.

    It is that of the function: what typer calls it differs between its versions.
    """
    return {name: _plain(hint) for name, hint in typing.get_type_hints(inspect.unwrap(command.callback)).items()}


def _plain(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [one for one in typing.get_args(hint) if one is not type(None)]
    return hint


def choices_of(kind: Any) -> tuple[str, ...]:
    """What may be chosen; empty where anything of the type may be given."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(one.value) for one in kind)
    return tuple(map(str, typing.get_args(kind))) if typing.get_origin(kind) is Literal else ()


def _option(option: Any, kind: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    flag = kind is bool or option.name == "help"
    value = "" if flag else f"`{_cell(option.metavar or _kind(kind))}`"
    default = option.default() if callable(option.default) else option.default
    default = getattr(default, "value", default)
    told = "" if flag or default in (None, "", (), []) else f"`{_cell(str(default))}`"
    if option.required:
        told = "required"
    more = " May be given several times." if typing.get_origin(kind) in (list, tuple) else ""
    return f"| {names} | {value} | {told} | {_cell((option.help or '') + more)} |"


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) in (list, tuple):
        kind = _plain(typing.get_args(kind)[0])
    names = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return "|".join(choices_of(kind)) or names.get(kind, "TEXT")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
