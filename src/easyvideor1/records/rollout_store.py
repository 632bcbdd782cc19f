"""The rollouts of a run, read again: by later stages of the run, by tools, and by you.

store = RolloutStore(Path("runs/mine"))
for group in store.groups(stage="grpo", steps=range(10, 21)):
    print(group.step, group.record.sample, [one.score.accuracy for one in group.record.trajectories])
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.records.damage import Damage
from easyvideor1.records.reading import read_rollouts, rollout_files, stage_directories
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.records.trajectory_files import read_trajectories
from easyvideor1.types import DataError


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A sample of a step with its scored responses. ``stage`` is the directory's name, ``place`` counts the groups of
    the step from 0."""

    stage: str
    step: int
    place: int
    record: SampleRecord


class RolloutStore:
    """The groups that a run has generated, scored and kept. Files are read when they are asked for, one at a time.

    ``damage`` names what could not be read so far; the rest is given all the same.

    Args:
        run: directory of the run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.damage: list[Damage] = []
        self._read: tuple[Path, Sequence[SampleRecord]] | None = None

    def stages(self) -> list[str]:
        """Directories' names of the stages that have rollouts, in order."""
        return [place.name for place in stage_directories(self.run) if (place / "rollouts").is_dir()]

    def steps(self, stage: str) -> list[int]:
        """The steps of a stage whose rollouts are there.

        Raises:
            DataError: the run has no rollouts of such a stage.
        """
        return list(rollout_files(self._directory(stage)))

    def groups(self, stage: str | None = None, steps: Container[int] | None = None) -> Iterator[StoredGroup]:
        """Groups in the order in which they were trained on, without the arrays of their tokens.

        Args:
            stage: name of a stage, or of its directory; all stages if left out.
            steps: such as a ``range``; all steps if left out.

        Raises:
            DataError: the run has no rollouts of such a stage.
        """
        for name in self.stages() if stage is None else [self._directory(stage).name]:
            for step, file in rollout_files(self._directory(name)).items():
                if steps is not None and step not in steps:
                    continue
                records, fault = read_rollouts(file, step)
                if fault:
                    where = file.relative_to(self.run).as_posix()
                    self.damage.append(Damage(where, fault, "what can be read of it is used"))
                for place, record in enumerate(records):
                    yield StoredGroup(name, step, place, record)

    def with_arrays(self, stage: str, step: int, place: int) -> SampleRecord:
        """One group with the token ids, masks, log-probs and versions of its turns.

        Raises:
            DataError: the file is missing or damaged, or has no such group; the message names it.
        """
        file = self._directory(stage) / "rollouts" / f"step_{step:06d}.jsonl"
        if self._read is None or self._read[0] != file:
            self._read = file, tuple(read_trajectories(file, arrays=True))
        records = self._read[1]
        if not 0 <= place < len(records):
            raise DataError(
                f"{file}: has {len(records)} groups, none with number {place}; it was changed after writing"
            )
        return records[place]

    def _directory(self, stage: str) -> Path:
        for name in self.stages():
            if stage in (name, name.partition("-")[2]):
                return self.run / "stages" / name
        known = ", ".join(self.stages()) or "none"
        raise DataError(f"{self.run}: no rollouts of a stage {stage!r}; there are those of {known}")
