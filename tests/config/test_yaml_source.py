"""Reading YAML: what becomes of scalars, and what is refused where."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.config.writing import dump_values
from easyvideor1.config.yaml_source import describe, parse_value, read_yaml
from easyvideor1.types import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1E5", 1e5),
        ("+1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("1_048_576", 1048576),
        ("0x1f", 31),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("yes", "yes"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("-x", "-x"),
        ("'1e-6'", "1e-6"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("", ""),
        ("module:attr", "module:attr"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = parse_value(text, "v")
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse_value(".nan", "v"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4: b.c is written twice, first on line 3"),
        ("a: [1,\n", "f.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1: tag"),
        ("a: !!set {x}\n", "f.yaml:1: tag"),
        ("a: !!int x\n", "f.yaml:1: 'x' is not of the type int"),
        ("a: !!bool 3\n", "f.yaml:1: '3' is not of the type bool"),
        ("a: &x [*x]\n", "f.yaml:1: an anchor contains itself"),
        ("a: {<<: {b: 1}}\n", "f.yaml:1: merge keys"),
        ("? [1]\n: 2\n", "f.yaml:1: a key must be a word"),
        ("- 1\n", "f.yaml:1: expected sections"),
        ("a: \x01\n", "f.yaml: not valid YAML"),
    ],
)
def test_what_is_refused_names_its_line(text, message):
    with pytest.raises(ConfigError) as error:
        read_yaml(text, "f.yaml")
    assert message in str(error.value)


def test_a_file_that_would_exhaust_the_machine_is_refused():
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_yaml("a: " + "[" * 5000, "f")
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="once its aliases are written out"):
        read_yaml("\n".join(lines), "f")


def test_an_empty_file_is_an_empty_mapping():
    assert read_yaml("", "f").values == read_yaml("# only words\n", "f").values == read_yaml("~", "f").values == {}


def test_an_alias_gives_a_value_of_its_own():
    values = read_yaml("a: &x {b: 1}\nc: *x\n", "f").values
    values["a"]["b"] = 2
    assert values["c"] == {"b": 1}


def test_where_falls_back_to_the_section_around():
    source = read_yaml("a:\n  b:\n    - x\n    - c: 1\n", "f")
    assert source.where(("a", "b", 1, "c")) == "f:4"
    assert source.where(("a", "b", 1, "missing")) == "f:4"
    assert source.where(("a", "missing")) == "f:1"
    assert source.where(("missing",)) == "f:1"


words = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x85\u2028\u2029\ufeff\ufffe\uffff")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words.filter(lambda w: w != "<<"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words.filter(lambda w: w != "<<"), values, max_size=4))
def test_what_is_dumped_is_read_back(mapping):
    assert read_yaml(dump_values(mapping), "f").values == mapping


@given(words)
def test_text_stays_text_for_readers_of_yaml_1_1_too(word):
    assert yaml.safe_load(dump_values({"a": word})) == {"a": word}


def test_describe_speaks_yaml():
    assert describe(None) == "null"
    assert describe(True) == "true (a boolean)"
    assert describe("x") == "'x' (text)"
    assert describe(3) == "3 (a number)"
    assert describe([1, 2]) == "a list of 2"
    assert describe({"a": 1}) == "a section with keys a"
    assert len(describe("x" * 1000)) < 100
