from tests.benchmarks.releases import Fixture


def row(number, q_type, ocr, answer, start=1.5, end=9.0, video="videos/game.mp4"):
    return {
        "video_id": "game",
        "question_id": f"e1_q{number}",
        "q_type": q_type,
        "OCR": ocr,
        "question": "Who scored?",
        "options": ["A: Ann", "B: Bob", "C: Cem", "D: Dia"],
        "answer": answer,
        "video": video,
        "video_start": start,
        "video_end": end,
    }


ROWS = [
    row(1, "What", 0, "A"),
    row(2, "When", 1, "B"),
    row(3, "Who", 1, "D"),
    row(4, "Who", 0, "E"),
    row(5, "Who", 0, "A", 9.0, 1.5),
    row(6, "Who", 0, "A", video=None),
    row(3, "Who", 0, "C"),
]
REFUSED = ("its answer 'E' is none of its 4 options", "does not end after it starts", "it names no video")

FIXTURES = [
    Fixture(
        benchmark="livesports_3k_qa",
        layout="official",
        files={name: ROWS},
        questions=("game e1_q1", "game e1_q2", "game e1_q3", "game e1_q3#2"),
        refused=REFUSED,
        answers={"game e1_q3#2": "C"},
        replies={"game e1_q1": "Bob", "game e1_q2": "B", "game e1_q3": "", "game e1_q3#2": "C: Cem"},
        numbers={"overall": 50.0, "What": 0.0, "When": 100.0, "Who": 50.0, "OCR": 50.0},
    )
    for name in ("LiveSports-3K-QA.json", "sports3k-qa.jsonl")
] + [
    Fixture(
        benchmark="livesports_3k_qa",
        layout="published",
        files={
            "livesports3k_qa.json": [
                {
                    "problem_id": "game_e1_q1",
                    "problem_type": "multiple choice",
                    "problem": "Who scored?",
                    "options": ["A: Ann", "B: Bob"],
                    "solution": "<answer>B</answer>",
                    "path": "game_1.5_9.0.mp4",
                    "q_type_livesports": "Who",
                    "ocr_livesports": 1,
                }
            ]
        },
        questions=("game_e1_q1",),
        replies={"game_e1_q1": "B"},
        numbers={"overall": 100.0, "Who": 100.0, "OCR": 100.0},
        published=("livesports3k_qa.json",),
    )
]
