"""VideoMathQA (choice): 420 questions of mathematics with five options about 420 videos (arXiv 2506.05349)."""

from dataclasses import replace

from easyvideor1.benchmarks import vocabulary as v

_FACETS = ("category", "length")
_VIDEO = "videos/{videoID}.mp4"
_OFFICIAL = v.choice(
    id="question_id", question="question", options="options", answer="answer", video=_VIDEO, facets=_FACETS
)
# The published file holds the binary questions as well, with a number of their own.
_PUBLISHED = v.only(lambda row: row.get("mbinary_id") is None, v.published(_FACETS))
# The names of the files are not known for sure; the configuration of the release is called mcq.
_FILES = ("mcq/test*.parquet", "data/mcq*.parquet", "*mcq*.parquet", "*mcq*.json*")

# Official frames are unknown.
VIDEOMATHQA_MCQ = v.public(
    v.Benchmark(
        name="videomathqa_mcq",
        version="1",
        title="VideoMathQA (choice)",
        hub="MBZUAI/VideoMathQA",
        licence="unknown",
        count=420,
        metrics=(v.Metric("overall"), *v.by_value("length", ("short", "medium", "long"))),
        breakdown=_FACETS,
        layouts=(
            v.Layout("official", _FILES, _OFFICIAL, media=(".",)),
            v.Layout("published", ("videomathqa.jsonl", "videomathqa.json"), _PUBLISHED),
        ),
    )
)
_CUES = v.with_columns(VIDEOMATHQA_MCQ.layouts, v.cues("subtitles/{}.srt", "videoID", "video_id"))
_CUED = replace(VIDEOMATHQA_MCQ, name="videomathqa_mcq_subtitles", layouts=_CUES, subtitles="sampled")
v.public(replace(_CUED, title="VideoMathQA (choice), subtitles"))
