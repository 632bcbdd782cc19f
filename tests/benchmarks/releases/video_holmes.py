from tests.benchmarks.releases import Fixture


def row(number, kind, answer, last="A man leaves"):
    texts = ("Love", "Hate", "Greed", "Fear", "Fate", last)
    return {
        "video ID": "abc",
        "Question ID": number,
        "Question Type": kind,
        "Question": "What is the theme?",
        "Options": dict(zip("ABCDEF", texts, strict=True)),
        "Answer": answer,
        "Explanation": "",
    }


FIXTURES = [
    Fixture(
        benchmark="video_holmes",
        layout="official",
        files={
            "test_Video-Holmes.json": [
                row(1, "SR", "F"),
                row(2, "SR", "B"),
                row(3, "TA", "A"),
                row(4, "TA", "E"),
                row(5, "PAR", "G"),
                row(6, "PAR", "C", last=" "),
                {**row(7, "PAR", "C"), "Options": {}},
            ]
        },
        questions=("abc-1", "abc-2", "abc-3", "abc-4"),
        refused=("its answer 'G' is none of its 6 options", "its option 6 is blank", "it has no options"),
        answers={"abc-1": "F"},
        # The option's own "A" is not the answer A; an empty reply and a letter on the way are no answers.
        replies={
            "abc-1": "<answer>F: A man leaves</answer>",
            "abc-2": "",
            "abc-3": "A man enters, then B happens, so it is greed or fate.",
            "abc-4": "<think>A? No.</think><answer>E</answer>",
        },
        numbers={"overall": 50.0, "SR": 50.0, "TA": 50.0},
        published=("holmes.json",),
    ),
]
