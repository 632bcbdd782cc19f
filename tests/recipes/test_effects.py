"""Headline effects of the recipes on the toy world, with small budgets and three seeds; minutes each."""

from __future__ import annotations

import pytest
from benchmarks.recipe_effect import Effect
from benchmarks.recipes import effect_names, effect_of, measure


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", effect_names())
def test_the_headline_effect_is_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    effect = effect_of(name)
    (row,) = measure([name], range(3), "small")
    assert row.error == "" and row.effect is not None
    if effect.claimed:
        assert effect.is_shown_by(row.effect, row.interval), row


@pytest.mark.parametrize(
    ("better", "effect", "interval", "shown"),
    [
        ("higher", 0.2, (0.1, 0.3), True),
        ("higher", 0.2, (-0.1, 0.5), False),
        ("higher", 0.2, None, True),
        ("lower", -0.2, (-0.3, -0.1), True),
        ("lower", -0.2, (-0.5, 0.1), False),
        ("lower", 0.0, None, False),
    ],
)
def test_an_effect_is_shown_by_its_whole_interval(better, effect, interval, shown):
    one = Effect("a", "b", lambda trial: None, ("c",), better=better)  # type: ignore[arg-type, return-value]
    assert one.is_shown_by(effect, interval) is shown
