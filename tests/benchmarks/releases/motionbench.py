from tests.benchmarks.releases import Fixture


def video(key, kind, *questions):
    listed = [{"uid": uid, "question": question, "answer": answer} for uid, question, answer in questions]
    return {"key": key, "video_path": f"{key}.mp4", "video_type": "web", "question_type": kind, "qa": listed}


SIX = "How often?\nA. 1\nB. 2\nC. 3\nD. 4\nE. 5\nF. 6"
ROWS = [
    video("a", "Repetition Count", ("u1", SIX, "F"), ("u2", SIX, "NA"), ("u3", SIX, "E"), ("u4", SIX, "G")),
    video("b", "Action Order", ("u5", "Which first?\nA. hand\nB. foot", "A"), ("u6", "Which first?", "A")),
    video("c", "Camera Motion", ("u7", "Where to?\nA. up\nC. down", "A")),
]
FIXTURES = [
    Fixture(
        benchmark="motionbench",
        layout="authors",
        files={"video_info.meta.jsonl": ROWS},
        questions=("u1", "u3", "u5"),
        refused=(
            "its answer is hidden (NA)",
            "its answer 'G' is none of its 6 options",
            "lists no options from A on",
            "lists no options from A on",
        ),
        # Options E and F count. The article "a" of a reply is no answer.
        replies={"u1": "F", "u3": "E. 5", "u5": "It is a foot that moves after a hand."},
        numbers={"accuracy": 200 / 3},
    ),
    Fixture(
        benchmark="motionbench",
        layout="published",
        files={
            "motionbench.json": [
                {
                    "problem_id": 4,
                    "problem": "How often?",
                    "problem_type": "multiple choice",
                    "original_question_type": "Repetition Count",
                    "options": ["A. 1", "B. 2", "C. 3", "D. 4", "E. 5"],
                    "solution": "<answer>E</answer>",
                    "path": "./self-collected/a.mp4",
                    "data_type": "video",
                }
            ]
        },
        questions=("4",),
        answers={"4": "E"},
        replies={"4": "<answer>E</answer>"},
        numbers={"accuracy": 100.0},
        published=("motionbench.json",),
    ),
]
