"""Headline effects of the recipes: ``python -m benchmarks.recipes [--only NAME ...] [--seeds 3] [--budget small]``.

Every recipe is compared with a baseline on the toy world, once per seed; ``benchmarks/recipe_effects`` says with which.
Below each row stand what both sides have alike (steps, responses, updates, or nothing) and, where the toy world fixes
the sign of an effect, what of it is so by construction. An interval is Student's, of the mean over the seeds.
A number that does not depend on a seed is exact and has none. What is done is kept in the working directory, below one
directory per effect and version of the sources, and not done again. A recipe that fails is named, and the others go on;
the exit status is then 1. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import recipe_effects
from benchmarks.measure import check_packages
from benchmarks.recipe_effect import Budget, Effect, Trial, directory_of, mean_interval
from easyvideor1.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe of the table; ``error`` is empty if all went well."""

    name: str
    measures: str
    baseline: float | None
    recipe: float | None
    effect: float | None
    interval: tuple[float, float] | None
    exact: bool
    seconds: float
    tests: tuple[str, ...]
    claimed: bool
    equal: str
    by_construction: str
    error: str = ""


def main() -> None:
    """Measure the recipes that were asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of recipes")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--budget", choices=("small", "full"), default="small")
    parser.add_argument("--work", type=Path, default=Path("runs/recipe-effects"), help="directory; kept, gone on with")
    given = parser.parse_args()
    check_packages()
    names = effect_names()
    if unknown := sorted(set(given.only or ()) - set(names)):
        parser.error(f"no effect of {', '.join(unknown)}; known are {', '.join(names)}")
    given.work.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.work):
        rows = measure(given.only or names, range(given.seeds), given.budget)
    found = {"benchmark": "recipes", "budget": given.budget, "seeds": given.seeds, "systems": [asdict(r) for r in rows]}
    print(json.dumps(found))
    if any(row.error for row in rows):
        raise SystemExit(1)


def effect_names() -> list[str]:
    """The recipes that have an effect: the files of ``benchmarks/recipe_effects``."""
    return sorted(module.name for module in pkgutil.iter_modules(recipe_effects.__path__))


def effect_of(name: str) -> Effect:
    """The effect of a recipe."""
    effect: Effect = importlib.import_module(f"benchmarks.recipe_effects.{name}").EFFECT
    return effect


def measure(names: Sequence[str], seeds: Sequence[int], budget: Budget) -> list[Row]:
    """The rows of the table, printed one by one; the working directory is where all is kept."""
    print(
        f"{'recipe':20} {'baseline':>9} {'recipe':>9} {'effect':>9}  {'95% interval':20} {'s':>6}  measures", flush=True
    )
    rows = []
    for name in names:
        effect = effect_of(name)
        place = Path(directory_of(effect))
        place.mkdir(exist_ok=True)
        with contextlib.chdir(place):
            rows.append(_measured_row(name, effect, seeds, budget))
            print(_line(rows[-1]), flush=True)
    return rows


def _measured_row(name: str, effect: Effect, seeds: Sequence[int], budget: Budget) -> Row:
    """The row of one effect, in whose directory this is called."""
    try:
        return _row(name, effect, [_measured(effect, seed, budget) for seed in seeds[: None if effect.seeded else 1]])
    except Exception as error:  # noqa: BLE001 - it is told, and the others go on
        with Path("errors.txt").open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        words = f"{type(error).__name__}: {error}"
        return Row(name, effect.measures, None, None, None, None, False, 0.0, **_said(effect), error=words)


def _measured(effect: Effect, seed: int, budget: Budget) -> dict[str, Any]:
    """One measurement, from the file of an earlier start if there is one."""
    file = Path("results") / f"{budget}-{seed}.json"
    if file.exists():
        return read_json(file)
    begun = time.monotonic()
    sides = effect.measure(Trial(seed, budget))
    write_json(file, {**asdict(sides), "seconds": time.monotonic() - begun})
    return read_json(file)


def _said(effect: Effect) -> dict[str, Any]:
    """What an effect says of itself, whatever is measured."""
    return {name: getattr(effect, name) for name in ("tests", "claimed", "equal", "by_construction")}


def _row(name: str, effect: Effect, found: Sequence[dict[str, Any]]) -> Row:
    differences = [one["recipe"] - one["baseline"] for one in found]
    mean = {key: sum(one[key] for one in found) / len(found) for key in ("baseline", "recipe")}
    return Row(
        name=name,
        measures=effect.measures,
        baseline=mean["baseline"],
        recipe=mean["recipe"],
        effect=sum(differences) / len(differences),
        interval=mean_interval(differences) if effect.seeded else None,
        exact=not effect.seeded,
        seconds=sum(one["seconds"] for one in found),
        **_said(effect),
    )


def _line(row: Row) -> str:
    if row.error:
        return f"{row.name:20} failed: {row.error} (errors.txt in {os.fspath(Path.cwd())})"
    if row.interval is not None:
        interval = f"[{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]"
    else:
        interval = "exact" if row.exact else "one seed"
    numbers = f"{row.baseline:9.3f} {row.recipe:9.3f} {row.effect:+9.3f}"
    lines = [f"{row.name:20} {numbers}  {interval:20} {row.seconds:6.0f}  {row.measures}"]
    lines.append(f"{'':20} {'claimed' if row.claimed else 'not claimed'}; equal: {row.equal}")
    if row.by_construction:
        lines.append(f"{'':20} by construction: {row.by_construction}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
