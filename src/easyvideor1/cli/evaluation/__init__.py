"""``evr1 eval``: public and own benchmarks, from a release as downloaded to numbers that can be trusted.

Every module of this package with a function ``command`` is a command of the module's name.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

#: What ``evr1 eval CONFIG.yaml`` without a command runs.
DEFAULT = "run"


class _RunByDefault(TyperGroup):
    """``evr1 eval CONFIG.yaml ...`` means ``evr1 eval run CONFIG.yaml ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and "--help" not in args[:1] and not self._mistyped(args[0]):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _mistyped(self, word: str) -> bool:
        """Whether a word is rather a command with a typing error than a configuration."""
        known = (Path(word).suffix, word.startswith("-"), Path(word).exists())
        return not any(known) and bool(difflib.get_close_matches(word, self.commands, cutoff=0.6))


def _build() -> typer.Typer:
    group = typer.Typer(
        cls=_RunByDefault,
        no_args_is_help=True,
        help="Evaluate on benchmarks; `evr1 eval CONFIG.yaml` means `evr1 eval run CONFIG.yaml`.",
    )
    for found in pkgutil.iter_modules(__path__):
        if run := getattr(importlib.import_module(f"{__name__}.{found.name}"), "command", None):
            group.command(found.name)(run)
    return group


app = _build()
