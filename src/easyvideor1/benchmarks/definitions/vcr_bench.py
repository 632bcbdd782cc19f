"""VCR-Bench: 1,034 choice and open questions in seven dimensions about 859 videos (arXiv 2504.07956)."""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.reasoned import answered_right, as_published, official
from easyvideor1.benchmarks.step_judging import step_metrics, with_steps

_KINDS = v.by_value("kind", ("multiple_choice", "open_ended"), answered_right, judged=True)
_DURATIONS = v.by_value("duration", ("0-60 s", "60-300 s", "over 300 s"), answered_right, judged=True)
_FILES = ("v1/videos/meta_info_video.json", "meta_info_video.json")

# Frames are left to the user by the authors. The judge is asked for the steps of every response, recall and precision.
VCR_BENCH = v.public(
    v.Benchmark(
        name="vcr_bench",
        version="2",
        title="VCR-Bench",
        hub="VLM-Reasoning/VCR-Bench",
        licence="unknown",
        count=1034,
        scoring=with_steps,
        metrics=(v.Metric("overall", answered_right, judged=True), *step_metrics(), *_KINDS, *_DURATIONS),
        breakdown=("dimension", "duration", "kind"),
        layouts=(
            v.Layout("official", _FILES, official, media=("v1/videos", "v1", "videos", ".")),
            v.Layout("published", ("vcrbench.json",), as_published),
        ),
    )
)
