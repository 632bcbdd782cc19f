"""LVBench: 1,549 choice questions about 103 videos of about an hour (arXiv 2406.08035)."""

from easyvideor1.benchmarks import vocabulary as v

_TYPES = (
    *("entity recognition", "event understanding", "key information retrieval"),
    *("temporal grounding", "reasoning", "summarization"),
)


def _has(kind: str) -> v.Part:
    return lambda row: "yes" if kind in row["question_type"] else "no"


# A question of several types counts in each, so each type is a facet of its own.
_OWN = v.choice(
    id="uid", question="question", answer="answer", video="{key}.mp4", facets={kind: _has(kind) for kind in _TYPES}
)
_HUB = v.choice(
    id="{video_path} {@number}", question="question", options="options", answer="answer", video="{video_path}"
)

# Frames and pixels of the authors are unknown, so the run decides the budget.
LVBENCH = v.public(
    v.Benchmark(
        name="lvbench",
        version="1",
        title="LVBench",
        hub="zai-org/LVBench",
        licence="CC BY-NC-SA 4.0, academic use",
        count=1549,
        metrics=(v.Metric("accuracy"), *(v.Metric(kind, where={kind: "yes"}) for kind in _TYPES)),
        layouts=(
            v.Layout("authors", ("video_info.meta.jsonl", "data/video_info.meta.jsonl"), v.each("qa", _OWN)),
            v.Layout("hub", ("data/*.parquet", "*.parquet"), _HUB),
            v.Layout("published", ("lvbench.json",), v.published()),
        ),
    )
)
