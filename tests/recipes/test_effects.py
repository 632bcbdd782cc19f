"""Headline effects of the recipes on the toy world, with small budgets and three seeds; minutes each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmarks.recipe_effect import Effect, Sides, Trial, directory_of, source_digest
from benchmarks.recipes import effect_names, effect_of, measure

import easyvideor1


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
    ("expected", "effect", "interval", "shown"),
    [
        ("higher", 0.2, (0.1, 0.3), True),
        ("higher", 0.2, (-0.1, 0.5), False),
        ("higher", 0.2, None, True),
        ("lower", -0.2, (-0.3, -0.1), True),
        ("lower", -0.2, (-0.5, 0.1), False),
        ("lower", 0.0, None, False),
    ],
)
def test_an_effect_is_shown_by_its_whole_interval(expected, effect, interval, shown):
    one = Effect("a", "b", lambda trial: None, False, "steps", ("c",), expected=expected)  # type: ignore[arg-type, return-value]
    assert one.is_shown_by(effect, interval) is shown


def test_the_mark_changes_with_every_source_of_the_package_and_with_nothing_else(tmp_path):
    """An objective, a recipe and a toy world count; what Python has compiled does not."""
    source = Path(easyvideor1.__file__).parent
    for part in ("algorithms", "recipes/vst", "toyworld"):
        shutil.copytree(source / part, tmp_path / part)
    before = source_digest(tmp_path)
    (tmp_path / "toyworld" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "toyworld" / "__pycache__" / "scene.pyc").write_bytes(b"compiled")
    assert source_digest(tmp_path) == before
    marks = {before}
    for file in ("algorithms/objectives.py", "recipes/vst/recipe.yaml", "toyworld/scene.py"):
        with (tmp_path / file).open("a") as opened:
            opened.write("# changed\n")
        marks.add(source_digest(tmp_path))
    assert len(marks) == 4
    assert len({directory_of(effect_of(name)) for name in effect_names()}) == len(effect_names())


def test_a_result_is_kept_in_the_directory_of_its_version_and_told_with_what_is_equal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []

    def side(trial: Trial) -> Sides:
        seen.append((Path.cwd().name, trial.seed))
        return Sides(0.25, 0.5 + trial.seed / 4)

    effect = Effect("vst", "accuracy", side, False, "steps alone", ("a",), by_construction="All of it.")
    monkeypatch.setattr("benchmarks.recipes.effect_of", lambda name: effect)
    for _ in range(2):
        (row,) = measure(["vst"], range(2), "small")
        assert (row.error, row.effect, row.claimed, row.equal) == ("", 0.375, False, "steps alone")
    assert seen == [(directory_of(effect), 0), (directory_of(effect), 1)]  # the second time nothing is measured
    shown = capsys.readouterr().out
    assert "not claimed; equal: steps alone" in shown and "by construction: All of it." in shown
