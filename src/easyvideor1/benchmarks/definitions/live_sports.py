"""LiveSports-3K-QA: 1,174 choice questions about 941 clips of sports (arXiv 2504.16030).

The authors take the largest logit of the four letters behind "Answer:"; here an answer is generated."""

from easyvideor1.benchmarks import vocabulary as v

_OFFICIAL = v.choice(
    id="{video_id} {question_id}",
    question="question",
    options="options",
    answer="answer",
    video="video",
    start="video_start",
    end="video_end",
    facets={"q_type": "q_type", "ocr": "OCR"},
)
_PUBLISHED = v.published({"q_type": "q_type_livesports", "ocr": "ocr_livesports"})
_FILES = ("LiveSports-3K-QA.json", "sports3k-qa.jsonl")

LIVE_SPORTS = v.public(
    v.Benchmark(
        name="livesports_3k_qa",
        version="1",
        title="LiveSports-3K-QA",
        hub="stdKonjac/LiveSports-3K",
        licence="unknown",
        count=1174,
        metrics=(
            v.Metric("overall"),
            *v.by_value("q_type", ("What", "When", "Who")),
            v.Metric("OCR", where={"ocr": "1"}),
        ),
        breakdown=("q_type", "ocr"),
        layouts=(
            v.Layout("official", _FILES, _OFFICIAL, media=("videos", ".")),
            v.Layout("published", ("livesports3k_qa.json",), _PUBLISHED, media=("clips", ".")),
        ),
    )
)
