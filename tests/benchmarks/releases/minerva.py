from tests.benchmarks.releases import Fixture


def row(key, answer_id, named="question_type"):
    texts = ("Red.", "Green.", "Blue.", "Black.", "White.")
    return {
        "key": key,
        "video_id": "tube",
        "question": "Which colour?",
        "answer": "White.",
        **{f"answer_choice_{number}": each for number, each in enumerate(texts)},
        "answer_id": answer_id,
        "reasoning": "",
        named: "Counting",
        "split": "short",
        "category": "Sports",
    }


FIXTURES = [
    Fixture(
        benchmark="minerva",
        layout="official",
        files={
            "minerva.json": [
                row("a:0", 4),
                row("a:1", "0", named="question type"),
                row("a:2", 2),
                row("a:3", 5),
                {"key": "a:4", "answer_id": 1, "question": "Which colour?"},
                {"key": "a:5"},
            ]
        },
        questions=("a:0", "a:1", "a:2"),
        refused=("its answer 5 is none of its 5 options", "it has no column 'answer_choice_0'", "none of the columns"),
        answers={"a:0": "E", "a:1": "A"},
        # The last capital letter of a reply is no answer, and nothing is drawn by chance.
        replies={"a:0": "The answer is E.", "a:1": "I am unsure. It may be B, C or A", "a:2": "Blue."},
        numbers={"overall": 200 / 3},
        published=("minerva.json",),
    ),
]
