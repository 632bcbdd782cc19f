"""How fast rewards are, how far they agree with the published packages, and what a constant answer earns.

``python -m benchmarks.rewards`` prints tables and, as its last line, JSON:

``scores_per_second``: by task type on one core (CPU time of this process, or wall-clock time where the work is in
another: code runs in the sandbox, math may go to math-verify; these go through the responses once, because
comparisons are cached). SVG and HTML are compared by structure, not rendered.

``parses_per_score``: the same, as the time of a score over that of parsing a short JSON text in the same run, which
compares between machines.

``agreement_easyvideor1``: for each compatibility profile the share of responses with the same total (within 1e-6) and
the same applicability as ``strict``; overall, by task type, and the differences by cause with the direction of the
accuracy. The corpus is that of ``benchmarks.reward_corpus``.

``best_constant``: by task type, over the toyworld rows and over the real rows (``rewards.audit.constant_baselines``).
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.reward_corpus import by_task, real_samples, responses, toyworld_samples
from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.audit import reference_scorer
from easyvideor1.rewards.audit.constant_baselines import best_constant
from easyvideor1.rewards.tags import full_response
from easyvideor1.types import Sample, Score

#: Types whose work is in another process.
OUTSIDE = ("code", "math")
PROFILES = ("easyvideor1-video", "easyvideor1-unified")
#: What a score's time is compared with: one parse of this text by the standard library, in the same run. Rates of one
#: machine say nothing about another; the ratio does.
_YARDSTICK = json.dumps({"time": [1.5, 7.25], "boxes": {str(n): [n, 2 * n, 3 * n, 4 * n] for n in range(8)}})
_ROWS = {"code": 6}
_SECONDS = 1.0

#: Way of writing -> cause of a difference, for all task types; then task type -> cause for what is left.
_CAUSE_OF_WAY = {
    "two tags, right last": "which tag",
    "two tags, wrong last": "which tag",
    "empty tag": "empty tag",
    "the answer is, twice": "last statement",
    "two answers in the tag": "ambiguous answer",
    "words of the option": "options unknown",
    "all letters": "ambiguous answer",
    "with a unit": "units",
    "other scale": "scale mismatch",
    "bare list": "bare list",
    "one second only": "missing boxes",
    "another answer": "missing boxes",
    "seconds with a point": "keys of seconds",
    "span reversed": "form of spans",
    "span in words": "prose span",
    "a negation": "negation",
    "words in the tag": "words around the answer",
    "fenced in the tag": "words around the answer",
    "bold in the tag": "words around the answer",
    "the answer is": "words around the answer",
    "a sentence": "words around the answer",
    "no tag": "words around the answer",
}
_CAUSE_OF_TASK = {
    "code": "code is run",
    "svg_code": "markup by structure",
    "html_code": "markup by structure",
    "segmentation": "segmentation",
    "regression": "relative accuracy",
    "preference": "label",
    **dict.fromkeys(("open_ended", "video_qa", "description"), "exact text"),
}
_FIRST_BY_WAY = {"two tags, right last", "two tags, wrong last", "empty tag"}


def cause_of(task: str, way: str) -> str:
    """Why strict and published scores differ on a response of the corpus."""
    if way in _FIRST_BY_WAY or (way in _CAUSE_OF_WAY and task not in _CAUSE_OF_TASK):
        return _CAUSE_OF_WAY[way]
    if task == "regression" and way in _CAUSE_OF_WAY and way != "another answer":
        return _CAUSE_OF_WAY[way]
    return _CAUSE_OF_TASK.get(task, "other")


def written(rows: Sequence[Sample], most: int) -> Iterator[tuple[Sample, str, str]]:
    """``(sample, way of writing, response)`` for rows of one task type."""
    for at, sample in enumerate(rows[:most]):
        others = [other for other in rows if other.answer != sample.answer]
        if others:
            for way, text in responses(sample, others[at % len(others)]):
                yield sample, way, text


def throughput(task: str, rows: Sequence[Sample], scorer: Scorer) -> float:
    """Scores a second over the responses to rows of one type."""
    asked = [(sample, text) for sample, _, text in written(rows, _ROWS.get(task, 40))]
    clock = time.perf_counter if task in OUTSIDE else time.process_time
    for sample, text in asked[:20]:
        scorer(sample, text)
    done, begun = 0, clock()
    while done == 0 or (task not in OUTSIDE and clock() - begun < _SECONDS):
        for sample, text in asked:
            scorer(sample, text)
        done += len(asked)
    return done / (clock() - begun)


def yardstick() -> float:
    """Parses of ``_YARDSTICK`` a second."""
    done, begun = 0, time.process_time()
    while time.process_time() - begun < _SECONDS / 2:
        for _ in range(1000):
            json.loads(_YARDSTICK)
        done += 1000
    return done / (time.process_time() - begun)


def agreement(rows: Sequence[tuple[Sample, str, str]], profile: str) -> dict[str, object]:
    """How far a profile agrees with strict scoring on responses, and why not where it does not."""
    strict, published = Scorer(RewardConfig(render="off")), Scorer(RewardConfig(render="off", profile=profile))
    same: dict[str, list[bool]] = defaultdict(list)
    causes: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, way, text in rows:
        mine, theirs = strict(sample, text), published(sample, text)
        equal = mine.applicable == theirs.applicable and abs(mine.total - theirs.total) <= 1e-6
        same[sample.task].append(equal)
        if not equal:
            causes[cause_of(sample.task, way)][_direction(mine, theirs)] += 1
    every = [equal for found in same.values() for equal in found]
    ordered = sorted(causes.items(), key=lambda item: -item[1].total())
    return {
        "responses": len(every),
        "agreement": round(sum(every) / len(every), 4),
        "by_task": {task: round(sum(found) / len(found), 3) for task, found in same.items()},
        "differences": {cause: dict(counts) for cause, counts in ordered},
    }


def _direction(mine: Score, theirs: Score) -> str:
    if mine.applicable != theirs.applicable:
        return "not judged by strict"
    if abs(mine.accuracy - theirs.accuracy) <= 1e-6:
        return "format only"
    return "strict higher" if mine.accuracy > theirs.accuracy else "strict lower"


def constants(grouped: dict[str, list[Sample]]) -> dict[str, dict[str, object]]:
    """The best constant answer of every task type."""
    score = reference_scorer(RewardConfig())
    found = {}
    for task, rows in grouped.items():
        best = best_constant(task, rows, lambda sample, answer: score(sample, full_response(answer)))
        found[task] = {"answer": best.answer, "accuracy": round(best.accuracy, 3), "rows": best.rows}
    return found


def main() -> None:
    begun = time.perf_counter()
    toyworld, real = by_task(toyworld_samples()), by_task(real_samples())
    both = {task: [*toyworld.get(task, []), *real.get(task, [])] for task in sorted({*toyworld, *real})}
    scorer = Scorer(RewardConfig(render="off"))
    speeds, parses = {}, yardstick()
    print(f"{'a parse of ' + str(len(_YARDSTICK)) + ' characters of JSON':28} {round(parses):>8} parses/s")
    for task, rows in toyworld.items():
        speeds[task] = round(throughput(task, rows, scorer))
        print(f"{task:28} {speeds[task]:>8} scores/s  (a score takes {parses / speeds[task]:.1f} parses)", flush=True)
    asked = [entry for task, rows in both.items() for entry in written(rows, _ROWS.get(task, 60))]
    agreements = {profile: agreement(asked, profile) for profile in PROFILES}
    for profile, found in agreements.items():
        print(f"{profile}: {found['agreement']} of {found['responses']} responses get the same score")
        print(f"  {json.dumps(found['differences'])}", flush=True)
    best = {"toyworld": constants(toyworld), "real": constants(real)}
    report = {
        "benchmark": "rewards",
        "rows": {"toyworld": sum(map(len, toyworld.values())), "real": sum(map(len, real.values()))},
        "scores_per_second": speeds,
        "parses_per_score": {task: round(parses / speed, 2) for task, speed in speeds.items()},
        "agreement_easyvideor1": agreements,
        "best_constant": best,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
