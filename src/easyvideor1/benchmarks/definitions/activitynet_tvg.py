"""ActivityNet-TVG: sentences to be found in videos, as TimeLens annotated them again, and as ActivityNet Captions did.

Scores on the two do not compare: models change rank between them. How many rows each has is not known.
"""

from easyvideor1.benchmarks import vocabulary as v

_METRICS = (v.Metric("mIoU"), *(v.Metric(f"R@1 IoU {iou}", v.at_least(iou)) for iou in (0.3, 0.5, 0.7)))
_ID = "{video_path} {query} {span}"
_HUB = v.span(id=_ID, question=v.when("query"), span=lambda row: row["span"][0], video="video_path")
_MEDIA = ("videos/activitynet", "videos", ".")

ACTIVITYNET_TVG = v.public(
    v.Benchmark(
        name="activitynet_tvg",
        version="2",
        title="ActivityNet-TVG (TimeLens)",
        hub="TencentARC/TimeLens-Bench",
        licence="BSD-3-Clause for the annotations",
        # 64 to 768 tokens a frame and 14,336 a video, of 28 x 28 pixels each.
        video=v.VideoBudget(max_frames=768, min_pixels=50_176, max_pixels=602_112, total_pixels=11_239_424),
        video_source="TimeLens",
        metrics=_METRICS,
        layouts=(
            v.Layout("timelens", ("activitynet-timelens.json",), v.events("queries", "spans"), _MEDIA),
            v.Layout("hub", ("data/activitynet-*.parquet", "**/activitynet*.parquet"), _HUB, _MEDIA),
        ),
    )
)
ACTIVITYNET_CAPTIONS = v.public(
    v.Benchmark(
        name="activitynet_captions",
        version="2",
        title="ActivityNet Captions (val_2)",
        hub="https://cs.stanford.edu/people/ranjaykrishna/densevid/",
        licence="unknown",
        metrics=_METRICS,
        layouts=(v.Layout("plain", ("val_2.json",), v.events("sentences", "timestamps")),),
    )
)
