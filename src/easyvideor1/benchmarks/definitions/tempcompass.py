"""TempCompass: 7,540 questions of four kinds about the order, speed and direction of 410 videos (arXiv 2403.00476)."""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.tempcompass_tasks import CAPTIONS, KINDS, authors_rows, hub_id, read_question

_CHOICES = {"choices": ("questions/multi-choice.json", "multi-choice.json")}


def _hub(row: v.Raw) -> v.Question:
    return read_question({**row, "id": hub_id(row)})


TEMPCOMPASS = v.public(
    v.Benchmark(
        name="tempcompass",
        version="1",
        title="TempCompass",
        hub="lmms-lab/TempCompass",
        licence="CC BY-NC 4.0; terms of the videos unknown",
        count=7540,
        video=v.VideoBudget(fps=1.0, max_pixels=720 * 720),
        video_source="authors' script for Qwen2-VL",
        scoring=v.judged(CAPTIONS),
        # The authors print a number for each kind. How one number is made of them is unknown; two are our choice: one
        # that needs no judge, and the mean of all kinds.
        metrics=(
            v.Metric("without captions", where={"kind": KINDS[:-1]}),
            *(v.Metric(each, where={"kind": each}, judged=each == "captioning") for each in KINDS),
            v.Metric("mean of kinds", macro=("kind",), judged=True),
        ),
        breakdown=("kind", "dim", "kind_dim"),
        layouts=(
            v.Layout("authors", ("questions/*.json",), v.each(authors_rows, read_question), beside=_CHOICES),
            v.Layout("hub", ("*/test-*.parquet",), _hub),
        ),
    )
)
