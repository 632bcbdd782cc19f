"""Video-MME-v2: 3,200 questions with eight options about 800 videos, in groups of four that build on each other."""

from dataclasses import replace

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.grouped_scores import FACETS, group_score

_GROUPS = v.Metric("group score", group="group", of_group=group_score)
_KINDS = (replace(_GROUPS, name=each, where={"group_type": each}) for each in ("relevance", "logic"))
_READ = v.choice(
    id="question_id",
    question=lambda row: f"{row['question']}\n{row['options']}",
    answer="answer",
    video="{video_id}.mp4",
    facets=FACETS,
)


def _subtitles(row: v.Raw) -> dict[str, str]:
    return {"subtitles": f"subtitle/{row['video_id']}.jsonl", "subtitles_format": "jsonl-words"}


# The authors' script takes frames at 1/65, ..., 64/65 of a video, which is near, and leaves their size to the model.
_V2 = v.public(
    v.Benchmark(
        name="video_mme_v2",
        version="2",
        title="Video-MME-v2",
        hub="MME-Benchmarks/Video-MME-v2",
        licence="academic research only, no commercial use, no redistribution",
        count=3200,
        video=v.VideoBudget(rule="uniform", frames=64),
        video_source="frames: authors; size: ours",
        metrics=(_GROUPS, *_KINDS, v.Metric("accuracy")),
        breakdown=("group_type",),  # level and heads stand at the last question of a group alone
        layouts=(v.Layout("official", ("test.parquet", "test-*.parquet"), _READ, media=("videos", "data", ".")),),
    )
)
_CUES = v.with_columns(_V2.layouts, _subtitles)
v.public(replace(_V2, name="video_mme_v2_subtitles", title="Video-MME-v2, subtitles", layouts=_CUES, subtitles="all"))
