"""LongVideo-Reason: questions about long videos; 851 are in the published file (arXiv 2507.07966)."""

from easyvideor1.benchmarks import vocabulary as v

# That the options are lines of the question follows from how the authors ask it; a row without them is refused.
_OFFICIAL = v.choice(
    id="{videos} {@number}", question="problem", answer=lambda row: v.unwrapped(row["answer"]), video="{videos}"
)
_FILES = ("test.jsonl", "test.parquet", "data/test-*.parquet", "test-*.parquet")

# Official number of rows, frames and categories are unknown.
LONGVIDEO_REASON = v.public(
    v.Benchmark(
        name="longvideo_reason",
        version="1",
        title="LongVideo-Reason",
        hub="LongVideo-Reason/longvideo-reason (videos: LongVideo-Reason/longvideo_eval_videos)",
        licence="unknown (code Apache-2.0)",
        metrics=(v.Metric("accuracy"),),
        layouts=(
            v.Layout("official", _FILES, _OFFICIAL, media=(".", "videos")),
            v.Layout("published", ("longvideoreason.json",), v.in_letter_order(v.published())),
        ),
    )
)
