from tests.benchmarks.releases import Fixture

EIGHT = "\n".join(f"{letter}. choice {number}" for number, letter in enumerate("ABCDEFGH"))


def group(video, kind, structure, answers, level):
    """Four rows; level and heads stand at the last."""
    rows = []
    for place, answer in enumerate(answers, start=1):
        last = place == len(answers)
        rows.append(
            {
                "video_id": video,
                "question_id": f"{video}-{place}",
                "question": f"What is number {place}?",
                "options": EIGHT,
                "answer": answer,
                "group_type": kind,
                "group_structure": structure,
                "level": level if last else None,
                "second_head": "Reasoning" if last else None,
                "third_head": "Order" if last else None,
            }
        )
    return rows


ROWS = [
    *group("001", "relevance", "", "ABCD", "1"),
    *group("002", "logic", "[1, 2, 3, 4]", "EFGH", "2"),
    *group("003", "logic", "[1, [2, 3], 4]", "HGFE", "3"),
    *group("004", "logic", "[[1, 2], 3, 4]", "AAAA", "3")[::-1],
    group("005", "logic", "[4, 3, 2, 1]", "A", "3")[0],
    group("006", "chain", "", "A", "3")[0],
    {**group("007", "relevance", "", "A", "3")[0], "question_id": "007"},
    group("008", "relevance", "", "I", "3")[0],
]
REPLIES = (
    # relevance, 3 of 4 right: 56.25
    {"001-1": "A", "001-2": "B. choice 1", "001-3": "C", "001-4": ""}
    # plain chain that breaks at its third question, although the fourth is right: 4/16
    | {"002-1": "E", "002-2": "F", "002-3": "A", "002-4": "H"}
    # wrong second and right third question beside it: one more step, 4/12, whatever the fourth is
    | {"003-1": "H", "003-2": "A", "003-3": "F", "003-4": "E"}
    # wrong first and right second question beside it: one step, 1/10; the third failed
    | {"004-1": "B", "004-2": "A", "004-4": "A"}
)
LOGIC = (25 + 100 / 3 + 10) / 3
FIXTURES = [
    Fixture(
        benchmark=name,
        layout="official",
        files={"test.parquet": ROWS},
        questions=(
            *(f"00{video}-{place}" for video in (1, 2, 3) for place in (1, 2, 3, 4)),
            *(f"004-{place}" for place in (4, 3, 2, 1)),
        ),
        refused=(
            "its group_structure '[4, 3, 2, 1]' is none of",
            "its group_type 'chain' is neither relevance nor logic",
            "its question_id '007' does not end in its place",
            "its answer 'I' is none of its 8 options",
        ),
        answers={"002-4": "H"},
        replies=REPLIES,
        numbers={
            "group score": (56.25 + 3 * LOGIC) / 4,
            "relevance": 56.25,
            "logic": LOGIC,
            "accuracy": 100 * (3 + 3 + 3 + 2) / 16,
        },
    )
    for name in ("video_mme_v2", "video_mme_v2_subtitles")
]
