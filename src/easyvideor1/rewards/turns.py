"""Rewards of single turns by the rules of task types: a reward for rows that say what each turn should answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from easyvideor1.rewards.custom import BuiltInRules
from easyvideor1.rewards.references import as_text
from easyvideor1.rewards.types import ColumnError
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion, Sample, Score, Trajectory

#: The column of a row with the task type and the reference of every turn.
COLUMN = "turn_answers"


def by_turn(
    sample: Sample, response: str, trajectory: Trajectory | None = None, *, built_in_rules: BuiltInRules
) -> Score:
    """Each turn scored by the rule of its own task type; ``rewards.custom: {TASK: easyvideor1.rewards.turns:by_turn}``.

    The column ``turn_answers`` of the row is a list with one entry for each turn: ``{"task": ..., "answer": ...}``, or
    ``null`` for a turn that is not scored. An entry may have ``options``, a list; without them a turn of the row's own
    task type has those of the row. All other columns of the row, and the settings of ``rewards``, such as weights and
    coordinates, hold for every turn. Judges and renderers are not asked.

    ``turns`` of the score are the totals, 0 where nothing is asked. Accuracy, format and total are means over the
    entries; a turn that the trajectory lacks counts 0. Without a trajectory the response is that of the last entry.

    Raises:
        ColumnError: the row has no such column, or it has another form.
    """
    wanted = _wanted(sample)
    said = _responses(wanted, response, trajectory)
    found: dict[int, Score] = {}
    for place, entry in enumerate(wanted):
        if entry is not None and place in said:
            task = canonical_task(entry["task"])
            options = entry.get("options") or (sample.options if task == canonical_task(sample.task) else ())
            found[place] = built_in_rules(task, said[place], as_text(entry["answer"]), tuple(options), sample.extra)
    count = sum(entry is not None for entry in wanted)
    refused = next((each for each in found.values() if not each.applicable), None)
    mean = {name: sum(getattr(s, name) for s in found.values()) / count for name in ("accuracy", "format", "total")}
    return Score(
        **mean,
        parts={f"turn_{place + 1}": each.accuracy for place, each in found.items()},
        parsed=found[max(found)].parsed if found else "",
        applicable=refused is None,
        reason="" if refused is None else refused.reason,
        turns=() if trajectory is None else tuple(found[n].total if n in found else 0.0 for n in said),
    )


def _responses(wanted: Sequence[object], response: str, trajectory: Trajectory | None) -> dict[int, Completion]:
    """What was said, by the number of the turn."""
    if trajectory is None:
        return {len(wanted) - 1: Completion(response)}
    return {
        place: Completion(turn.text, turn.finish, turn.prompt.opens_thinking, "<answer>" in turn.prompt.text)
        for place, turn in enumerate(trajectory.turns)
    }


def _wanted(sample: Sample) -> list[Mapping[str, Any] | None]:
    """The entries of a row's column."""
    column = sample.extra.get(COLUMN)
    if isinstance(column, str):
        try:
            column = json.loads(column)
        except ValueError as error:
            raise ColumnError(COLUMN, f"it is not JSON ({error})") from error
    if not isinstance(column, list) or all(entry is None for entry in column):
        raise ColumnError(COLUMN, "it must be a list with an entry for each turn, one of them not null")
    for entry in column:
        if entry is not None and not (isinstance(entry, Mapping) and {"task", "answer"} <= set(entry)):
            raise ColumnError(COLUMN, f"the entry {entry!r} needs the keys task and answer")
    return column
