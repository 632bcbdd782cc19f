"""LongVideoBench, validation: 1,337 choice questions about moments of 753 videos (arXiv 2407.15754)."""

from dataclasses import replace
from typing import Any

from easyvideor1.benchmarks import vocabulary as v


def _options(row: v.Raw) -> Any:
    listed = row["candidates"] if "candidates" in row else [row[f"option{number}"] for number in range(5)]
    return v.without_pads(listed, "N/A", None)


def _subtitles(row: v.Raw) -> dict[str, Any]:
    path, start = f"subtitles/{row['subtitle_path']}", row["starting_timestamp_for_subtitles"]
    return {"subtitles": path, "subtitles_format": "lvb-json", "subtitles_start": start}


_BY = {name: v.optional(name) for name in ("duration_group", "question_category")}
_NAMED: dict[str, v.Part] = {"id": "id", "video": "video_path", "question": "question", "answer": "correct_choice"}
_READ = v.choice(**_NAMED, options=_options, gold="index", facets=_BY)
_FILES = {"authors": ("lvb_val.json",), "hub": ("data/validation-*.parquet", "validation-*.parquet")}
_LAYOUTS = tuple(v.Layout(name, files, _READ) for name, files in _FILES.items())
_GROUPS = (v.Metric(f"{group} s", where={"duration_group": group}) for group in ("15", "60", "600", "3600"))
_LVB = v.Benchmark(
    name="longvideobench",
    version="2",
    title="LongVideoBench",
    hub="longvideobench/LongVideoBench",
    licence="CC BY-NC-SA 4.0",
    count=1337,
    video=v.VideoBudget(fps=1.0, max_frames=256),  # the authors' loader leaves the size to the model
    video_source="frames: authors' loader; size: ours",
    metrics=(v.Metric("accuracy"), *_GROUPS),
    breakdown=tuple(_BY),
    layouts=(*_LAYOUTS, v.Layout("published", ("longvideobench.json",), v.published())),
)
v.public(_LVB)
_CUED = replace(_LVB, name="longvideobench_subtitles", title="LongVideoBench, subtitles", subtitles="sampled")
v.public(replace(_CUED, layouts=v.with_columns(_LAYOUTS, _subtitles)))
