"""What every metric means: its unit, its formula, and what a bad value says. ``metrics.yaml`` is the one table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_TABLE = Path(__file__).with_name("metrics.yaml")


@dataclass(frozen=True, slots=True)
class MetricMeaning:
    """One entry; ``<word>`` in its ``name`` stands for any text. ``file`` says where it is written."""

    name: str
    unit: str
    formula: str
    bad: str
    file: str

    def fits(self, name: str) -> bool:
        """Whether a metric of this name is meant."""
        pieces = re.split(r"<\w+>", self.name)
        return re.fullmatch(".+".join(map(re.escape, pieces)), name, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class GlossarySection:
    """Metrics that belong together, with what is true of all of them."""

    title: str
    file: str
    about: str
    metrics: tuple[MetricMeaning, ...]


@cache
def glossary() -> tuple[GlossarySection, ...]:
    """The sections of the table, in its order."""
    found: list[dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(
        GlossarySection(
            section["section"],
            section["file"],
            section["about"].strip(),
            tuple(MetricMeaning(**entry, file=section["file"]) for entry in section["metrics"]),
        )
        for section in found
    )


def meaning_of(name: str, file: str = "metrics.jsonl") -> MetricMeaning | None:
    """What a metric of ``file`` means; ``None`` if no entry fits. The first entry that fits is the one."""
    entries = (entry for section in glossary() if section.file.endswith(file) for entry in section.metrics)
    return next((entry for entry in entries if entry.fits(name)), None)
