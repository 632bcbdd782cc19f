"""QVHighlights, moment retrieval: sentences that one or several windows of a video show (arXiv 2107.09609).

The highlights of the same release are not scored: they take a saliency for every two seconds of a video.
"""

from easyvideor1.benchmarks import vocabulary as v

_READ = v.moments(
    id="qid",
    # The authors ask detectors, not language models, and know no prompt.
    question=lambda row: (
        f'Find every moment that shows this: "{v.text(row, "query")}" Give all of them as '
        '{"time": [[start, end], ...]}, the likeliest first.'
    ),
    windows="relevant_windows",
    video="{vid}.mp4",
    duration="duration",
)
_LENGTHS = ("short", "middle", "long")
_METRICS = (
    v.Metric("R1 IoU 0.5", v.at_least(0.5)),
    v.Metric("R1 IoU 0.7", v.at_least(0.7)),
    *(v.Metric(f"m{name}", v.part(name)) for name in ("AP", "AP 0.5", "AP 0.75")),
    *(v.Metric(f"mAP {name}", v.part(f"AP {name}"), where={name: "yes"}) for name in _LENGTHS),
)
for _name, _split, _count in (("", "val_release", 1550), ("_test", "test_with_gt", 1542)):
    v.public(
        v.Benchmark(
            name=f"qvhighlights{_name}",
            version="1",
            title=f"QVHighlights ({'test' if _name else 'validation'})",
            hub="https://github.com/jayleicn/moment_detr",
            licence="CC BY-NC-SA 4.0 for the annotations",
            count=_count,
            scoring=v.rank_moments,
            metrics=_METRICS,
            layouts=(v.Layout("authors", (f"highlight_{_split}.jsonl", f"data/highlight_{_split}.jsonl"), _READ),),
        )
    )
