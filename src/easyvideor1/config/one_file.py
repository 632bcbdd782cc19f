"""A configuration with its bases as the text of one file; values keep the comments of the lines that they are from."""

from __future__ import annotations

from collections.abc import Mapping

from easyvideor1.config.load import load_config, read_over_bases
from easyvideor1.config.writing import dump_values
from easyvideor1.config.yaml_source import Source, read_yaml


def one_file(path_or_recipe: str) -> str:
    """What ``load_config`` reads, as YAML without ``base``. A file that lies over nothing stays as it is written.

    Raises:
        ConfigError: as ``load_config``.
    """
    load_config(path_or_recipe)
    source, texts = read_over_bases(path_or_recipe)
    if len(texts) == 1:
        return next(iter(texts.values()))
    used = {mark.rpartition(":")[0] for mark in source.marks.values()}
    heads = [line for name, text in texts.items() if name in used for line in _head(text)]
    return "\n".join([f"# {path_or_recipe} as one file.", *heads, _commented(source, texts)])


def _head(text: str) -> list[str]:
    """The comment that a file begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


def _commented(source: Source, texts: Mapping[str, str]) -> str:
    lines = {name: text.splitlines() for name, text in texts.items()}
    text = dump_values(source.values)
    out = text.splitlines()
    told: set[str] = set()
    places = {path: int(mark.rpartition(":")[2]) for path, mark in read_yaml(text, "").marks.items() if path}
    for path, place in sorted(places.items(), key=lambda item: (item[1], len(item[0]))):
        mark = source.marks.get(path, "")
        name, _, number = mark.rpartition(":")
        if name not in lines or mark in told:
            continue
        comment = _comment(lines[name][int(number) - 1])
        if comment and " # " not in out[place - 1]:
            told.add(mark)
            out[place - 1] = f"{out[place - 1]}  # {comment}"
    return "\n".join(out) + "\n"


def _comment(line: str) -> str:
    """The comment at the end of a line of YAML; empty if there is none, or the line is one."""
    quote = ""
    for index, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#" and line[:index].strip() and line[index - 1].isspace():
            return line[index + 1 :].strip()
    return ""
