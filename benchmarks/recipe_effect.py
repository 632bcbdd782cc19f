"""What a recipe declares as its headline effect, and the runs that it is measured with."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from scipy import stats

import easyvideor1
from easyvideor1.cli.recipes import prepare_missing
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import load_config
from easyvideor1.files import file_digest

Budget = Literal["small", "full"]


@dataclass(frozen=True, slots=True)
class Sides:
    """One measurement: the same number of the baseline and of the recipe."""

    baseline: float
    recipe: float


@dataclass(frozen=True, slots=True)
class Effect:
    """The headline effect of a recipe.

    Attributes:
        recipe: its name.
        measures: the number that is compared, in a few words, with its unit; what is printed is recipe minus baseline.
        measure: makes the runs of one seed, or what else it takes, and returns both sides.
        claimed: whether the effect is said to be there: it has been measured exactly, or over seeds with an interval
            that leaves out 0. Others are reported all the same.
        equal: what both sides have alike: steps, responses, updates, or nothing; and what they have not.
        tests: files of the quick tier that check its formulas, from the repository.
        by_construction: one sentence for an effect whose sign the toy world fixes: what is fixed, and what is left to
            see. Empty if the measurement can turn out either way.
        seeded: whether the number depends on the seed. If not, it is measured once and is exact.
        expected: on which side of the baseline the number of the recipe is expected. It need not be the better side:
            that of ``sole_r1`` is a failure that the measurement is to show.
    """

    recipe: str
    measures: str
    measure: Callable[[Trial], Sides]
    claimed: bool
    equal: str
    tests: tuple[str, ...]
    by_construction: str = ""
    seeded: bool = True
    expected: Literal["higher", "lower"] = "higher"

    def is_shown_by(self, effect: float, interval: tuple[float, float] | None) -> bool:
        """Whether a measured difference, and all of its interval if it has one, lie on the expected side of 0."""
        low, high = interval or (effect, effect)
        return low > 0 if self.expected == "higher" else high < 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What an effect is measured with: a seed, a budget, and runs that are kept, and not made twice.

    The working directory is that of this version of the effect (``directory_of``); toy data are below it, shared by all
    seeds.
    """

    seed: int
    budget: Budget

    def steps(self, *, small: int, full: int) -> int:
        """Whichever the budget asks for."""
        return small if self.budget == "small" else full

    def run(self, recipe: str, overrides: Sequence[str] = (), *, label: str = "recipe", afresh: bool = False) -> Path:
        """The directory of a finished run of a recipe, or of another configuration of its package.

        Args:
            recipe: what ``evr1 train`` takes.
            overrides: settings of this run.
            label: names the run among those of the trial.
            afresh: whether a run that is there is made again, for what is counted while it is made.
        """
        where = Path("trials") / f"{recipe.replace('/', '-')}-{self.budget}" / f"{label}-{self.seed}"
        if afresh:
            shutil.rmtree(where, ignore_errors=True)
        own = [f"seed={self.seed}", f"output_dir={where}", "threads=1", "trace_steps=0"]
        config = load_config(recipe, [*own, *overrides])
        with Path("log.txt").open("a", encoding="utf-8") as log:
            console = Console(file=log, width=160)
            prepare_missing(recipe, config, console)
            train_and_report(config, console)
        return where


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluation_rows(run: Path, evaluation: str) -> list[dict[str, Any]]:
    """The test questions of a run; ``evaluation`` is ``before``, or a stage such as ``02-grpo``."""
    return json_rows(run / "evaluations" / f"{evaluation}.jsonl")


def accuracy(row: dict[str, Any]) -> float:
    """Of the greedy response to a test question; 0 if there is none."""
    return float(row["greedy"]["score"]["accuracy"]) if row["greedy"] else 0.0


def greedy_accuracy(run: Path, evaluation: str) -> float:
    """Mean accuracy of greedy responses to all test questions."""
    rows = evaluation_rows(run, evaluation)
    return sum(map(accuracy, rows)) / len(rows)


def metrics_of(run: Path, stage: str, key: str) -> list[float]:
    """A metric of all steps of a stage, such as ``02-grpo``, that have it."""
    return [row[key] for row in json_rows(run / "stages" / stage / "metrics.jsonl") if key in row]


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of independent measurements; ``None`` for fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * math.sqrt(variance / len(values))
    return mean - half, mean + half


def directory_of(effect: Effect) -> str:
    """The directory of an effect: its recipe, and eight digits that change with whatever could change its number.

    These are all files of the package, with the recipes and their toy worlds, and those that measure the effect. Toy
    data, runs and results of another version are in another directory, so that none of them is read again.
    """
    digest = hashlib.sha256(_package_digest().encode())
    for file in (Path(__file__), Path(effect.measure.__code__.co_filename)):
        digest.update(file.read_bytes())
    return f"{effect.recipe.replace('/', '-')}-{digest.hexdigest()[:8]}"


@cache
def _package_digest() -> str:
    return source_digest(Path(easyvideor1.__file__).parent)


def source_digest(directory: Path) -> str:
    """SHA-256 over names and contents of all files below a directory, but for compiled ones."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(directory)} {file_digest(file)}\n".encode())
    return digest.hexdigest()
