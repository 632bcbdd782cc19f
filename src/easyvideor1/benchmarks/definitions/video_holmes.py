"""Video-Holmes: 1,837 questions with six options about 270 suspense films (arXiv 2505.21374)."""

from easyvideor1.benchmarks import vocabulary as v

_OFFICIAL = v.choice(
    id="{video ID}-{Question ID}",
    question="Question",
    options="Options",
    answer="Answer",
    video="{video ID}.mp4",
    facets={"question_type": "Question Type"},
)
_TYPES = ("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI")

# The authors' script leaves frames and pixels of Qwen to its defaults, so there is no official budget.
VIDEO_HOLMES = v.public(
    v.Benchmark(
        name="video_holmes",
        version="1",
        title="Video-Holmes",
        hub="TencentARC/Video-Holmes",
        licence="Apache-2.0 for academic purposes; the videos stay with their owners",
        count=1837,
        metrics=(v.Metric("overall"), *v.by_value("question_type", _TYPES)),
        breakdown=("question_type",),
        layouts=(
            v.Layout(
                "official",
                ("test_Video-Holmes.json", "*/test_Video-Holmes.json"),
                _OFFICIAL,
                media=("videos_cropped", "Benchmark/videos_cropped", "videos"),
            ),
            v.Layout("published", ("holmes.json",), v.published()),
        ),
    )
)
