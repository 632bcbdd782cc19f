from tests.benchmarks.releases import Fixture

FOUR = ("A. one", "B. two", "C. three", "D. four")


def row(number, duration, answer, options=FOUR):
    return {
        "video_id": f"{number:03}",
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Law",
        "url": "",
        "videoID": f"tube{number}",
        "question_id": f"{number:03}-1",
        "task_type": "Counting",
        "question": "How many dogs are there?",
        "options": list(options),
        "answer": answer,
    }


def published(number, duration, answer, options=FOUR):
    more = {"problem_id": number, "problem": "How many dogs are there?", "problem_type": "multiple choice"}
    more |= {"solution": f"<answer>{answer}</answer>", "path": f"./videos/tube{number}.mp4", "data_type": "video"}
    return row(number, duration, answer, options) | more


ROWS = [
    row(1, "short", "B"),
    row(2, "short", "C"),
    row(3, "medium", "A"),
    row(4, "long", "D"),
    row(5, "long", "E"),
    row(6, "long", "A", options=()),
    row(7, "long", "A", options=("A. one", "B. ", "C. three", "D. four")),
    row(8, "long", "C", options=("A. one", "B. two", "C. two", "D. four")),
    row(9, "long", "A", options=("A. one", "B. two", "C. two", "D. four")),
]
REFUSED = ("its answer 'E' is none of its 4 options", "it has no options", "its option 2 is blank")
# 008: the right option stands twice, so B is right and D has become C. 009: two wrong options are the same.
# An empty reply, a reply that only begins with words, and the letter of the gold answer somewhere in it are wrong.
REPLIES = {
    "001-1": "B",
    "002-1": "",
    "003-1": "A dog sat there, so C.",
    "004-1": "D. four",
    "008-1": "<think>C or B?</think><answer>B</answer>",
}
NUMBERS = {"overall": 300 / 6, "short": 50.0, "medium": 0.0, "long": 200 / 3}
OFFICIAL = {
    "layout": "official",
    "files": {"videomme/test-00000-of-00001.parquet": ROWS},
    "questions": ("001-1", "002-1", "003-1", "004-1", "008-1", "009-1"),
    "refused": REFUSED,
    "answers": {"001-1": "B", "008-1": "B", "009-1": "A"},
    "replies": REPLIES,
    "numbers": NUMBERS,
}
PUBLISHED = {
    "layout": "published",
    "files": {"videomme.json": [published(1, "short", "B"), published(2, "long", "G"), published(3, "long", "D")]},
    "questions": ("1", "3"),
    "refused": ("its answer 'G' is none of its 4 options",),
    "replies": {"1": "The answer is B.", "3": "Everyone Dances"},
    "numbers": {"overall": 50.0, "short": 100.0, "long": 0.0},
    "published": ("videomme.json",),
}
FIXTURES = [
    Fixture(benchmark=name, **layout)
    for name in ("video_mme", "video_mme_subtitles")
    for layout in (OFFICIAL, PUBLISHED)
]
