"""VideoMathQA (multi-binary): 420 questions, each as four pairs of options; all must be right (arXiv 2506.05349)."""

from dataclasses import replace

from easyvideor1.benchmarks import vocabulary as v

_FACETS = {"category": "category", "length": "length"}
_OF = {"question": "question_id", **_FACETS}
_ID, _VIDEO = "{question_id} {@number}", "videos/{videoID}.mp4"
_OFFICIAL = v.choice(id=_ID, question="question", options="options", answer="answer", video=_VIDEO, facets=_OF)
_PAIRS = v.with_id("{problem_id} {mbinary_id}", v.published({"question": "problem_id", **_FACETS}))
_PUBLISHED = v.only(lambda row: row.get("mbinary_id") is not None, _PAIRS)
# The names of the files are not known for sure; the configuration of the release is called multi_binary.
_FILES = ("multi_binary/test*.parquet", "data/multi_binary*.parquet", "*multi_binary*.parquet", "*multi_binary*.json*")

_LENGTHS = v.by_value("length", ("short", "medium", "long"), group="question")

# Official frames are unknown.
VIDEOMATHQA_MBIN = v.public(
    v.Benchmark(
        name="videomathqa_mbin",
        version="1",
        title="VideoMathQA (multi-binary)",
        hub="MBZUAI/VideoMathQA",
        licence="unknown",
        count=1680,
        metrics=(v.Metric("overall", group="question"), *_LENGTHS),
        breakdown=tuple(_FACETS),
        layouts=(
            v.Layout("official", _FILES, _OFFICIAL, media=(".",)),
            v.Layout("published", ("videomathqa.jsonl", "videomathqa.json"), _PUBLISHED),
        ),
    )
)
_CUES = v.with_columns(VIDEOMATHQA_MBIN.layouts, v.cues("subtitles/{}.srt", "videoID", "video_id"))
_CUED = replace(VIDEOMATHQA_MBIN, name="videomathqa_mbin_subtitles", layouts=_CUES, subtitles="sampled")
v.public(replace(_CUED, title="VideoMathQA (multi-binary), subtitles"))
