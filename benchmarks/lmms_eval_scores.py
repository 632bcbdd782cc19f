"""How many replies lmms-eval 0.7.3 and this package score in another way, and which: docs/benchmarks.md.

    python -m benchmarks.lmms_eval_scores motionbench egoschema

The replies are random ones in forms that models use. It runs in an environment with lmms-eval (the docstring of
tests/benchmarks/test_against_lmms_eval.py says how to make one).
"""

import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from benchmarks.lmms_eval_rows import WORDS
from benchmarks.lmms_eval_tasks import CASES, Case
from easyvideor1.benchmarks import BENCHMARKS, Benchmark, Question
from easyvideor1.benchmarks.benchmark import load_definitions
from easyvideor1.benchmarks.metrics import Answered, greedy_answers
from easyvideor1.benchmarks.release import FILE, NUMBER
from easyvideor1.config.schema import RunConfig, SourceConfig
from easyvideor1.data import load_source
from easyvideor1.records.trajectories import TrajectoryRecord, sample_record
from easyvideor1.types import Completion

#: Replies to a choice question with the letter x, its words t, another letter y and its words u.
FORMS = (
    "{x}",
    "{x}.",
    "({x})",
    "{x})",
    "{x}. {t}",
    "({x}) {t}",
    "{x}: {t}",
    "{t}",
    "It {t}.",
    "The answer is {x}.",
    "The best answer is {x}",
    "The correct answer is {x}. {t}",
    "Answer: {x}",
    "Option {x}",
    "Option {x}: {t}",
    "<answer>{x}</answer>",
    "<think>It may be {y}.</think><answer>{x}</answer>",
    "<think>not {y}</think>\n{x}",
    '{{"answer": "{x}"}}',
    "\\boxed{{{x}}}",
    "**{x}**",
    "It is not {y}. The answer is {x}.",
    "{y} or {x}",
    "The answer is {x}, since a dog sits there.",
    "A dog sits there.",
    "I cannot tell",
    "",
    "Dawn breaks over the Esplanade",
    "The dog {t}, so {x} fits best.",
)


@dataclass(frozen=True)
class Compared:
    """Questions with our records of them, and of each what lmms-eval makes of the reply and scores it."""

    found: Sequence[Answered]
    forms: Sequence[str]
    results: Sequence[Any]
    scores: Sequence[float]

    def differ(self, benchmark: Benchmark) -> list[tuple[str, str, str, float, float]]:
        """Form, reply, reference, our score and theirs, where they are not the same."""
        value = benchmark.metrics[0].value
        rows = zip(self.found, self.forms, self.scores, strict=True)
        return [
            (form, one.response.response if one.response else "", one.record.answer, value(one), score)
            for one, form, score in rows
            if abs(value(one) - score) > 1e-9
        ]


def reply(rng: random.Random, texts: list[str] | None, gold: Any, form: str) -> str:
    """A reply, right about every second time."""
    right = rng.random() < 0.5
    if texts is not None:
        at = gold if right else rng.choice([at for at in range(len(texts)) if at != gold])
        other = rng.choice([each for each in range(len(texts)) if each != at])
        return form.format(x=LETTERS[at], t=texts[at], y=LETTERS[other], u=texts[other])
    if isinstance(gold, list):
        start, end = (max(0.0, limit + rng.randrange(-30, 31) / 10) for limit in gold)
        return form.format(a=round(min(start, end - 0.5), 1), b=round(max(end, start + 0.5), 1))
    try:
        wrong = f"{float(gold) * rng.uniform(0.3, 1.7):.2f}"
    except ValueError:
        wrong = {"yes": "no", "no": "yes", "Yes": "No", "No": "Yes"}.get(gold) or rng.choice(WORDS)
    return form.format(x=gold if right else wrong)


def answered(
    benchmark: Benchmark, questions: Sequence[Question], replies: Mapping[str, str], file: Path
) -> list[Answered]:
    """The questions with their replies, loaded and scored as an evaluation does it."""
    file.write_text("".join(json.dumps(one.row(benchmark.name)) + "\n" for one in questions), encoding="utf-8")
    config = RunConfig()
    score, records = benchmark.open_scorer(config.rewards), []
    for sample in load_source(SourceConfig(path=str(file)), config.data, check_media=False).samples:
        said = replies[sample.id]
        greedy = TrajectoryRecord(said, len(said), "stop", score(sample, Completion(said, "stop")))
        records.append(sample_record(sample, greedy=greedy, error=None))
    return greedy_answers(records)


def compare(case: Case, count: int, choice: Sequence[str], other: Sequence[str], directory: Path) -> Compared:
    """Random questions of a benchmark with replies in these forms, scored by both."""
    os.environ.setdefault("HF_HOME", str(directory))  # their tasks need to know where data would be
    module = import_module(f"lmms_eval.tasks.{case.task}.utils")
    rng, benchmark = random.Random(case.name), BENCHMARKS.resolve(case.name)
    assert isinstance(benchmark, Benchmark)
    (layout,) = (one for one in benchmark.layouts if one.name == case.layout)
    questions, replies, forms, results, scores = [], {}, [], [], []
    for number in range(count):
        row, texts, gold = case.make(rng, number)
        (question,) = layout.questions({FILE: "test-0.parquet", NUMBER: number + 1, **row})
        assert isinstance(question, Question)
        form = rng.choice(choice if texts else other)
        said = reply(rng, texts, gold, form)
        result, score = case.theirs(module, deepcopy(row), said)
        questions.append(question)
        replies[question.id] = said
        forms.append(form)
        results.append(result)
        scores.append(score)
    assert len(replies) == count
    return Compared(answered(benchmark, questions, replies, directory / "rows.jsonl"), forms, results, scores)


def main(names: Sequence[str]) -> None:
    for case in CASES:
        if case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            compared = compare(case, 700, FORMS, case.other, Path(directory))
        benchmark = BENCHMARKS.resolve(case.name)
        assert isinstance(benchmark, Benchmark)
        differ, asked = compared.differ(benchmark), Counter(compared.forms)
        print(f"{case.name}: {len(differ)} of 700")
        for form, times in Counter(form for form, *_ in differ).most_common():
            example = next(rest for of, *rest in differ if of == form)
            print(f"  {times} of {asked[form]}  {form!r}: (reply, reference, ours, theirs) {example}")


load_definitions()
if __name__ == "__main__":
    main(sys.argv[1:])
