"""EgoSchema: 500 of its 5,031 questions about three minutes of one's own view, those with a public answer
(arXiv 2308.09126). The other answers are only with the authors' server, so these rows are no questions here."""

from collections.abc import Iterable
from typing import Any

from easyvideor1.benchmarks import vocabulary as v

_ASKED: dict[str, Any] = {"question": "question", "answer": "answer"}


def _options(row: v.Raw) -> list[str]:
    return [row[f"option {number}"] for number in range(5)]


_AUTHORS = v.choice(id="q_uid", options=_options, video="{q_uid}.mp4", gold="index", **_ASKED)
_HUB = v.choice(id="video_idx", options="option", video="{video_idx}.mp4", gold="index", **_ASKED)


def _answered(row: v.Raw) -> Iterable[v.Question]:
    if not row["answers"]:
        raise v.QuestionError("subset_answers.json is not beside questions.json")
    gold = v.take(row, lambda row: row["answers"].get(row["q_uid"]))
    return [] if gold is None else [_AUTHORS({**row, "answer": gold})]


EGO_SCHEMA = v.public(
    v.Benchmark(
        name="egoschema",
        version="1",
        title="EgoSchema (subset with public answers)",
        hub="lmms-eval/egoschema",
        licence="unknown; the terms of Ego4D",
        count=500,
        layouts=(
            v.Layout("authors", ("questions.json",), _answered, beside={"answers": ("subset_answers.json",)}),
            v.Layout("hub", ("Subset/test-*.parquet",), _HUB),
        ),
    )
)
