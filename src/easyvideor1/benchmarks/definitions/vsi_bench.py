"""VSI-Bench: 5,130 questions of eight tasks about 288 videos of rooms (arXiv 2412.14171), and its debiased parts.

Questions that are answered without the video were pruned from the debiased part (arXiv 2511.04655).
"""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.indoor_space import METRICS, OFFICIAL, PUBLISHED

_LAYOUTS = {
    "": (
        v.Layout("official", ("test-*.parquet", "data/test-*.parquet", "test.jsonl"), OFFICIAL, media=(".", "videos")),
        v.Layout("published", ("vsibench.json",), PUBLISHED, media=(".", "videos")),
    ),
    "debiased": (v.Layout("official", ("test_debiased.parquet",), OFFICIAL, media=(".", "videos")),),
    "pruned": (v.Layout("official", ("test_pruned.parquet",), OFFICIAL, media=(".", "videos")),),
}

# The authors' script gives most models 32 frames. The sizes of the two parts are unknown.
VSI_BENCH, VSI_BENCH_DEBIASED, VSI_BENCH_PRUNED = (
    v.public(
        v.Benchmark(
            name=f"vsi_bench_{part}" if part else "vsi_bench",
            version="1",
            title=f"VSI-Bench ({part})" if part else "VSI-Bench",
            hub="nyu-visionx/VSI-Bench",
            licence="Apache-2.0",
            count=None if part else 5130,
            video=v.VideoBudget(frames=32),
            video_source="frames: authors; size: ours",
            metrics=METRICS,
            breakdown=("skill", "question_type"),
            layouts=layouts,
        )
    )
    for part, layouts in _LAYOUTS.items()
)
