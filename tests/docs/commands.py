"""Commands of a page that are not run: they must exist, with their options and settings."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

from easyvideor1.cli.command_page import choices_of, value_types

from .blocks import ROOT


def check_commands(script: str) -> None:
    """Check a bash block without running it.

    Raises:
        ValueError: it is no bash, or names a command, an option, a setting or a file that does not exist.
    """
    parsed = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    if parsed.returncode:
        raise ValueError(f"not bash: {parsed.stderr.strip()}")
    for words in simple_commands(script):
        at = next((n for n, word in enumerate(words) if word == "evr1" or word.endswith("/evr1")), None)
        if at is not None:
            check_evr1(words[at + 1 :])
        elif words[:1] == ["make"]:
            _check_make(words[1:])
        elif words[0].endswith(("python", "python3")) and words[1:2] == ["-m"]:
            _check_module(words[2], words[3:])
        elif words[0].startswith("scripts/") and not (ROOT / words[0]).is_file():
            raise ValueError(f"{words[0]}: no such file")


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of every command of a script: without comments, here-documents, redirections and assignments."""
    for line in _logical_lines(script):
        words: list[str] = []
        # Operators as words of their own, outside of quotes.
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        skip = False
        for word in [*lexer, ";"]:
            if skip:
                skip = False
            elif word in (">", ">>", "<", "<<", ">&"):
                skip = True
            elif re.fullmatch(r"[;&|()]+", word):
                if words:
                    yield words
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)


def _logical_lines(script: str) -> list[str]:
    """Lines of a script, joined where a quotation or a backslash continues them, without here-documents."""
    lines: list[str] = []
    current, quote, ends = "", "", ""
    for line in script.splitlines():
        if ends:
            ends = "" if line.strip() == ends else ends
            continue
        current = current + ("\n" if quote else " ") * bool(current) + line
        quote = _open_quote(current)
        if quote:
            continue
        if current.endswith("\\"):
            current = current[:-1]
            continue
        if document := re.search(r"<<-?\s*['\"]?(\w+)['\"]?", current):
            ends = document[1]
        lines.append(current)
        current = ""
    return lines


def _open_quote(text: str) -> str:
    """The quotation mark that is still open at the end of ``text``."""
    quote = ""
    for place, sign in enumerate(text):
        if not quote and sign == "#" and (place == 0 or text[place - 1].isspace()):
            return ""  # a comment
        if sign in "'\"" and text[place - 1 : place] != "\\":
            quote = sign if not quote else "" if quote == sign else quote
    return quote


def check_evr1(words: list[str]) -> None:
    """Check the words after ``evr1`` by typer's own parser; nothing is run.

    Raises:
        ValueError: no such command, option or setting; a value is missing or of a wrong kind.
    """
    import typer

    from easyvideor1.cli.app import app
    from easyvideor1.cli.evaluation import DEFAULT

    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="evr1")
    rest = list(words)
    shown = shlex.join(["evr1", *words])
    try:
        while hasattr(command, "resolve_command"):
            given, rest, _ = command.make_parser(context).parse_args(rest)
            if not rest:
                if given or not words:
                    return
                raise ValueError("a subcommand is missing")
            if context.info_name == "eval" and rest[0] not in command.commands:
                rest = [DEFAULT, *rest]
            name, found, rest = command.resolve_command(context, rest)
            command = found
            context = command.context_class(command, info_name=name, parent=context)
        given, rest, _ = command.make_parser(context).parse_args(rest)
        if rest:
            raise ValueError(f"{rest} is too much")
        if not given.get("help"):
            _check_values(command, given)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("builtins", "click", "typer", "easyvideor1"):
            raise
        reason = error.format_message() if hasattr(error, "format_message") else str(error)
        raise ValueError(f"{shown}: {reason}") from error


def _check_values(command: Any, given: dict[str, Any]) -> None:
    kinds = value_types(command)
    for parameter in command.params:
        value = given.get(parameter.name)
        if parameter.required and value in (None, [], ()):
            raise ValueError(f"{parameter.name} is missing")
        if parameter.name == "overrides":
            check_overrides(list(value or ()))
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str):
                _check_value(parameter.name, one, kinds.get(parameter.name))


def _check_value(name: str, value: str, kind: Any) -> None:
    choices = choices_of(kind)
    if choices and value not in choices:
        raise ValueError(f"{name} is {value!r}: not one of {', '.join(choices)}")
    if kind in (int, float):
        kind(value)


def check_overrides(overrides: list[str]) -> None:
    """Whether the keys of ``key=value`` exist, and take such values.

    Raises:
        ValueError: what the configuration says of them.
    """
    from easyvideor1.config import load_config
    from easyvideor1.config.keys import fields_at
    from easyvideor1.types import ConfigError

    known = []
    for override in overrides:
        words = override.partition("=")[0].split(".")
        if words[0] == "stages" and len(words) > 1 and not words[1].isdigit():
            override = override.replace(f"stages.{words[1]}", "stages.grpo", 1)
        if "$" not in override:
            known.append(override)
        elif not fields_at([int(word) if word.isdigit() else word for word in words]):  # a value of the shell
            raise ValueError(f"{override}: unknown key")
    try:
        load_config("quickstart", known)
    except ConfigError as error:
        # Other settings of the quickstart may not go with these; those of the page's file do.
        if re.search(r"unknown|is now|expected|write it as|holds", str(error)):
            raise ValueError(str(error)) from error


def _check_make(goals: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for goal in goals:
        if "=" not in goal and not re.search(rf"^{re.escape(goal)}:", makefile, re.MULTILINE):
            raise ValueError(f"make {goal}: the Makefile has no such goal")


def _check_module(module: str, words: list[str]) -> None:
    """A module of this repository with the options that it is given."""
    if module.partition(".")[0] not in ("benchmarks", "easyvideor1"):
        return
    base = ROOT if module.startswith("benchmarks") else ROOT / "src"
    path = base / module.replace(".", "/")
    sources = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    if not sources or not all(source.is_file() for source in sources):
        raise ValueError(f"python -m {module}: no such module")
    # Options are often added by a function that several benchmarks share.
    text = "".join(source.read_text(encoding="utf-8") for source in [*sources, *(ROOT / "benchmarks").glob("*.py")])
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and f'"{option}"' not in text:
            raise ValueError(f"python -m {module}: no option {option}")
