"""VideoMMLU captions: a caption of a lecture must answer questions of its discipline (arXiv 2504.14693)."""

from easyvideor1.benchmarks import vocabulary as v

#: Our words: the authors draw one of 24 requests for each video, without a seed. They use 16, 32 or 64 frames.
_ASK = "Describe this lecture in detail: what is said, what stands on the screen, and every step of an argument."
_FIELDS = ("Math", "Physics", "Chemistry")
_GRADES = {"correct": v.YES_NO, "score": (0, 5)}
_WHERE = {"discipline": _FIELDS}
_JUDGED = v.Rubric("video_mmlu", _GRADES, ("correct",), where=_WHERE, pairs=v.pairs_of, reader="video_mmlu_reader")
_FACETS = {"discipline": lambda row: v.one_of(row["discipline"].capitalize(), _FIELDS)}
_QUESTIONS = v.captioned(id="video", request=_ASK, pairs="question", video="video", facets=_FACETS)
_AUTHORS = v.captioned(id="video_id", request=_ASK, pairs="captions_qa", video="{video_id}.mp4", facets=_FACETS)
#: The published file has a reference caption and no questions: it is scored by the rewards of the run.
_CAPTION = v.plain(id="problem_id", question=lambda _: _ASK, answer="solution", video="{path}", task="description")

VIDEO_MMLU = v.public(
    v.Benchmark(
        name="video_mmlu",
        version="1",
        title="VideoMMLU captions",
        hub="Enxin/Video-MMLU",
        licence="Apache-2.0",
        count=1065,
        scoring=v.judged(_JUDGED),
        metrics=(
            v.Metric("overall", v.part("correct"), _WHERE, macro=("discipline",), weight="questions"),
            *(v.Metric(each, v.part("correct"), {"discipline": each}, weight="questions") for each in _FIELDS),
            v.Metric("score of 5", v.part("score"), _WHERE, macro=("discipline",), weight="questions", scale=1),
            v.Metric("reference caption", where={"discipline": ""}),
        ),
        layouts=(
            v.Layout("harness", ("Video_MMLU_CAP.tsv",), _QUESTIONS, media=("youtube_videos", ".")),
            v.Layout("authors", ("video_mmlu.jsonl", "source/video_mmlu.jsonl"), _AUTHORS, media=("youtube_videos",)),
            v.Layout("published", ("videommlu.json",), _CAPTION),
        ),
    )
)
