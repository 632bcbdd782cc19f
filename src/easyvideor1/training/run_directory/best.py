"""The best checkpoint of a stage by a metric of its evaluations: marked in ``best.json``, and never pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from easyvideor1.files import is_sealed, read_json, seal, write_json
from easyvideor1.records.reading import numbered
from easyvideor1.types import DataError

#: The mark, in the directory of the stage.
BEST = "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The checkpoint with the highest value of a metric, by its step in the stage; of equal values the earliest."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """Keeps the mark of a stage.

    ``metric`` is the one that counts, ``rows`` reads the metrics of the steps that are done. The best follows from the
    rows and from the checkpoints that are there, so a mark that a kill has prevented is made at the next start.
    """

    stage_dir: Path
    metric: str
    rows: Callable[[], Sequence[Mapping[str, Any]]]

    def is_new(self, step: int) -> bool:
        """Whether ``step``, which is evaluated but not saved yet, is better than all that are saved."""
        if not self.metric:
            return False
        found = self._until(step, self.rows(), [step])
        return found is not None and found.step == step

    def mark(self, step: int) -> int | None:
        """Write the mark of the best checkpoint up to ``step``, and return its step.

        Without a metric, or a checkpoint that was evaluated, no mark stays.
        """
        found = self._until(step, self.rows()) if self.metric else None
        file = self.stage_dir / BEST
        if found is None:
            file.unlink(missing_ok=True)
            return None
        value = seal(asdict(found))
        if not file.exists() or _content(file) != value:
            write_json(file, value)
        return found.step

    def words(self) -> str:
        """Which checkpoint is the best."""
        best = _readable(self.stage_dir)
        if best is None:
            return f"no checkpoint is marked as the best, because no evaluation gave {self.metric}"
        return f"best after step {best.step}: {best.metric} {best.value:.4f}"

    def _until(self, step: int, rows: Sequence[Mapping[str, Any]], saving: Sequence[int] = ()) -> Best | None:
        there = {*numbered(self.stage_dir / "checkpoints"), *saving}
        values = {int(row["step"]): float(row[self.metric]) for row in rows if self.metric in row}
        marked = _readable(self.stage_dir)
        if marked is not None and marked.metric == self.metric:  # its row may be among those that are damaged
            values.setdefault(marked.step, marked.value)
        candidates = [(value, -at) for at, value in values.items() if at <= step and at in there]
        if not candidates:
            return None
        value, at = max(candidates)
        return Best(-at, self.metric, value)


def read_best(stage_dir: Path) -> Best | None:
    """The mark of a stage; ``None`` if there is none.

    Raises:
        DataError: it is damaged.
    """
    file = stage_dir / BEST
    if not file.exists():
        return None
    value = read_json(file)
    try:
        if not is_sealed(value):
            raise ValueError("its checksum is wrong")
        return Best(int(value["step"]), str(value["metric"]), float(value["value"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: not the mark of a checkpoint ({error}); remove it, and the next checkpoint of the run writes it "
            "again"
        ) from error


def _readable(stage_dir: Path) -> Best | None:
    try:
        return read_best(stage_dir)
    except DataError:
        return None


def _content(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file)
    except DataError:
        return {}
