"""Rows of a release that are damaged in any place become questions or are refused; none stops the reading."""

import importlib
import json
import pkgutil
import random

import pytest
from tests.benchmarks import releases

from easyvideor1.benchmarks import BENCHMARKS, Question
from easyvideor1.benchmarks.benchmark import load_definitions
from easyvideor1.benchmarks.release import FILE, KEY, NUMBER, Release

load_definitions()
FIXTURES = [
    fixture
    for found in pkgutil.iter_modules(releases.__path__)
    for fixture in importlib.import_module(f"{releases.__name__}.{found.name}").FIXTURES
]
#: What stands in place of a value.
ODD = (None, "", [], {}, 0, -1, 3.5, float("nan"), "xxx", ["a"], [None], {"a": 1}, True, [["a"]], "A", "\0", "[", "{}")


def damaged(value, rng):
    """The value with one place lost or changed."""
    if rng.random() < 0.3 or not value or not isinstance(value, dict | list | tuple):
        return rng.choice(ODD)
    if isinstance(value, dict):
        name = rng.choice(list(value))
        rest = {key: each for key, each in value.items() if key != name}
        return rest if rng.random() < 0.3 else {**rest, name: damaged(value[name], rng)}
    at = rng.randrange(len(value))
    return [*value[:at], damaged(value[at], rng), *value[at + 1 :]]


def rows_of(fixture):
    for name, content in fixture.files.items():
        if isinstance(content, dict):
            yield from (
                (name, {**(each if isinstance(each, dict) else {"value": each}), KEY: key})
                for key, each in content.items()
            )
        elif isinstance(content, list | tuple):
            yield from ((name, each if isinstance(each, dict) else {"value": each}) for each in content)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda one: f"{one.benchmark}-{one.layout}")
def test_damaged_rows(fixture, tmp_path):
    benchmark = BENCHMARKS.resolve(fixture.benchmark)
    layout = benchmark.layout(Release(fixture.write(tmp_path)))
    rng = random.Random(fixture.layout)
    read = 0
    for name, row in rows_of(fixture):
        for _ in range(15):
            broken = damaged(row, rng)
            if not isinstance(broken, dict):
                continue
            places = {FILE: name, NUMBER: 1, **{column: {} for column in layout.beside}}
            for one in layout.questions({**broken, **places, **({KEY: row[KEY]} if KEY in row else {})}):
                if isinstance(one, Question):
                    json.dumps(one.row(benchmark.name))
                else:
                    assert one.reason and one.id.startswith(f"{name}:"), one
                read += 1
    assert read
