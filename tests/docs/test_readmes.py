"""The Chinese README says what the English one says: the same headings, code, links and figures."""

import re
from collections import Counter

from .blocks import ROOT, blocks_of

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"


def prose(path):
    """The text outside of code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(path):
    return [len(mark) for mark in re.findall(r"^(#+) ", prose(path), re.MULTILINE)]


def links(path):
    return [target for target in re.findall(r"\]\(([^)]+)\)", prose(path)) if not target.startswith("README")]


def tables(path):
    """Of every row of every table: the number of cells, and the names in it."""
    found = re.findall(r"(?:^\|.*\n?)+", prose(path), re.MULTILINE)
    return [
        [(len(re.findall(r"(?<!\\)\|", row)), re.findall(r"`([^`]+)`", row)) for row in table.splitlines()]
        for table in found
    ]


def inline_code(path):
    return Counter(re.findall(r"`([^`\n]+)`", prose(path)))


DATE = re.compile(r"(\d+) November(?: \d{4})?|(?:\d{4} 年 )?11 月 (\d+) 日")


def plain(path):
    """The prose without names in code, links and comments."""
    return re.sub(r"\]\([^)]+\)|`[^`\n]+`|<!--.*?-->", "", prose(path), flags=re.DOTALL)


def days(path):
    """The days of November that are named."""
    return [one or other for one, other in DATE.findall(plain(path))]


def figures(path):
    """Every number that is not part of a name or of a date; 2.6 million is 260 times ten thousand in Chinese."""
    text = re.sub(r"([\d.]+) million", lambda found: f"{float(found[1]) * 100:g} ", DATE.sub("", plain(path)))
    return Counter(re.findall(r"(?<![A-Za-z_\d.])[+-]?\d+(?:\.\d+)?%?(?![A-Za-z_\d])", text))


def test_headings():
    assert headings(ENGLISH) == headings(CHINESE)


def test_code_blocks():
    one, other = (
        [(block.language, block.text, block.says) for block in blocks_of(path)] for path in (ENGLISH, CHINESE)
    )
    assert len(one) > 8
    assert one == other


def test_links():
    assert len(links(ENGLISH)) > 20
    assert links(ENGLISH) == links(CHINESE)


def test_links_lead_to_files():
    assert [target for target in links(ENGLISH) if not (ROOT / target.partition("#")[0]).exists()] == []


def test_tables():
    assert tables(ENGLISH) == tables(CHINESE)


def test_names_of_commands_keys_and_files():
    assert inline_code(ENGLISH) == inline_code(CHINESE)


def test_figures():
    assert len(figures(ENGLISH)) > 40
    assert figures(ENGLISH) == figures(CHINESE)


def test_dates():
    assert days(ENGLISH) == days(CHINESE) != []
