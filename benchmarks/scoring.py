"""The time that a run waits for scoring: ``python -m benchmarks.scoring [--programs N] [--workers N ...] [--rows N]``.

A training step gets N programs that sleep up to their time limit, among honest ones, and mathematical expressions whose
comparison does not end. The scorer of training scores them with one worker and with several; the scores must be equal.
A sleeping program needs no processor but its whole time limit, so the time of a step is that of all programs divided by
the number of workers.

The same step is then scored while its responses still come in, one group every few seconds, as from an engine on
another device, and after the last of them (``rewards.overlap``).

Then a run starts with ``--rows`` rows, and starts again without a change (``benchmarks.restart``); 0 skips that. Seven
minutes on two cores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from benchmarks import restart
from easyvideor1.config import RewardConfig
from easyvideor1.rewards import Scorer
from easyvideor1.types import Completion, Sample, Score

_TESTS = {"tests": ["assert double(2) == 4", "assert double(-1) == -2"]}
_REFERENCE = "def double(x):\n    return 2 * x"
_HONEST = f"```python\n{_REFERENCE}\n```"
_SLEEPS = "```python\nimport time\n\n\ndef double(x):\n    time.sleep(1000)\n```"
_ENDLESS = "<answer>\\prod_{n=1}^{99999} (n+\\sqrt{n})</answer>"
_GROUP = 8
#: Seconds in which an engine makes a group, and workers that score meanwhile.
_GENERATING = 5.0
_AHEAD_WORKERS = 8


def step(programs: int) -> list[tuple[Sample, list[Completion]]]:
    """Groups of responses: programs that sleep, then as many honest ones, then a group of endless mathematics."""
    groups = []
    for kind, text in (("hostile", _SLEEPS), ("honest", _HONEST)):
        for at in range(0, programs, _GROUP):
            sample = Sample(f"{kind}-{at}", "Double a number.", "code", _REFERENCE, extra=_TESTS)
            groups.append((sample, [Completion(text, "stop")] * min(_GROUP, programs - at)))
    maths = Sample("maths", "What is it?", "math", "3x + 1")
    return [*groups, (maths, [Completion(_ENDLESS, "stop")] * 2)]


def timed(groups: list[tuple[Sample, list[Completion]]], workers: int) -> tuple[float, list[tuple[Score, ...]]]:
    """Seconds by the clock, and the scores."""
    scorer = Scorer(RewardConfig(workers=workers, step_seconds=None))
    begun = time.monotonic()
    scores = scorer.score_groups(groups)
    return time.monotonic() - begun, scores


def while_generating(
    groups: list[tuple[Sample, list[Completion]]], *, overlap: bool
) -> tuple[float, list[tuple[Score, ...]]]:
    """Seconds by the clock of a step whose groups come in one by one, and the scores."""
    scorer = Scorer(RewardConfig(workers=_AHEAD_WORKERS, step_seconds=None))
    begun = scorer.comparisons()
    start = time.monotonic()
    for position, (sample, given) in enumerate(groups):
        time.sleep(_GENERATING)
        if overlap:
            begun.begin(position, sample, given)
    scores = scorer.score_groups(groups, begun)
    return time.monotonic() - start, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=8, help="programs that sleep")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--rows", type=int, default=restart.ROWS, help="rows of the run that starts again")
    options = parser.parse_args()
    console = Console(width=120)
    groups = step(options.programs)
    table = Table("workers", "seconds", "hostile programs / s", "times one worker", "same scores")
    found = {}
    first: list[tuple[Score, ...]] | None = None
    for workers in options.workers:
        seconds, scores = timed(groups, workers)
        first = scores if first is None else first
        found[workers] = seconds
        rate = options.programs / seconds
        ratio = found[options.workers[0]] / seconds
        table.add_row(str(workers), f"{seconds:.1f}", f"{rate:.2f}", f"{ratio:.2f}", str(scores == first))
    console.print(table)
    after, late = while_generating(groups, overlap=False)
    meanwhile, early = while_generating(groups, overlap=True)
    console.print(
        f"{len(groups)} groups generated in {_GENERATING:g} s each: {after:.1f} s when they are scored afterwards, "
        f"{meanwhile:.1f} s when meanwhile, same scores: {late == early == first}"
    )
    base = found[options.workers[0]]
    starts = restart.measure(options.rows) if options.rows else {}
    print(
        json.dumps(
            {
                "benchmark": "scoring",
                "programs": options.programs,
                "hostile_programs_per_second_per_worker": options.programs / base / options.workers[0],
                **{f"scaling_{workers}_workers": base / found[workers] for workers in options.workers[1:]},
                "overlap_step_ratio": meanwhile / after,
                **starts,
            }
        )
    )


if __name__ == "__main__":
    main()
