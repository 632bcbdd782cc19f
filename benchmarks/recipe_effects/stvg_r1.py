"""STVG-R1: what a perfect choice of number is worth, by majority vote against the number of the first frame."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.recipe_effect import Effect, Sides, Trial, json_rows
from easyvideor1.cli.recipes import prepare_missing
from easyvideor1.config import load_config
from easyvideor1.recipes.stvg_r1 import ids_on_target, majority_id, v_iou
from easyvideor1.video.tracks import Box, Tracks, read_tracks, tracks_beside, tracks_file


def measure(trial: Trial) -> Sides:
    """Mean vIoU over all toy rows; no model is asked."""
    prepare_missing("stvg_r1", load_config("stvg_r1"), Console(quiet=True))
    first, voted = [], []
    for tracks, truth, span in _rows(Path("runs/stvg_r1/world")):
        label, _ = majority_id(tracks, truth)
        assert label is not None
        voted.append(v_iou(tracks, label, span, truth, span))
        first.append(v_iou(tracks, ids_on_target(tracks, truth)[0], span, truth, span))
    return Sides(baseline=sum(first) / len(first), recipe=sum(voted) / len(voted))


def _rows(world: Path) -> Iterator[tuple[Tracks, dict[int, Box], tuple[float, float]]]:
    for split in ("train", "test"):
        for row in json_rows(world / f"stvg-{split}.jsonl"):
            tracks = read_tracks(tracks_file(tracks_beside(str(world / row["videos"][0]))))
            start, end = row["span"]
            yield tracks, {int(frame): tuple(box) for frame, box in row["target_boxes"].items()}, (start, end)


EFFECT = Effect(
    recipe="stvg_r1",
    measures="m_vIoU of a perfect choice of number, majority vote minus the number of the first frame",
    measure=measure,
    claimed=True,  # exact
    equal="rows and tracks; nothing is trained",
    by_construction=(
        "The toy tracker cuts one target in two exact tracks, so the longer one is never worse; what is left to see "
        "is what a cut costs."
    ),
    tests=("tests/recipes/test_stvg_r1.py", "tests/video/test_effects.py", "tests/video/test_tracks.py"),
    seeded=False,
)
