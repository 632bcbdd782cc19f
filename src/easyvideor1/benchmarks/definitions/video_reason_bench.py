"""VideoReasonBench: 1,440 open questions about 240 videos of six games (arXiv 2505.23359).

The 240 questions for operations have any sequence that leads to a goal as their answer, which is played. The published
file lacks the states that this takes, so there they are refused and the overall number is of the other 1,200.
"""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.latent_states import METRICS, as_published, official
from easyvideor1.benchmarks.readers.operations import scoring

# The authors' script for Qwen: 32 frames of at most 448 x 448 pixels.
VIDEO_REASON_BENCH = v.public(
    v.Benchmark(
        name="video_reason_bench",
        version="1",
        title="VideoReasonBench",
        hub="lyx97/reasoning_videos (questions: llyx97/video_reason_bench on GitHub)",
        licence="unknown",
        count=1440,
        video=v.VideoBudget(frames=32, max_pixels=448 * 448),
        video_source="authors' script for Qwen",
        scoring=scoring,
        metrics=METRICS,
        breakdown=("dim", "game", "state_size", "operations"),
        layouts=(
            v.Layout("official", ("questions/*.json",), official, media=(".", "videos")),
            v.Layout("published", ("videoreasonbench.json",), as_published, media=("videos", ".")),
        ),
    )
)
