from tests.benchmarks.releases import Fixture

FIVE = ["A. 7", "B. 9", "C. 5", "D. 6", "E. 4"]
PAIR = ["A. 7", "B. 9"]


def row(question, answer, options, length="short"):
    return {
        "videoID": question,
        "question_id": f"{question}-1",
        "question": "How many triangles?",
        "options": options,
        "answer": answer,
        "category": "Counting",
        "length": length,
    }


def pairs(question, answers, length="short"):
    return [row(question, answer, PAIR, length) for answer in answers]


def published(question, options, solution, pair=None):
    return {
        "problem_id": f"{question}-1",
        "problem_type": "multiple choice",
        "data_type": "video",
        "problem": "How many triangles?",
        "path": f"./videos/{question}.mp4",
        "video_id": question,
        "options": options,
        "solution": f"<answer>{solution}</answer>",
        "category": "Counting",
        "length": "short",
        **({} if pair is None else {"mbinary_id": pair}),
    }


POOLED = [
    published("p", FIVE, "E"),
    published("p", PAIR, "A", 11),
    published("p", PAIR, "B", 12),
    published("p", ["A. 7", "B. 7"], "B", 13),
]
MBIN = [*pairs("p", "ABAB"), *pairs("q", "AABB"), *pairs("r", "ABC", "long")]
IDS = tuple(f"{name}-1 {number}" for number, name in enumerate("ppppqqqqrr", start=1))

FIXTURES = [
    Fixture(
        benchmark="videomathqa_mcq",
        layout="official",
        files={
            "mcq/test-00000-of-00001.parquet": [
                row("p", "E", FIVE),
                row("q", "A", FIVE, "long"),
                row("r", "F", FIVE, "long"),
            ]
        },
        questions=("p-1", "q-1"),
        refused=("its answer 'F' is none of its 5 options",),
        # The first capital letter of a reply is no answer: "A reply".
        replies={"p-1": "<answer>E</answer>", "q-1": "A reply that gives nothing"},
        numbers={"overall": 50.0, "short": 100.0, "long": 0.0},
        published=("videomathqa.json",),
        holds=lambda row: row.get("mbinary_id") is None,
    ),
    Fixture(
        benchmark="videomathqa_mcq",
        layout="published",
        files={"videomathqa.jsonl": POOLED},
        questions=("p-1",),
        replies={"p-1": "<answer>E</answer>"},
        numbers={"overall": 100.0},
    ),
    Fixture(
        benchmark="videomathqa_mbin",
        layout="official",
        files={"multi_binary/test-00000-of-00001.parquet": MBIN},
        questions=IDS,
        refused=("its answer 'C' is none of its 2 options",),
        # All pairs of p are right; one of q is wrong; one of r has no reply. Always A would have half of the pairs.
        replies={id_: f"<answer>{reply}</answer>" for id_, reply in zip(IDS, "ABABAABAA", strict=False)},
        numbers={"overall": 100 / 3, "short": 50.0, "long": 0.0},
        published=("videomathqa.json",),
        holds=lambda row: row.get("mbinary_id") is not None,
    ),
    Fixture(
        benchmark="videomathqa_mbin",
        layout="published",
        files={"videomathqa.jsonl": POOLED},
        questions=("p-1 11", "p-1 12"),
        refused=("its options are all '7'",),
        replies={"p-1 11": "<answer>A</answer>", "p-1 12": "<answer>A</answer>"},
        numbers={"overall": 0.0},
    ),
    Fixture(
        benchmark="videomathqa_mcq_subtitles",
        layout="official",
        files={"mcq/test-00000-of-00001.parquet": [row("p", "E", FIVE), row("q", "A", FIVE, "long")]},
        questions=("p-1", "q-1"),
        replies={"p-1": "<answer>E</answer>"},
        numbers={"overall": 50.0, "short": 100.0, "long": 0.0},
    ),
    Fixture(
        benchmark="videomathqa_mbin_subtitles",
        layout="published",
        files={"videomathqa.jsonl": POOLED},
        questions=("p-1 11", "p-1 12"),
        refused=("its options are all '7'",),
        replies={"p-1 11": "<answer>A</answer>", "p-1 12": "<answer>B</answer>"},
        numbers={"overall": 100.0},
    ),
]
