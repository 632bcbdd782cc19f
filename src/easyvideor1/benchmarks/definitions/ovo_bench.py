"""OVO-Bench: 3,035 questions at moments of 644 videos, about past, present and future (arXiv 2501.05510)."""

from math import ceil
from typing import Any

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers import streaming

_TASKS = {"backward": "EPM ASI HLD", "realtime": "OCR ACR ATR STU FPD OJR", "forward": "REC SSR CRR"}
_MODE = {task: mode for mode, tasks in _TASKS.items() for task in tasks.split()}
_CUT: dict[str, Any] = {"facets": {"task": "task", "mode": lambda row: _MODE[row["task"]]}}
_WHOLE = _CUT | {"end": lambda row: ceil(row["realtime"])}
_OLD = {"task": "ovo_task", "mode": "ovo_category"}
_PUBLISHED = v.published(_OLD, question=lambda row: streaming.forward(row["ovo_task"], row["problem"]))


def _layout(name: str, once: str, again: str, parts: dict[str, Any], **where: Any) -> v.Layout:
    choice = v.choice(id="id", question="question", options="options", answer="gt", gold="index", video=once, **parts)
    forward, rest = streaming.forward_rows(again, **parts), v.by_kind("task", dict.fromkeys(_MODE, choice))
    files = ("data/ovo_bench_new.json", "ovo_bench_new.json")
    return v.Layout(name, files, lambda row: forward(row) if "test_info" in row else rest(row), **where)


_TOTAL = v.Metric("total", macro=("mode", "task"))
_MEANS = tuple(v.Metric(mode, where={"mode": mode}, macro=("task",)) for mode in _TASKS)
_LAYOUTS = (
    _layout("whole", "video", "video", _WHOLE, media=("src_videos", "data/src_videos"), needs=("**/src_videos*",)),
    _layout("cut", "{id}.mp4", "{id}_{n}.mp4", _CUT, media=("chunked_videos", "data/chunked_videos")),
    v.Layout("published", ("ovobench.json",), _PUBLISHED, media=("chunked_videos", ".")),
)
_ABOUT: dict[str, Any] = {"title": "OVO-Bench", "hub": "JoeLeelyf/OVO-Bench", "count": 3035}
_ABOUT |= {"licence": "CC BY-NC-SA 4.0, and the terms of the sources", "breakdown": ("mode", "task")}
_ABOUT |= {"video": v.VideoBudget(frames=64, max_pixels=360 * 420)}  # of the authors' scripts
v.public(
    v.Benchmark("ovo_bench", "1", metrics=(_TOTAL, *_MEANS, *v.by_value("task", _MODE)), layouts=_LAYOUTS, **_ABOUT)
)
