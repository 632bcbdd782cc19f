import base64

from tests.benchmarks.releases import Fixture

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEN = [f"choice {number}" for number in range(10)]
FOURTEEN = [f"choice {number}" for number in range(14)]


def row(video, answer, options=TEN, kind="multiple-choice", question="What is said?", **other):
    return {"id": video, "question": question, "options": options, "answer": answer, "question_type": kind, **other}


def track(*rows):
    return {str(number): one for number, one in enumerate(rows)}


ADAPTATION = track(
    row("validation_Chemistry_3", "12.97", [], "open", "<image 1> What mass?"),
    row("validation_Art_Theory_1", "J", question="<image 1> Who?"),
    row("validation_Math_4", "['24/7', '3.429', '3.43]", [], "open"),
    row("validation_Math_5", "C", [], "open"),
    row("validation_Math_6", "C", []),
)
PERCEPTION = track(
    row("validation_Chemistry_3", "N", FOURTEEN, None),
    row("validation_Chemistry_4", "K", TEN, None),
    row("new_Cooking_1", "B", ["X: 1", "X: 2", "X: 3"], None),
)


def published(number, solution, options, kind, original, **other):
    return {
        "problem_id": number,
        "problem_type": kind,
        "original_question_type": original,
        "data_type": "video",
        "problem": "What is shown?",
        "path": "./validation_Music_1.mp4",
        "options": options,
        "solution": f"<answer>{solution}</answer>",
        **other,
    }


FIXTURES = [
    Fixture(
        benchmark="video_mmmu",
        layout="authors",
        files={
            "data/adaptation_video.json": {"Adaptation": ADAPTATION},
            "data/comprehension_video.json": {"Comprehension": track(row("validation_Art_1", "A"))},
            "data/perception_video.json": {"Perception": PERCEPTION},
        },
        questions=(
            "Adaptation/validation_Chemistry_3",
            "Adaptation/validation_Art_Theory_1",
            "Adaptation/validation_Math_4",
            "Adaptation/validation_Math_5",
            "Comprehension/validation_Art_1",
            "Perception/validation_Chemistry_3",
            "Perception/new_Cooking_1",
        ),
        refused=("it has no options", "its answer 'K' is none of its 10 options"),
        answers={"Adaptation/validation_Math_4": '["24/7", "3.429", "3.43"]'},
        replies={
            "Adaptation/validation_Chemistry_3": "<answer>12.97 g</answer>",
            "Adaptation/validation_Art_Theory_1": "<answer>J</answer>",
            "Adaptation/validation_Math_4": "<answer>3.429</answer>",
            "Adaptation/validation_Math_5": "",
            "Perception/validation_Chemistry_3": "<answer>N</answer>",
            "Perception/new_Cooking_1": "<answer>X: 2</answer>",
        },
        # The question without a reply stays in the mean of its track.
        numbers={"overall": 500 / 7, "Adaptation": 75.0, "Comprehension": 0.0, "Perception": 100.0},
        published=("videommmu.json", "videommmu_with_image.json"),
    ),
    Fixture(
        benchmark="video_mmmu",
        layout="hub",
        files={
            "Adaptation/test-00000-of-00001.parquet": [
                row("validation_Art_2", "B", question="<image 1> Who?", image={"bytes": PIXEL, "path": "a.png"}),
                row("validation_Art_3", "B", image=None),
            ],
            "Other/test-00000-of-00001.parquet": [row("validation_Art_2", "B")],
        },
        questions=("Adaptation/validation_Art_2", "Adaptation/validation_Art_3"),
        refused=("its track 'Other' is none of",),
        replies={"Adaptation/validation_Art_2": "<answer>B</answer>", "Adaptation/validation_Art_3": "choice 2"},
        numbers={"overall": 50.0, "Adaptation": 50.0},
    ),
    Fixture(
        benchmark="video_mmmu",
        layout="published",
        files={
            "videommmu_with_image.json": [
                published(44, "A", ["A. ", "B. "], "multiple choice", "open", image_path="./images/a.png"),
                published(300, "360", None, "numerical", "open"),
                published(301, "B", ["A. x", "B. y"], "multiple choice", "multiple-choice"),
                published(900, "B", ["A. x", "B. "], "multiple choice", "multiple-choice"),
            ]
        },
        questions=("44", "300", "301"),
        refused=("its option 2 is blank",),
        replies={"44": "<answer>A</answer>", "300": "<answer>$360</answer>", "301": "<answer>A</answer>"},
        numbers={"overall": 200 / 3, "Adaptation": 100.0, "Comprehension": 0.0},
    ),
    # Of six questions twice, four are right after the lecture and two alone: (4/6 - 2/6) / (1 - 2/6) = 1/2.
    Fixture(
        benchmark="video_mmmu_gain",
        layout="authors",
        files={
            "data/adaptation_video.json": {
                "Adaptation": track(
                    row("validation_Math_4", "7", [], "open", question="<image 1> How many?"),
                    *(row(f"validation_Art_{number}", "J") for number in range(5)),
                    row("validation_Math_6", "C", []),
                )
            },
            "data/comprehension_video.json": {"Comprehension": track(row("validation_Art_1", "A"))},
        },
        questions=tuple(
            f"Adaptation/validation_{name}{how}"
            for name in ("Math_4", "Art_0", "Art_1", "Art_2", "Art_3", "Art_4")
            for how in ("", "/alone")
        ),
        refused=("it has no options",),
        parts={
            "Adaptation/validation_Math_4": {"video": "Science/validation_Math_4.mp4", "columns": {}},
            "Adaptation/validation_Math_4/alone": {
                "video": "question_only/validation_Math_4_image.mp4",
                "columns": {"nframes": 2},
                "context": "",
                "answer": "7",
            },
        },
        # One question was right before and is wrong after; one without a reply stays in the denominator.
        replies={
            **{f"Adaptation/validation_Art_{number}": "<answer>J</answer>" for number in range(3)},
            "Adaptation/validation_Math_4": "<answer>7</answer>",
            "Adaptation/validation_Art_3": "<answer>A</answer>",
            **{f"Adaptation/validation_Art_{number}/alone": "<answer>B</answer>" for number in (1, 2, 4)},
            **{f"Adaptation/validation_Art_{number}/alone": "<answer>J</answer>" for number in (0, 3)},
        },
        numbers={"after the lecture": 400 / 6, "question alone": 200 / 6, "knowledge gain": 50.0},
        published=("videommmu.json", "videommmu_with_image.json"),
        holds=lambda row: 2 * (int(row["problem_id"]) <= 300),
    ),
    # All was right before: there is nothing to gain.
    Fixture(
        benchmark="video_mmmu_gain",
        layout="hub",
        files={
            "Adaptation/test-00000-of-00001.parquet": [
                row("validation_Art_2", "B", question="<image 1> Who?", image={"bytes": PIXEL, "path": "a.png"})
            ]
        },
        questions=("Adaptation/validation_Art_2", "Adaptation/validation_Art_2/alone"),
        parts={"Adaptation/validation_Art_2/alone": {"video": "", "columns": {}}},
        replies={"Adaptation/validation_Art_2": "C", "Adaptation/validation_Art_2/alone": "B"},
        numbers={"after the lecture": 0.0, "question alone": 100.0, "knowledge gain": None},
    ),
]
