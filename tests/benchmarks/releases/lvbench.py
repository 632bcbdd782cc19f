from tests.benchmarks.releases import Fixture

ASKED = "What year is it?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633"


def question(uid, answer, *types, asked=ASKED):
    return {"uid": uid, "question": asked, "answer": answer, "question_type": list(types), "time_reference": "00:15"}


ROWS = [
    {
        "key": "tube1",
        "type": "cartoon",
        "qa": [
            question("1", "D", "reasoning", "entity recognition"),
            question("2", "A", "entity recognition"),
            question("3", "D. 1633", "summarization"),
            question("4", "E", "reasoning"),
            question("5", "A", "reasoning", asked="What year is it?"),
        ],
    },
    {"key": "tube2", "type": "sport", "qa": [question("6", "B", "temporal grounding")]},
    {"key": "tube3", "type": "sport"},
]


def hub(number, answer, options):
    return {"video_path": f"tube{number}.mp4", "question": "What?", "options": list(options), "answer": answer}


FIXTURES = [
    Fixture(
        benchmark="lvbench",
        layout="authors",
        files={"data/video_info.meta.jsonl": ROWS},
        questions=("1", "2", "3", "6"),
        refused=("its answer 'E' is none of its 4 options", "lists no options", "it has no column 'qa'"),
        answers={"3": "D"},
        # A question of two types counts in both; the failed question 6 stays in the mean.
        replies={"1": "(D)", "2": "B", "3": "1633"},
        numbers={
            "accuracy": 50.0,
            "entity recognition": 50.0,
            "reasoning": 100.0,
            "summarization": 100.0,
            "temporal grounding": 0.0,
        },
    ),
    Fixture(
        benchmark="lvbench",
        layout="hub",
        files={
            "data/train-00000-of-00001.parquet": [
                hub(1, "B", ("1", "2", "3", "4")),
                hub(1, "B", ("red", "blue", "green", "blue")),
                hub(2, "", ("1", "2", "3", "4")),
            ]
        },
        questions=("tube1.mp4 1", "tube1.mp4 2"),
        refused=("its answer '' is none of its 4 options",),
        answers={"tube1.mp4 2": "B"},
        replies={"tube1.mp4 1": "2", "tube1.mp4 2": "D"},
        numbers={"accuracy": 50.0},
    ),
    Fixture(
        benchmark="lvbench",
        layout="published",
        files={
            "lvbench.json": [
                {
                    "problem_id": 545,
                    "problem": "What happens?",
                    "problem_type": "multiple choice",
                    "options": ["A. this", "B. that"],
                    "solution": "<answer>A</answer>",
                    "path": "./videos/tube1.mp4",
                    "data_type": "video",
                }
            ]
        },
        questions=("545",),
        replies={"545": "Before that, this."},
        numbers={"accuracy": 0.0},
        published=("lvbench.json",),
    ),
]
