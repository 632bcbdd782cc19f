"""MINERVA: 1,515 questions with five options about long and short videos (arXiv 2505.00681)."""

from easyvideor1.benchmarks import vocabulary as v

_OFFICIAL = v.choice(
    id="key",
    question="question",
    options=lambda row: [row[f"answer_choice_{number}"] for number in range(5)],
    answer="answer_id",
    gold="index",
    video="{video_id}.mp4",
    facets={
        # Both spellings are known of the release.
        "question_type": lambda row: row.get("question_type", row.get("question type", "unknown")),
        "split": lambda row: row.get("split", "unknown"),
        "category": lambda row: row.get("category", "unknown"),
    },
)

# The official frames and pixels are unknown. The published file has the name of the official one.
MINERVA = v.public(
    v.Benchmark(
        name="minerva",
        version="1",
        title="MINERVA",
        hub="google-deepmind/neptune on GitHub (the videos from YouTube)",
        licence="CC-BY 4.0",
        count=1515,
        metrics=(v.Metric("overall"),),
        breakdown=("question_type", "split", "category"),
        layouts=(
            v.Layout("official", ("minerva.json",), v.by_column({"answer_id": _OFFICIAL, "problem": v.published()})),
        ),
    )
)
