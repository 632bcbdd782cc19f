"""Video-MME: 2,700 choice questions about 900 short, medium and long videos (arXiv 2405.21075)."""

from dataclasses import replace
from pathlib import PurePath

from easyvideor1.benchmarks import vocabulary as v

_FACETS = ("duration", "domain", "sub_category", "task_type")
_FILES = ("videomme/test-*.parquet", "test-*.parquet")
_DURATIONS = (v.Metric(each, where={"duration": each}) for each in ("short", "medium", "long"))
_OFFICIAL = v.choice(
    id="question_id", question="question", options="options", answer="answer", video="{videoID}.mp4", facets=_FACETS
)


def _subtitles(row: v.Raw) -> dict[str, str]:
    name = row.get("videoID") or PurePath(row["path"]).stem
    return {"subtitles": f"subtitle/{name}.srt", "subtitles_format": "srt"}


_V1 = v.public(
    v.Benchmark(
        name="video_mme",
        version="1",
        title="Video-MME",
        hub="lmms-lab/Video-MME",
        licence="academic research only, no commercial use, no redistribution",
        count=2700,
        video=v.VideoBudget(max_frames=512, min_pixels=3584, max_pixels=401_408, total_pixels=19_267_584),
        video_source="Qwen3-VL's script",
        metrics=(v.Metric("overall"), *_DURATIONS),
        breakdown=_FACETS,
        layouts=(
            v.Layout("official", _FILES, _OFFICIAL, media=("data", "videos", ".")),
            v.Layout("published", ("videomme.json",), v.published(_FACETS)),
        ),
    )
)
_CUES = v.with_columns(_V1.layouts, _subtitles)
v.public(replace(_V1, name="video_mme_subtitles", title="Video-MME, subtitles", layouts=_CUES, subtitles="sampled"))
