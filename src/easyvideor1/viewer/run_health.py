"""What is wrong with a run, or may be: bad media, samples without a score, warnings of the canary, and mismatch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from easyvideor1.evaluation.curves import Panel, metric_series
from easyvideor1.evaluation.history import RunHistory, StageHistory, cache_dir
from easyvideor1.types import EasyVideoError
from easyvideor1.video import HealthLedger
from easyvideor1.video.health import BadFile, bad_files

#: Metrics of groups and responses that did not count, and what they say.
_LOST = {
    "groups/media_failed": "groups whose media could not be read",
    "groups/request_failed": "groups that the engine did not answer",
    "groups/turn_failed": "groups without the prompt of a further turn",
    "groups/stored_failed": "groups of earlier stages that could not be made again",
    "groups/visual_mismatch": "media whose frames were not those of their plan",
    "response/not_applicable": "responses that could not be scored (masked)",
    "offline/not_applicable": "offline responses that could not be scored (masked)",
    "mismatch/beyond_bound": "responses beyond the bound of the mismatch",
}
_MODALITY = re.compile(r"mismatch/([a-z]+)/logprob_abs")
_RESOURCE = re.compile(r"(?:.*[/_])?(?:memory|gpu|vram|rss)(?:[/_].*)?")


@dataclass(frozen=True, slots=True)
class Lost:
    """A count of what did not count: in all, in how many steps, and the last of these (step of its stage)."""

    metric: str
    words: str
    total: float
    steps: int
    stage: str
    last: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """A warning of the canary. ``examples`` are rows of ``canary.jsonl``."""

    stage: str
    step: int
    kind: str
    message: str
    now: float
    before: float
    examples: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows of a source that cannot be used: how many of how many, and why."""

    split: str
    path: str
    rows: int
    refused: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Media:
    """The bad files of the frame cache of a run, which other runs may share; ``fault`` says why they are not known."""

    ledger: Path | None
    files: tuple[BadFile, ...] = ()
    fault: str = ""


def lost(history: RunHistory) -> tuple[Lost, ...]:
    """What did not count in training, the most first."""
    found = []
    for metric, words in _LOST.items():
        rows = [(stage, row) for stage in history.stages for row in stage.metrics if _positive(row.get(metric))]
        if rows:
            stage, last = rows[-1]
            total = sum(float(row[metric]) for _, row in rows)
            found.append(Lost(metric, words, total, len(rows), stage.name, int(last["step"])))
    return tuple(sorted(found, key=lambda one: -one.total))


def alarms(history: RunHistory) -> tuple[Alarm, ...]:
    """The warnings of the canary, the newest first."""
    found = [_alarm(stage, row) for stage in history.stages for row in stage.canary]
    return tuple(reversed(found))


def _alarm(stage: StageHistory, row: Mapping[str, Any]) -> Alarm:
    now, before = (float(value) if _number(value := row.get(name)) else math.nan for name in ("now", "before"))
    kind, message = str(row.get("alarm", "")), str(row.get("message", ""))
    return Alarm(stage.name, int(row["step"]), kind, message, now, before, tuple(row["examples"]))


def refused_rows(history: RunHistory) -> tuple[Refused, ...]:
    """Sources with rows that cannot be used, from ``data_report.json``."""
    found = []
    for split, sources in (history.data_report or {}).items():
        for source in sources if isinstance(sources, list) else ():
            if isinstance(source, Mapping) and _positive(source.get("refused")):
                bad = source.get("bad")
                reasons = tuple(map(str, bad)) if isinstance(bad, list | tuple) else ()
                rows = int(source["rows"]) if _number(source.get("rows")) else 0
                found.append(Refused(split, str(source.get("path", "")), rows, int(source["refused"]), reasons))
    return tuple(found)


def bad_media(history: RunHistory) -> Media:
    """The files that the health ledger of the run's frame cache names, those with most entries first."""
    cache = cache_dir(history)
    if cache is None:
        return Media(None)
    ledger = HealthLedger(cache / "health.jsonl")
    try:
        return Media(ledger.path, tuple(bad_files(ledger.entries())))
    except EasyVideoError as error:
        return Media(ledger.path, fault=str(error))


def mismatch_panels(history: RunHistory) -> list[Panel]:
    """Mismatch between engine and trainer: by modality, and of all tokens."""
    keys = _keys(history.stages, "metrics")
    by_modality = {key: found[1] for key in keys if (found := _MODALITY.fullmatch(key))}
    candidates = [
        Panel("Mismatch by modality", "|log-prob|", metric_series(history, by_modality)),
        Panel("Mismatch, KL", "nats", metric_series(history, {"mismatch/kl": "kl"})),
        Panel("Mismatch, worst response", "|log-prob|", metric_series(history, {"mismatch/worst": "worst"})),
    ]
    return [panel for panel in candidates if panel.series]


def resource_panels(history: RunHistory) -> list[Panel]:
    """Memory and figures of GPUs, where a run wrote any into its metrics or timings."""
    found = []
    tables: tuple[Literal["metrics", "clocks"], ...] = ("metrics", "clocks")
    for table in tables:
        for key in _keys(history.stages, table):
            if _RESOURCE.fullmatch(key) and (series := metric_series(history, {key: key}, table)):
                found.append(Panel(key, "", series))
    return found


def _keys(stages: Sequence[StageHistory], table: str) -> list[str]:
    return list(dict.fromkeys(key for stage in stages for row in getattr(stage, table) for key in row))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0
