"""MMVU (validation): 625 choice and 375 open questions in 27 subjects about 583 videos (arXiv 2501.12380)."""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.subjects import MMVU as SUBJECTS


def _subject(row: v.Raw) -> str:
    return str(row["metadata"]["subject"] if "metadata" in row else row["path"].split("/")[-2]).replace("_", " ")


_FACETS = {"subject": _subject, "discipline": lambda row: SUBJECTS.get(_subject(row), "unknown")}
# The authors' judge compares open answers by meaning. The address of a video ends in its subject and its name.
OFFICIAL = v.choice_or_open(
    lambda row: row["question_type"] == "multiple-choice",
    id="id",
    question="question",
    options=v.filled("choices"),
    answer="answer",
    video=lambda row: "/".join(str(row.get("video_path") or row["video"]).split("/")[-2:]),
    task=v.open_ended,
    facets=_FACETS,
)
PUBLISHED = v.published(_FACETS)
FILES = ("validation.json", "data/validation.json", "data/validation-*.parquet", "validation-*.parquet")
DISCIPLINES = v.by_value("discipline", dict.fromkeys(SUBJECTS.values()), v.right, judged=True)

# The authors leave the frames to the user, 10 or all of them.
MMVU = v.public(
    v.Benchmark(
        name="mmvu",
        version="1",
        title="MMVU (validation)",
        hub="yale-nlp/MMVU",
        licence="unknown",
        count=1000,
        metrics=(v.Metric("overall", v.right, judged=True), *DISCIPLINES, *v.by_value("task", ("multiple_choice",))),
        breakdown=("discipline", "subject", "task"),
        layouts=(v.Layout("official", FILES, OFFICIAL), v.Layout("published", ("mmvu-all.json",), PUBLISHED)),
    )
)
