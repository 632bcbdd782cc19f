"""Charades-STA: 3,720 sentences to be found in 1,334 videos of Charades (arXiv 1705.02101)."""

import re

from easyvideor1.benchmarks import vocabulary as v

_LINE = re.compile(r"(?P<video>\S+) (?P<start>[\d.]+) (?P<end>[\d.]+)##(?P<sentence>.+)")
_ID = "{video} {start} {end} {sentence}"
_READ = v.span(id=_ID, question=v.when("sentence"), span="span", video="{video}.mp4")
_HUB = v.span(id="{video} {timestamp} {caption}", question=v.when("caption"), span="timestamp", video="video")
_PUBLISHED = v.published(question=v.when("problem"), repair="reference-in-thinking")


def _line(row: v.Raw) -> v.Question:
    found = _LINE.fullmatch(row["value"])
    if found is None:
        raise v.QuestionError("it is not 'video start end##sentence'")
    return _READ({**found.groupdict(), "span": (found["start"], found["end"])})


CHARADES_STA = v.public(
    v.Benchmark(
        name="charades_sta",
        version="2",
        title="Charades-STA",
        hub="lmms-eval/charades_sta",
        licence="unknown",
        count=3720,
        video=v.VideoBudget(fps=4.0, max_frames=768),
        video_source="rate: Qwen3-VL's report; size: ours",
        metrics=(v.Metric("mIoU"), *(v.Metric(f"R@1 IoU {iou}", v.at_least(iou)) for iou in (0.3, 0.5, 0.7))),
        layouts=(
            v.Layout("authors", ("charades_sta_test.txt",), _line, media=("Charades_v1_480", "videos")),
            v.Layout("hub", ("data/test-*.parquet", "test-*.parquet"), _HUB, media=("Charades_v1_480", "videos")),
            v.Layout("published", ("charades_sta.json",), _PUBLISHED),
        ),
    )
)
