"""What is damaged among the files of a stage.

A resumed run, the report and ``evr1 doctor`` read the same files, and must describe damage in the same words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.files import is_sealed
from easyvideor1.records.reading import (
    ROLLOUT_SUFFIXES,
    ReadRows,
    canary_fault,
    lines_until,
    lines_words,
    numbered,
    numbered_step,
    read_jsonl,
    read_rollouts,
    read_steps,
    rollout_files,
)

#: Suffix of the file that keeps unreadable lines, so that users can inspect them.
ASIDE = ".damaged"
#: How the lines begin that starts of a run tell of damage; they tell of other things as well.
DAMAGED = "DAMAGED: "
_COPY = "restore it from a backup of the run, if there is one; nothing else needs to be done"


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage in a run directory: where, what is wrong, what it means, and what to do."""

    where: str
    what: str
    means: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.means}"


def damage_texts(facts: Mapping[str, Any]) -> list[str]:
    """The damage among the incidents of ``run.json``; extensions, restarts and repeated steps are none."""
    texts = [str(incident["text"]) for incident in facts.get("incidents", ())]
    return [text for text in texts if text.startswith(DAMAGED)]


def record_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of a stage's record until a checkpoint, as that keeps them; none where it does not."""
    try:
        state = json.loads((checkpoint / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(state.get("record", {})) if is_sealed(state) else {}


def changed_files(stage: Path, step: int, digests: Mapping[str, str]) -> list[Damage]:
    """Metrics, warnings and rollouts of a stage that are not what was written, and token arrays that are missing.

    Args:
        stage: its directory.
        step: of the checkpoint that kept the digests.
        digests: SHA-256 of every file until that step, by its name in the directory.
    """
    found = []
    for name, digest in digests.items():
        path = stage / name
        if not path.exists():
            # Other files that are missing, and steps that lack both of their files, are reported by ``stage_damage``.
            if path.suffix == ROLLOUT_SUFFIXES[1] and path.with_suffix(ROLLOUT_SUFFIXES[0]).exists():
                means = "the token arrays of this step are lost; the weights do not depend on them"
                found.append(Damage(f"stages/{stage.name}/{name}", "missing", means, _COPY))
            continue
        content = path.read_bytes() if numbered_step(name) else lines_until(path, step)
        if hashlib.sha256(content).hexdigest() != digest:
            what = f"is not what was written until step {step} (its SHA-256 differs)"
            means = "it was edited, or the disk has changed it; the weights do not depend on it"
            found.append(Damage(f"stages/{stage.name}/{name}", what, means, _COPY))
    return found


def stage_damage(
    stage: Path, steps: int | None = None, reported: Collection[str] = (), *, contents: bool = True
) -> list[Damage]:
    """What is damaged among the metrics, clocks, warnings and rollouts of a stage.

    Args:
        stage: its directory.
        steps: steps that it has done; as its files tell, if left out.
        reported: places that were reported already; that they also differ from their digests is left out.
        contents: False neither reads rollouts nor computes digests, which takes long where there are many.
    """
    metrics, read = read_steps(stage / "metrics.jsonl")
    clocks, clocked = read_steps(stage / "timings.jsonl")
    files = rollout_files(stage)
    if steps is None:
        # A checkpoint comes after all else of its step, and the rollouts of a step after all of the step before.
        through = max([0, *numbered(stage / "checkpoints"), *(step - 1 for step in files)])
        done, timed = max([through, *metrics]), max([through, *(step - 1 for step in metrics)])
    else:
        done = timed = steps
    damage = _rows_damage(
        stage / "metrics.jsonl",
        read,
        missing=[step for step in range(1, done + 1) if step not in metrics],
        means="the curves and the canary miss these lines; the weights do not depend on them",
    )
    damage += _rows_damage(
        stage / "timings.jsonl",
        clocked,
        missing=[step for step in range(1, timed + 1) if step not in clocks],
        means="the durations of these steps are lost; nothing depends on them",
    )
    if (stage / "canary.jsonl").exists():
        warnings, means = read_jsonl(stage / "canary.jsonl", canary_fault), "warnings are lost; nothing depends on them"
        damage += _rows_damage(stage / "canary.jsonl", warnings, missing=[], means=means)
    damage += _rollouts_damage(stage, files, done, metrics, contents)
    if not contents:
        return damage
    checkpoints = {step: path for step, path in numbered(stage / "checkpoints").items() if step <= done}
    kept = [(step, digests) for step, path in checkpoints.items() if (digests := record_digests(path))]
    known = {*reported, *(one.where for one in damage)}
    changed = changed_files(stage, *kept[-1]) if kept else []
    return [*damage, *(one for one in changed if one.where not in known)]


def _rollouts_damage(
    stage: Path, files: Mapping[int, Path], done: int, metrics: Mapping[int, Mapping[str, Any]], contents: bool
) -> list[Damage]:
    where = f"stages/{stage.name}/rollouts"
    damage = []
    if missing := [step for step in range(1, done + 1) if step not in files]:
        means = "the responses of these steps are lost; the weights do not depend on them"
        damage.append(Damage(where, f"no file of {steps_words(missing)}", means, _COPY))
    for step, path in files.items() if contents else ():
        if step > done:
            continue  # under way, or to be done again
        groups = metrics.get(step, {}).get("groups/all")
        _, fault = read_rollouts(path, step, int(groups) if isinstance(groups, int | float) else None)
        if fault:
            means = f"the other responses of step {step} are lost; the weights do not depend on them"
            damage.append(Damage(f"{where}/{path.name}", fault, means, _COPY))
    return damage


def _rows_damage(path: Path, found: ReadRows, *, missing: list[int], means: str) -> list[Damage]:
    faults = []
    if found.faults:
        faults.append(lines_words(found.faults))
    if missing:
        aside = path.with_name(f"{path.name}{ASIDE}")
        kept = f" ({aside.name} keeps lines that cannot be read)" if aside.exists() else ""
        faults.append(f"no row of {steps_words(missing)}{kept}")
    if not faults:
        return []
    return [Damage(f"stages/{path.parent.name}/{path.name}", "; ".join(faults), means, _COPY)]


def steps_words(steps: Iterable[int]) -> str:
    """``step 3``, or ``steps 1 to 3, 5 and 7 to 9 (7)``: some steps and, where it helps, how many they are."""
    runs: list[list[int]] = []
    for step in sorted(steps):
        if runs and step == runs[-1][-1] + 1:
            runs[-1][1:] = [step]
        else:
            runs.append([step])
    words = [" to ".join(map(str, run)) for run in runs]
    count = sum(run[-1] - run[0] + 1 for run in runs)
    if count == 1:
        return f"step {words[0]}"
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"steps {listed} ({count})" if len(words) > 1 else f"steps {listed}"
