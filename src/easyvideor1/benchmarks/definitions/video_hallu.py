"""VideoHallu: 3,233 open questions about what is wrong in generated videos (arXiv 2505.01481).

The judge of the authors and its rubric are unknown, and so is the split of their parquet files: all rows are read."""

from easyvideor1.benchmarks import vocabulary as v

_CATEGORIES = ("Alignment", "Spatial-temporal consistency", "Common sense reasoning", "Physics")
_READ = v.plain(
    id="{video_path} {Question}",
    question="Question",
    answer="Answer",
    video="video_path",
    task="open_ended",
    facets={
        "category": lambda row: v.one_of(row["Categorization-1"], _CATEGORIES),
        "subcategory": "Categorization-2",
        "generator": lambda row: row["Model"].casefold(),
    },
)

VIDEO_HALLU = v.public(
    v.Benchmark(
        name="videohallu",
        version="1",
        title="VideoHallu",
        hub="IntelligenceLab/VideoHallu",
        licence="Apache-2.0",
        count=3233,
        metrics=(
            v.Metric("overall", judged=True),
            *(v.Metric(each, where={"category": each}, judged=True) for each in _CATEGORIES),
        ),
        breakdown=("category", "subcategory", "generator"),
        layouts=(
            v.Layout("official", ("data.jsonl", "Data/data.jsonl", "data.csv", "Data/data.csv"), _READ, media=(".",)),
        ),
    )
)
