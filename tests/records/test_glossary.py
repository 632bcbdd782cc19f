"""Every metric that the code can write is in the glossary."""

import ast
import re
from pathlib import Path

import pytest

from easyvideor1.records.glossary import glossary, meaning_of

PACKAGE = Path(__file__).parents[2] / "src" / "easyvideor1"
ROOMS = ("training", "rollout", "policy", "algorithms")
FAMILIES = """reward accuracy part not_applicable offline response tokens turns groups hybrid policy critic mismatch
staleness canary evaluation benchmark"""
NAME = re.compile(rf"(?:{'|'.join(FAMILIES.split())})/[\w<>/]+")


def text_of(node: ast.AST) -> str | None:
    """A string, or an f-string with ``<x>`` for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "<x>" for part in node.values)
    return None


def named_in_code() -> dict[str, str]:
    """Names of metrics in the rooms that write them, each with a file."""
    found = {}
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = text_of(node)
                if text is not None and NAME.fullmatch(text) and not text.endswith("/"):
                    found[text] = path.relative_to(PACKAGE).as_posix()
    return found


#: Names that are taken away before a row is written.
INNER = {"mismatch/known"}


def has_entry(name: str) -> bool:
    """Whether a name, or names that an f-string may give, are in the glossary."""
    pattern = re.escape(name).replace("<x>", ".+")
    entries = (entry for section in glossary() for entry in section.metrics)
    return meaning_of(name) is not None or any("<x>" in name and re.fullmatch(pattern, each.name) for each in entries)


def test_every_name_in_the_code_has_an_entry():
    named = named_in_code()
    assert len(named) > 50, "the search finds them"
    assert {name: file for name, file in named.items() if name not in INNER and not has_entry(name)} == {}


def test_an_unknown_name_has_none():
    assert meaning_of("reward/nothing") is None
    assert meaning_of("policy/kl/extra") is None
    assert meaning_of("loss", "timings.jsonl") is None


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("reward/turn/2", "reward/turn/<n>"),
        ("accuracy/source/a/b.jsonl", "accuracy/source/<source>"),
        ("accuracy/multiple_choice", "accuracy/<task>"),
        ("response/tokens/modality/video", "response/tokens/modality/<modality>"),
        ("mismatch/video/logprob_abs", "mismatch/<modality>/logprob_abs"),
        ("not_applicable/math/no\nnumber", "not_applicable/<task>/<reason>"),
        ("turns/notes", "turns/notes"),
        ("turns/looks", "turns/<name>"),
    ],
)
def test_the_first_entry_that_fits_is_taken(name, entry):
    assert meaning_of(name).name == entry


def test_entries_are_whole_and_stand_once():
    entries = [entry for section in glossary() for entry in section.metrics]
    assert all(entry.unit and entry.formula and entry.bad for entry in entries)
    names = [(entry.file, entry.name) for entry in entries]
    assert len(names) == len(set(names))
    for section in glossary():
        for entry in section.metrics:
            assert meaning_of(entry.name, section.file) == entry, "an entry before it takes its names"
