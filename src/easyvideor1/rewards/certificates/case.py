"""The cases of a task type: a response to a reference, and the score that it must get.

``cases/<task>.yaml`` holds one reference with its options and columns, golden and adversarial cases by name, and the
relations that lead from each of them to further cases with the same score. Expected numbers are worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from easyvideor1.rewards.certificates.relations import RELATIONS
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, Score

Kind = Literal["golden", "adversarial", "metamorphic"]

_FOLDER = Path(__file__).with_name("cases")
#: Hand-computed numbers are written with six digits.
_CLOSE = 1e-6
_FIELDS = {"name", "response", "accuracy", "at_most", "format", "applicable", "reason", "answer", "options", "row"}


@dataclass(frozen=True, slots=True)
class Case:
    """One promise: ``response`` to ``answer`` scores exactly this.

    Attributes:
        task: canonical task type.
        name: what is tried, in words.
        kind: ``golden`` (right answers in the forms that people write), ``adversarial`` (answers that try to earn
            more than they deserve) or ``metamorphic`` (another case, changed in a way that must not matter).
        accuracy: what accuracy must be; ``None`` if only ``at_most`` is promised.
        at_most: what accuracy must not exceed.
        format: what the format reward must be; ``None`` if nothing is promised.
        applicable: whether the response can be scored.
        reason: a piece of the score's reason; empty if nothing is promised.
    """

    task: str
    name: str
    kind: Kind
    response: str
    answer: str
    accuracy: float | None = None
    at_most: float = 1.0
    format: float | None = None
    applicable: bool = True
    reason: str = ""
    options: tuple[str, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.task}: {self.name}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """All written cases of a task type and the names of the relations that extend them."""

    task: str
    cases: tuple[Case, ...]
    relations: tuple[str, ...]


@cache
def load_certificate(task: str) -> Certificate:
    """The certificate of a task type.

    Raises:
        DataError: the task type is unknown.
        ConfigError: the file of the certificate is malformed.
    """
    task = canonical_task(task)
    path = _FOLDER / f"{task}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    common = {
        "answer": data["answer"],
        "options": tuple(data.get("options", ())),
        "row": data.get("row", {}),
    }
    written = [_case(path, task, kind, common, entry) for kind in ("golden", "adversarial") for entry in data[kind]]
    relations = tuple(data["relations"])
    unknown = [name for name in relations if name not in RELATIONS]
    names = [case.name for case in written]
    if unknown or len(set(names)) != len(names):
        raise ConfigError(f"{path}: unknown relations {unknown}, or two cases of one name")
    return Certificate(task, tuple(written), relations)


def _case(path: Path, task: str, kind: Any, common: Mapping[str, Any], entry: Mapping[str, Any]) -> Case:
    unknown = set(entry) - _FIELDS
    if unknown or not {"name", "response"} <= set(entry) or not {"accuracy", "at_most", "applicable"} & set(entry):
        raise ConfigError(
            f"{path}: {dict(entry)}: unknown {sorted(unknown)}, or no name, response or expected accuracy"
        )
    values = {**common, **entry, "response": _text(entry["response"])}
    return Case(task=task, kind=kind, **{**values, "options": tuple(values["options"])})


def _text(response: Any) -> str:
    """A response as it is, or one that repeats a piece: ``{before, repeat, times, after}``."""
    if isinstance(response, str):
        return response
    return f"{response.get('before', '')}{response['repeat'] * response['times']}{response.get('after', '')}"


def cases(tasks: Iterable[str]) -> tuple[Case, ...]:
    """Every case of the certificates of some task types: the written ones and those that their relations lead to."""
    found: list[Case] = []
    for task in tasks:
        certificate = load_certificate(task)
        found += certificate.cases
        found += [
            changed for name in certificate.relations for case in certificate.cases if (changed := _changed(name, case))
        ]
    return tuple(found)


def _changed(name: str, case: Case) -> Case | None:
    relation = RELATIONS[name]
    if relation.moves and case.row:
        return None
    changed = relation.change(case.response, case.answer, case.options)
    if changed is None or (changed[0], changed[1], changed[2]) == (case.response, case.answer, case.options):
        return None
    response, answer, options = changed
    return replace(
        case,
        name=f"{case.name}; {name}",
        kind="metamorphic",
        response=response,
        answer=answer,
        options=options,
        format=case.format if relation.keeps_format else None,
    )


def problem(case: Case, score: Callable[..., Score]) -> str:
    """What ``score`` (called like ``easyvideor1.rewards.score``) gets wrong about a case; empty if nothing.

    This tests any scoring function against the certificates, a custom one as well as the built-in one.
    """
    said = score(case.task, case.response, case.answer, options=case.options, **case.row)
    wrong = []
    if said.applicable != case.applicable:
        wrong.append(f"applicable is {said.applicable} ({said.reason})")
    if case.accuracy is not None and abs(said.accuracy - case.accuracy) > _CLOSE:
        wrong.append(f"accuracy is {said.accuracy:.6f}, not {case.accuracy}")
    if said.accuracy > case.at_most + _CLOSE:
        wrong.append(f"accuracy is {said.accuracy:.6f}, above {case.at_most}")
    if case.format is not None and abs(said.format - case.format) > _CLOSE:
        wrong.append(f"format is {said.format}, not {case.format}")
    if case.reason not in said.reason:
        wrong.append(f"the reason is {said.reason!r}, without {case.reason!r}")
    if not all(0.0 <= value <= 1.0 for value in (said.accuracy, said.format, said.total)):
        wrong.append(f"{said.accuracy}, {said.format} or {said.total} is not in [0, 1]")
    return "; ".join(wrong)
