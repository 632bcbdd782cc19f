"""A million strings through every reward: no exception, every score in [0, 1], no string that takes long.

``python -m benchmarks.fuzz_rewards [COUNT]`` (1,000,000 if not given). Programs that run in the sandbox and math that
goes to math-verify have a share of their own (``--programs``, ``--expressions``), because one of them costs as much as
a thousand others; in the million those two types are read (``parse``) but not compared. SVG and HTML are compared by
their structure, not rendered.

Then the moves of reward hacking (``rewards/certificates/reward_hacking.py``) are scored for every type under every
profile. ``broken`` counts responses that earn more than they commit to; it must be 0 for ``strict``. For the published
profiles it shows what their code rewards.

Milliseconds are CPU time of this process (wall-clock time for the two types that work elsewhere). The last line of the
output is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from benchmarks.strings import FAMILIES, PIECES, REFERENCES, Family, fuzz_string
from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import Scorer, parse, score
from easyvideor1.rewards.certificates.reward_hacking import search
from easyvideor1.rewards.profiles import PROFILES
from easyvideor1.tasks import TASKS
from easyvideor1.types import Sample, Score

#: Types whose comparison leaves this process.
OUTSIDE = ("code", "math")
#: Sizes, in characters, between which the growth of time is measured.
SIZES = (20_000, 160_000)
#: The most moves of these types; all of the others.
MOVES = {"code": 300, "math": 1500}


@dataclass
class Figures:
    """The result: the number of strings, the faults in words, and the milliseconds of each string."""

    count: int = 0
    faults: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    worst: float = 0.0
    slowest: str = ""

    def add(self, task: str, text: str, took: float, fault: str) -> None:
        self.count += 1
        self.milliseconds.append(took)
        if took > self.worst:
            self.worst, self.slowest = took, f"{task}: {text[:60]!r} ({len(text)} characters)"
        if fault:
            self.faults.append(f"{task}: {fault}: {text[:200]!r}")

    def percentile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def samples() -> dict[str, Sample]:
    """One sample of every task type."""
    return {
        task: Sample("fuzz", "?", task, answer, options=options, extra=row)
        for task, (answer, options, row) in REFERENCES.items()
    }


def fault_of(score: Score) -> str:
    """What is wrong with a score; empty if nothing."""
    numbers = (score.accuracy, score.format, score.total)
    if not all(isinstance(number, float) and 0.0 <= number <= 1.0 for number in numbers):
        return f"accuracy, format and total are {numbers}"
    if not all(math.isfinite(part) for part in score.parts.values()):
        return f"parts are {dict(score.parts)}"
    if not score.applicable and not score.reason:
        return "not applicable, and no reason"
    return ""


def fuzz(count: int, seed: int, tasks: Iterable[str] | None = None, *, outside: bool = False) -> Figures:
    """Score ``count`` strings with the task types in turn. Exceptions are faults, and the next string is tried."""
    rng = random.Random(seed)
    # Another process may have the core: time of this process counts, where the work is done in it.
    clock = time.perf_counter if outside else time.process_time
    scorer = Scorer(RewardConfig(render="off"))
    rows = samples()
    chosen = list(tasks or rows)
    figures = Figures()
    for task in chosen:  # what is imported with the first answer of a type is no time of a string
        if outside or task not in OUTSIDE:
            scorer(rows[task], f"<answer>{rows[task].answer}</answer>")
    for number in range(count):
        task = chosen[number % len(chosen)]
        sample = rows[task]
        text = fuzz_string(rng, sample.answer)
        begun = clock()
        try:
            if task in OUTSIDE and not outside:
                parse(task, text, sample.options)
                fault = ""
            else:
                fault = fault_of(scorer(sample, text))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            fault = f"{type(error).__name__}: {error}"
        figures.add(task, text, (clock() - begun) * 1000, fault)
    return figures


@dataclass(frozen=True)
class Growth:
    """How the time of one family grows for one type: the exponent between two sizes, and the time of the larger."""

    task: str
    family: str
    exponent: float
    milliseconds: float


def _seconds(scorer: Scorer, sample: Sample, text: str, repeats: int) -> float:
    fastest = math.inf
    for _ in range(repeats):
        begun = time.process_time()
        if sample.task in OUTSIDE:
            parse(sample.task, text, sample.options)
        else:
            scorer(sample, text)
        fastest = min(fastest, time.process_time() - begun)
    return fastest


def growths(families: Iterable[Family], *, sizes: tuple[int, int] = SIZES, repeats: int = 3) -> Iterator[Growth]:
    """The growth of every family for every type; below a millisecond at the larger size the exponent is 0.

    A suspicious exponent (above 1.3) is measured again with more repeats before it is given; quadratic time would be 2.
    """
    scorer = Scorer(RewardConfig(render="off"))
    rows = samples()
    for family in families:
        short, long = (family.of_size(size) for size in sizes)
        for task, sample in rows.items():
            for attempt in (1, 4):
                above = _seconds(scorer, sample, long, repeats * attempt)
                if above < 1e-3:
                    exponent = 0.0
                    break
                below = max(_seconds(scorer, sample, short, repeats * attempt), 1e-6)
                exponent = math.log(above / below) / math.log(sizes[1] / sizes[0])
                if exponent <= 1.3:
                    break
            yield Growth(task, family.name, exponent, above * 1000)


def random_families(count: int, seed: int) -> Iterator[Family]:
    """Families of one to three pieces, after up to two others and before one."""
    rng = random.Random(seed)
    for number in range(count):
        unit = "".join(rng.choices(PIECES, k=rng.randint(1, 3)))
        before = "".join(rng.choices(("<answer>", "", *PIECES), k=rng.randint(0, 2)))
        yield Family(
            f"random {number}: {before!r} + {unit!r} * n", before, unit, rng.choice(("</answer>", "", *PIECES))
        )


def searched(profile: str, seed: int) -> dict[str, object]:
    """The result of the search for reward hacking under a profile."""
    found = search(TASKS, partial(score, profile=profile), most=MOVES, seed=seed)
    by_task = Counter(move.task for move, _ in found.broken)
    for move, accuracy in found.broken[:20] if profile == "strict" else ():
        print(f"paid too much: {move.task}: {move.name}: {move.response!r} earns {accuracy:.3f} > {move.at_most:.3f}")
    return {"tried": found.tried, "broken": len(found.broken), "broken_by_task": dict(by_task)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--programs", type=int, default=600)
    parser.add_argument("--expressions", type=int, default=3000)
    parser.add_argument("--families", type=int, default=60, help="random families beside the written ones")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.perf_counter()
    report: dict[str, object] = {"benchmark": "fuzz_rewards", "seed": options.seed}
    shares = {"strings": (options.count, None), "programs": (options.programs, ["code"])}
    shares["expressions"] = (options.expressions, ["math"])
    faults: list[str] = []
    for name, (count, tasks) in shares.items():
        figures = fuzz(count, options.seed, tasks, outside=tasks is not None)
        faults += figures.faults
        report[name] = {
            "count": figures.count,
            "faults": len(figures.faults),
            "milliseconds": {
                "p50": round(figures.percentile(0.5), 4),
                "p99": round(figures.percentile(0.99), 3),
                "p99.9": round(figures.percentile(0.999), 3),
                "max": round(figures.worst, 2),
            },
            "slowest": figures.slowest,
        }
        print(f"{name}: {json.dumps(report[name])}", flush=True)
    grown = list(growths([*FAMILIES, *random_families(options.families, options.seed)]))
    steepest = sorted(grown, key=lambda growth: -growth.exponent)[:5]
    report["growth"] = {
        "measured": len(grown),
        "above_1.5": sum(growth.exponent > 1.5 for growth in grown),
        "steepest": [[g.task, g.family, round(g.exponent, 2), round(g.milliseconds, 1)] for g in steepest],
        "slowest_ms_at_160k": round(max(growth.milliseconds for growth in grown), 1),
    }
    report["moves"] = {profile: searched(profile, options.seed) for profile in ("strict", *PROFILES)}
    print(f"moves: {json.dumps(report['moves'])}", flush=True)
    for fault in faults[:20]:
        print(f"fault: {fault}")
    report["seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
