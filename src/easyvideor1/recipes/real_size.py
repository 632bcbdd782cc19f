"""Recipes of real size: what each is expected to need, from figures that are predicted and kept beside them.

``python -m benchmarks.real_models`` writes the figures, as ``evr1 fit`` predicts them. Nothing of it was run on GPUs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.config.shipped import REAL, recipes_directory

if TYPE_CHECKING:
    from rich.console import Console

#: Where the figures are, beside the recipes.
FIGURES_FILE = "figures.json"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Expected:
    """What a recipe is expected to need on GPUs of one memory: bytes of the worst moment, and of the host of each
    machine; seconds of a typical step by the name of the GPU."""

    recipe: str
    peak: int
    phase: str
    host: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A model, trained in whole or with adapters on so many GPUs; ``expected`` by GB of a GPU, ``None`` if nothing
    that was tried fits."""

    model: str
    method: str
    gpus: int
    expected: Mapping[str, Expected | None]


def figures_file() -> Path:
    """The file of the figures."""
    return recipes_directory() / REAL / FIGURES_FILE


def expected_needs() -> list[Row]:
    """The figures, by model, method and GPUs."""
    return [_row(each) for each in json.loads(figures_file().read_text(encoding="utf-8"))["rows"]]


def _row(values: Mapping[str, Any]) -> Row:
    expected = {memory: found and Expected(**found) for memory, found in values["expected"].items()}
    return Row(values["model"], values["method"], values["gpus"], expected)


def print_real(console: Console) -> None:
    """The recipes of real size with the GPUs and the memory that they need."""
    from rich.table import Table

    rows = expected_needs()
    memories = list(rows[0].expected)
    table = Table(box=None, pad_edge=False)
    for name in ("recipe", "what is trained"):
        table.add_column(name, no_wrap=True)
    table.add_column("GPUs", justify="right", no_wrap=True)
    for memory in memories:
        table.add_column(f"of {memory} GB", justify="right", no_wrap=True)
    for row in rows:
        for recipe in dict.fromkeys(found.recipe if found else "" for found in row.expected.values()):
            cells = [_cell(row.expected[memory], recipe) for memory in memories]
            table.add_row(recipe or f"{REAL}/{row.model}: no recipe fits", row.method, str(row.gpus), *cells)
    console.print(table)
    console.print("GiB of each GPU are predicted, not measured: docs/real_models.md. Data: docs/real_data.md.")
    console.print("Show one as a file: evr1 recipes NAME. Change one: evr1 recipes NAME --copy FILE.")


def _cell(found: Expected | None, recipe: str) -> str:
    return f"{found.peak / _GIB:.0f}" if found is not None and found.recipe == recipe else "-"
