from tests.benchmarks.releases import Fixture

BLANK = dict.fromkeys("ABCDE", "")
FULL = {"A": "32 g", "B": "40 g", "C": "44 u", "D": "30 u", "E": "44 g"}


def row(number, subject, answer, choices=None, **other):
    return {
        "id": f"validation_{number}",
        "video": f"https://example.org/resolve/main/videos/{subject.replace(' ', '_')}/{number}.mp4",
        "youtube_url": "",
        "question_type": "open-ended" if choices is None else "multiple-choice",
        "metadata": {"subject": subject, "textbook": "", "rationale": "", "knowledge": []},
        "question": "Which gas is it?",
        "choices": choices or BLANK,
        "answer": answer,
        **other,
    }


ROWS = [
    row(0, "Chemistry", "E", FULL),
    row(1, "Computer Science", "Depth-First Search (DFS)"),
    row(2, "Alchemy", "negative"),
    row(3, "Chemistry", "B", FULL),
    row(4, "Chemistry", "F", FULL),
    row(5, "Chemistry", "A", BLANK),
]
REPLIES = {
    "validation_0": "<answer>E</answer>",
    # Neither the gold letter as a word of a reply nor an empty reply to an open question is right.
    "validation_3": "b or not b, that is the question",
    "validation_1": "",
    "validation_2": "<answer>Negative</answer>",
}
REFUSED = ("its answer 'F' is none of its 5 options", "it has no options")

FIXTURES = [
    Fixture(
        benchmark="mmvu",
        layout="official",
        files={"data/validation.json": ROWS},
        questions=("validation_0", "validation_1", "validation_2", "validation_3"),
        refused=REFUSED,
        replies=REPLIES,
        # The question of an unknown subject counts.
        numbers={"overall": 50.0, "Science": 50.0, "Engineering": 0.0, "multiple_choice": 50.0},
        published=("mmvu-all.json",),
    ),
    Fixture(
        benchmark="mmvu_mc",
        layout="official",
        files={"validation.json": ROWS},
        questions=("validation_0", "validation_3"),
        refused=REFUSED,
        replies=REPLIES,
        numbers={"overall": 50.0, "Science": 50.0},
        published=("mmvu-mc.json", "mmvu.json"),
    ),
    Fixture(
        benchmark="mmvu_mc",
        layout="hub",
        files={
            "data/validation-00000-of-00001.parquet": [
                {**row(7, "Art", "C", FULL), "video": None, "video_path": "videos/Art/7.mp4"},
                {**row(8, "Art", "Zoom"), "video": None, "video_path": "videos/Art/8.mp4"},
            ]
        },
        questions=("validation_7",),
        replies={"validation_7": "<answer>C</answer>"},
        numbers={"overall": 100.0, "Humanities": 100.0},
    ),
]
