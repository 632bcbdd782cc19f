from tests.benchmarks.releases import Fixture


def row(name, **options):
    return {"q_uid": name, "question": "Why?", **{f"option {n}": f"for reason {n}" for n in range(5)}, **options}


def hub(name, answer, options=5):
    letters = "ABCDEF"[:options]
    return {
        "question_idx": "1",
        "question": "Why?",
        "video_idx": name,
        "option": [f"{letter}. for reason {letter}" for letter in letters],
        "answer": answer,
    }


FIXTURES = [
    Fixture(
        benchmark="egoschema",
        layout="authors",
        files={
            "questions.json": [
                row("u1"),
                row("u2"),
                row("u3"),
                row("u4", **{"option 4": " "}),
                {"question": "Why?"},
                row(["u1"]),
            ],
            "subset_answers.json": {"u1": 4, "u2": 5, "u4": 0},
        },
        # u3 has no public answer, so it is no question here.
        questions=("u1",),
        refused=(
            "its answer 5 is none of its 5 options",
            "its option 5 is blank",
            "it has no column 'q_uid'",
            "is not as expected",
        ),
        answers={"u1": "E"},
        replies={"u1": "E"},
        numbers={"accuracy": 100.0},
    ),
    Fixture(
        benchmark="egoschema",
        layout="hub",
        files={"Subset/test-00000-of-00001.parquet": [hub("u1", "4"), hub("u2", "0"), hub("u3", None)]},
        questions=("u1", "u2"),
        refused=("its answer None is none of its 5 options",),
        answers={"u1": "E", "u2": "A"},
        replies={"u1": "E", "u2": ""},
        numbers={"accuracy": 50.0},
    ),
]
