"""ODV-Bench: 7,896 choice questions about driving, in three configurations (arXiv 2509.24871).

How the authors form one number of the three is unknown: ``overall`` is over rows. The published file was not seen."""

from typing import Any

from easyvideor1.benchmarks import vocabulary as v

_CONFIGS = {"static": "single_static", "dynamic": "single_dynamic", "interaction": "multi_object"}
_TASKS: dict[str, Any] = {"task": "task", "subtask": "subtask", "subsubtask": v.optional("subsubtask")}
_CLIP: dict[str, Any] = {"start": v.optional("start"), "end": v.optional("end")}


def _config(row: v.Raw) -> str:
    return v.one_of(next((name for name, words in _CONFIGS.items() if words in row[v.FILE]), ""), list(_CONFIGS))


def _video(row: v.Raw) -> Any:
    """A file, or a directory of frames with their rate."""
    named = str(v.take(row, "{video}"))
    return {"video": named, "fps": row["fps"]} if row.get("fps") and not named.endswith(".mp4") else named


def _read(row: v.Raw) -> v.Question:
    asked: dict[str, Any] = {"question": "question", "options": "candidates", "answer": "answer", "video": _video}
    clip = "{video} {start} {end} {question}" if "start" in row else "{video} {question}"
    return v.choice(id=clip, gold="text", facets=_TASKS | {"config": _config}, **asked, **_CLIP)(row)


_ABOUT: dict[str, Any] = {"title": "ODV-Bench", "hub": "MCG-NJU/ODV-Bench", "licence": "unknown", "count": 7896}
_ABOUT |= {"breakdown": ("config", "task", "subtask", "subsubtask")}
_FILES = ("json/targeting_*.json", "**/targeting_*.json", "**/targeting_*.jsonl", "**/targeting_*.parquet")
_LAYOUTS = (
    v.Layout("official", _FILES, _read),
    v.Layout("published", ("odvbench.json",), v.published({"task": "odv_task", "subtask": "odv_subtask"})),
)
_METRICS = (v.Metric("overall"), *v.by_value("config", _CONFIGS))
ODV_BENCH = v.public(v.Benchmark("odv_bench", "1", metrics=_METRICS, layouts=_LAYOUTS, **_ABOUT))
