"""What a run on several ranks has sent to each of them."""

from __future__ import annotations

from pathlib import Path

from easyvideor1.records.reading import read_steps
from easyvideor1.types import DataError


def driver_bytes_per_sample(stage: Path) -> float:
    """Bytes that the first rank sent to each of the others, per sample that was trained on, with all its responses.

    The mean over the steps of a stage, as they stand in its ``timings.jsonl``.

    Raises:
        DataError: no step was trained on several ranks.
    """
    rows = read_steps(stage / "timings.jsonl")[0].values()
    found = [float(row["ranks/driver_bytes_per_sample"]) for row in rows if "ranks/driver_bytes_per_sample" in row]
    if not found:
        raise DataError(f"{stage / 'timings.jsonl'}: no step was trained on several ranks; set cluster.ranks")
    return sum(found) / len(found)
