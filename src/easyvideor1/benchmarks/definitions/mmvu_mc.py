"""MMVU (validation, choice): the 625 questions of MMVU that have options (arXiv 2501.12380)."""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.definitions.mmvu import DISCIPLINES, FILES, OFFICIAL, PUBLISHED

_OFFICIAL = v.only(lambda row: row["question_type"] == "multiple-choice", OFFICIAL)
_PUBLISHED = v.only(lambda row: row["problem_type"] == "multiple choice", PUBLISHED)

MMVU_MC = v.public(
    v.Benchmark(
        name="mmvu_mc",
        version="1",
        title="MMVU (validation, choice)",
        hub="yale-nlp/MMVU",
        licence="unknown",
        count=625,
        metrics=(v.Metric("overall"), *DISCIPLINES),
        breakdown=("discipline", "subject"),
        layouts=(
            v.Layout("official", FILES, _OFFICIAL),
            v.Layout("published", ("mmvu-mc.json", "mmvu.json", "mmvu-all.json"), _PUBLISHED),
        ),
    )
)
