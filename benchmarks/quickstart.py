"""The quickstart over seeds: ``python -m benchmarks.quickstart --work DIR``.

Runs ``evr1 quickstart`` for each seed in a new process, and prints the table of the README: greedy accuracy on held-out
questions before and after training, the mean format reward, and the shares of responses that were cut off, gave no
answer, or did not use the requested format. Finished runs are read, not repeated; interrupted runs resume. One seed
takes about two and a half minutes on two cores.

``--show N`` prints N responses of each seed: the longest, those that are right without the full format reward, wrong
ones, and others. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import check_packages
from easyvideor1.evaluation import Evaluation
from easyvideor1.records.trajectories import SampleRecord

SEEDS = (0, 1, 2, 3, 4)
#: Gain in greedy accuracy and format reward after training that every seed must reach.
GOAL_GAIN, GOAL_FORMAT = 0.25, 0.95


def run(seed: int, work: Path) -> dict[str, Any]:
    """The summary of the run with a seed; starts the run if there is none."""
    out = work / "runs" / "quickstart"
    summary = out / f"run-{seed}" / "summary.json"
    if not summary.exists():
        command = [sys.executable, "-m", "easyvideor1.cli", "quickstart", "--seed", str(seed), "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def show(directory: Path, name: str, count: int) -> None:
    """Print the responses of an evaluation that a reader should look at."""
    answered = [(record, record.greedy) for record in Evaluation.load(directory, name).records if record.greedy]

    def suspicion(pair: tuple[SampleRecord, Any]) -> tuple[bool, bool, int]:
        score = pair[1].score
        return score.accuracy > 0 and score.format < 1, pair[1].finish == "length", pair[1].tokens

    suspicious = sorted(answered, key=suspicion, reverse=True)[: count // 2]
    wrong = [pair for pair in answered if pair[1].score.accuracy < 0.5][: count // 4]
    others = answered[:: max(1, len(answered) // max(1, count - len(suspicious) - len(wrong)))]
    for record, response in [*suspicious, *wrong, *others][:count]:
        said = response.score
        print(f"{record.task} reference {record.answer!r} accuracy {said.accuracy:.2f} format {said.format:.1f}")
        print(f"    {response.response!r} ({response.finish})")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory of worlds and runs; it is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--show", type=int, default=0, metavar="N", help="number of responses to print per seed")
    options = parser.parse_args(arguments)
    check_packages()
    table = Table(title="quickstart", title_justify="left")
    for column in ("seed", "before", "after", "gain", "format", "cut off", "no answer", "other form", "seconds"):
        table.add_column(column, justify="right")
    rows = {}
    for seed in options.seeds:
        summary = run(seed, options.work)
        form = summary["form_after"]
        low, high = summary["accuracy_gain_interval"]
        rows[seed] = {
            "before": round(summary["accuracy_before"], 4),
            "after": round(summary["accuracy_after"], 4),
            "before_interval": [round(value, 4) for value in summary["accuracy_before_interval"]],
            "after_interval": [round(value, 4) for value in summary["accuracy_after_interval"]],
            "gain": round(summary["accuracy_gain"], 4),
            "gain_interval": [round(low, 4), round(high, 4)],
            "seconds": round(summary["seconds"]),
            **{name: round(value, 4) for name, value in form.items()},
        }
        row = rows[seed]
        shares = [f"{100 * form.get(name, 0):.1f}" for name in ("format", "cut_off", "no_answer", "without_form")]
        percent = [f"{100 * row['before']:.1f}", f"{100 * row['after']:.1f}", f"{100 * row['gain']:+.1f}"]
        table.add_row(str(seed), *percent, *shares, str(row["seconds"]))
        if options.show:
            print(f"seed {seed}")
            run_dir = options.work / "runs" / "quickstart" / f"run-{seed}"
            show(run_dir / "evaluations", summary["evaluations"]["after"], options.show)
    Console().print(table)
    met = all(row["gain"] >= GOAL_GAIN and row["format"] >= GOAL_FORMAT for row in rows.values())
    print(json.dumps({"benchmark": "quickstart", "goals_met": met, "seeds": rows}))


if __name__ == "__main__":
    main()
