"""Video-MMMU: 900 questions in three tracks about 300 lectures, and what is learned from them (arXiv 2501.13826)."""

from dataclasses import replace

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.lectures import GAIN_METRICS, METRICS, as_published, authors, hub, with_and_without

_MEDIA = (".", "videos")
_PUBLISHED = ("videommmu_with_image.json", "videommmu.json")

# 32 frames are those of the authors' example. They have to include the last one, which shows the picture of a question.
_VIDEO_MMMU = v.public(
    v.Benchmark(
        name="video_mmmu",
        version="1",
        title="Video-MMMU",
        hub="lmms-lab/VideoMMMU",
        licence="unknown (code MIT)",
        count=900,
        video=v.VideoBudget(rule="qwen", frames=32),
        video_source="frames: authors' example; size: ours",
        metrics=METRICS,
        breakdown=("track", "discipline", "subject"),
        layouts=(
            v.Layout("hub", ("*/test-*.parquet",), hub, media=_MEDIA),
            v.Layout("authors", ("data/*_video.json", "*_video.json"), authors, media=_MEDIA),
            v.Layout("published", _PUBLISHED, as_published, media=_MEDIA),
        ),
    )
)
_TWICE = tuple(replace(each, rows=with_and_without(each.rows)) for each in _VIDEO_MMMU.layouts)
_GAIN = replace(_VIDEO_MMMU, name="video_mmmu_gain", title="Video-MMMU, knowledge gain", count=600, layouts=_TWICE)
v.public(replace(_GAIN, metrics=GAIN_METRICS, breakdown=("discipline", "subject")))
