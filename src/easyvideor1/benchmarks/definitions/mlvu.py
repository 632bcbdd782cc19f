"""MLVU: choice and open questions of nine tasks about videos of 3 minutes to 2 hours (arXiv 2406.04264)."""

from dataclasses import replace

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.mlvu_tasks import DEV_CHOICE, GRADES, HUB_CHOICE, RUBRICS, TEST_CHOICE, read_open

_VIDEOS = ("MLVU/video", "MLVU_Test/video", "video", "videos", ".")
_HUB = v.Layout("hub", ("data/test-*.parquet", "test-*.parquet"), HUB_CHOICE, _VIDEOS)
_TEST = ("test-ground-truth/test_mcq_gt.json", "test_mcq_gt.json")
_G_AVG = v.Metric("G-Avg", v.part(*GRADES), macro=("task",), scale=1.0)


def _dev(files: str, rows: v.Reader) -> v.Layout:
    return v.Layout("authors", tuple(f"{at}{files}" for at in ("MLVU/json/", "json/", "data/", "")), rows, _VIDEOS)


def _published(*files: str) -> v.Layout:
    # No row names its task of MLVU, so there is no M-Avg.
    return v.Layout("published", files, v.published({"task": lambda _: ""}), _VIDEOS)


# The input of the leaderboard is each model's own, so the run decides the budget.
_DEV = v.Benchmark(
    name="mlvu_dev",
    version="1",
    title="MLVU dev",
    hub="MLVU/MVLU",
    licence="CC BY-NC-SA 4.0, research only",
    count=2175,
    metrics=(v.Metric("M-Avg", macro=("task",)), v.Metric("accuracy")),
    breakdown=("task",),
    layouts=(_dev("[1-7]_*.json", DEV_CHOICE), _HUB, _published("mlvu-dev.json")),
)
_TESTED = (v.Layout("authors", _TEST, TEST_CHOICE, _VIDEOS), _HUB, _published("mlvu-test.json", "mlvu.json"))
_GRADES = (replace(_G_AVG, name=each, where={"task": each}) for each in ("sub_scene", "summary"))
v.public(_DEV)
v.public(replace(_DEV, name="mlvu_test", title="MLVU test", hub="MLVU/MLVU_Test", count=502, layouts=_TESTED))
_OPEN = replace(_DEV, name="mlvu_open", count=418, metrics=(_G_AVG, *_GRADES), scoring=v.judged(*RUBRICS))
v.public(replace(_OPEN, title="MLVU dev, open questions", layouts=(_dev("[89]_*.json", read_open),)))
