"""NExT-QA, multiple choice: 8,564 causal, temporal and descriptive questions about 1,000 videos (Xiao et al., 2021)."""

from easyvideor1.benchmarks import vocabulary as v

_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}
_TYPES = ("CW", "CH", "TN", "TC", "TP", "DC", "DL", "DO")


def _video(row: v.Raw) -> str:
    """The authors' map gives the path of VidOR; the Hub's videos have the id as their name."""
    return f"{row['map'].get(str(row['video']), row['video'])}.mp4"


_READ = v.choice(
    id="{video}:{qid}",
    question="question",
    options=lambda row: [row[f"a{at}"] for at in range(5)],
    answer="answer",
    gold="index",
    video=_video,
    facets={"type": lambda row: v.one_of(row["type"], _TYPES), "kind": lambda row: _KINDS[row["type"][0]]},
)

NEXT_QA = v.public(
    v.Benchmark(
        name="next_qa",
        version="1",
        title="NExT-QA (multiple choice)",
        hub="lmms-eval/NExTQA",
        licence="MIT for the annotations; unknown for the videos, which are VidOR's",
        count=8564,
        metrics=(v.Metric("accuracy"), *(v.Metric(kind, where={"kind": kind}) for kind in _KINDS.values())),
        breakdown=("kind", "type"),
        layouts=(
            v.Layout("authors", ("test.csv", "*/nextqa/test.csv"), _READ, beside={"map": ("**/map_vid_vidorID.json",)}),
            v.Layout("hub", ("MC/test-*.parquet",), _READ, media=("NExTVideo", "videos"), beside={"map": ()}),
        ),
    )
)
