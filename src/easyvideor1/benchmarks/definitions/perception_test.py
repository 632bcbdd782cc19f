"""PerceptionTest, multiple choice: 19,140 questions of the validation split, three options each (arXiv 2305.13786)."""

from easyvideor1.benchmarks import vocabulary as v

_AREAS = ("memory", "abstraction", "physics", "semantics")
#: The frame at which a video must be cut, lest its end tell the answer. It is not known whether this frame itself may
#: be shown, so it is not. The Hub's rows have no frame rate: where this file is, rows of cut videos are refused.
_CUTS = {"cuts": ("cut_frame_mapping_valid.json", "**/cut_frame_mapping_valid.json")}


def _reader(video: str, number: str) -> v.Reader:
    return v.choice(
        id=f"{{{video}}}:{{{number}}}",
        question="question",
        options="options",
        answer="answer_id",
        gold="index",
        video=f"{{{video}}}.mp4",
        facets={"area": lambda row: row["area"].lower(), "reasoning": lambda row: row["reasoning"].lower()},
        end=lambda row: v.before_frame(row["cuts"].get(row[video]), row.get("metadata", {}).get("frame_rate")),
    )


_AUTHORS, _HUB = v.each(lambda row: row["mc_question"], _reader(v.KEY, "id")), _reader("video_name", "question_id")
PERCEPTION_TEST = v.public(
    v.Benchmark(
        name="perception_test",
        version="1",
        title="PerceptionTest (multiple choice)",
        hub="lmms-eval/PerceptionTest_Val",
        licence="CC-BY 4.0",
        count=19_140,
        metrics=(v.Metric("accuracy"), *(v.Metric(area, where={"area": area}) for area in _AREAS)),
        breakdown=("area", "reasoning"),
        layouts=(
            v.Layout("authors", ("**/mc_question_valid.json",), _AUTHORS, beside=_CUTS),
            v.Layout("hub", ("mc_question_val/*.parquet", "**/validation-*.parquet"), _HUB, beside=_CUTS),
        ),
    )
)
