"""Video-Thinker: the hindsight filter on traces of which the truth is known, against the first trace of each row."""

from collections.abc import Iterable
from typing import Any

from benchmarks.recipe_effect import Effect, Sides, Trial, json_rows
from easyvideor1.recipes.package import find_package


def measure(trial: Trial) -> Sides:
    """Share of the traces that say what the clip shows."""
    package = find_package("video_thinker")
    assert package is not None
    package.prepare()
    world = package.root / "world"
    bodies = {scene["clip"]: scene["bodies"][0] for scene in json_rows(world / "scenes.jsonl")}
    return Sides(
        baseline=_true_share(json_rows(world / "thinker-train.jsonl"), bodies),
        recipe=_true_share(json_rows(world / "thinker-kept.jsonl"), bodies),
    )


def _true_share(rows: Iterable[dict[str, Any]], bodies: dict[str, dict[str, Any]]) -> float:
    """Of the first traces of rows, how many have the caption of their clip."""
    found = []
    for row in rows:
        body, written = bodies[row["clip"]], row["offline_output"]
        trace = written if isinstance(written, str) else written[0]
        found.append(f"<caption>the {body['colour']} {body['shape']} goes {body['motion']}</caption>" in trace)
    return sum(found) / len(found)


EFFECT = Effect(
    recipe="video_thinker",
    measures="share of traces true to their clip, filtered minus first written",
    measure=measure,
    claimed=True,  # exact
    equal="rows before the filter; not the rows that are kept",
    by_construction=(
        "A careless toy trace changes the very word that the filter reads, so all that it keeps is true; what is "
        "left to see is how many rows it keeps."
    ),
    tests=(
        "tests/recipes/test_video_thinker.py",
        "tests/rewards/test_tag_contents.py",
        "tests/curation/test_filters.py",
    ),
    seeded=False,
)
