"""Two records of the training run, as far as they drew the same responses."""

from __future__ import annotations

from typing import Any

#: Steps of every stage whose responses must be the recorded ones on any machine.
LEAST_ALIKE = 5


def until_they_part(recorded: dict[str, Any], found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Both runs up to the step whose responses differ, and a note of it; whole, and no note, if none differ.

    For machines that compute otherwise: where a token is drawn within a rounding error of the border between two, the
    runs go different ways from there, and neither is wrong. Within `LEAST_ALIKE` steps that is not accepted.
    """
    for stage, theirs in recorded["stages"].items():
        mine = found["stages"].get(stage, {"steps": {}})
        for number, (step, facts) in enumerate(theirs["steps"].items()):
            if _responses(facts) != _responses(mine["steps"].get(step, {"rollouts": []})):
                if number < LEAST_ALIKE:
                    return recorded, found, ""
                note = f"a drawn token parts the runs at step {step} of {stage}, what follows was not compared"
                return _cut(recorded, stage, number), _cut(found, stage, number), note
    return recorded, found, ""


def _responses(facts: dict[str, Any]) -> list[list[str]]:
    return [[one["response"] for one in group["trajectories"]] for group in facts["rollouts"]]


def _cut(run: dict[str, Any], last: str, steps: int) -> dict[str, Any]:
    """The stages before `last`, so many steps of that, and the evaluations that came before it."""
    names = list(run["stages"])
    before = {name: run["stages"][name] for name in names[: names.index(last)]}
    part = {"steps": dict(list(run["stages"][last]["steps"].items())[:steps])}
    evaluations = {name: rows for name, rows in run["evaluations"].items() if name in ("before", *before)}
    return {"stages": {**before, last: part}, "evaluations": evaluations}
