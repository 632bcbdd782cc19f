from tests.benchmarks.releases import Fixture


def row(video, answer, start=None, end=None, options=("a red light", "a green light"), **columns):
    found = {
        "video": video,
        "question": "What does the driver see?",
        "candidates": list(options),
        "answer": answer,
        "task": "perception",
        "subtask": "lights",
        **columns,
    }
    return found if end is None else found | {"start": start, "end": end}


FIXTURES = [
    Fixture(
        benchmark="odv_bench",
        layout="official",
        files={
            "json/targeting_single_static_objects_v4.json": [
                row("a.mp4", "a green light", 3, 8.5),
                row("a.mp4", "a green light", 8.5, 3),
                row("b.mp4", "a blue light"),
                row("", "a red light"),
            ],
            "json/targeting_single_dynamic_objects_v4.json": [row("frames/c", "a red light", 0, 2, fps=10)],
            "json/targeting_multi_object_interaction_scenarios_or_events_v4.json": [
                row("d.mp4", "a red light", 0, 2, subsubtask="crossing"),
                row("e.mp4", "yes", options=("yes", "no", "maybe", "later", "never", "always")),
            ],
        },
        questions=(
            "d.mp4 0 2 What does the driver see?",
            "e.mp4 What does the driver see?",
            "frames/c 0 2 What does the driver see?",
            "a.mp4 3 8.5 What does the driver see?",
        ),
        refused=("does not end after it starts", "none of its 2 options", "its video is blank"),
        answers={"a.mp4 3 8.5 What does the driver see?": "B", "e.mp4 What does the driver see?": "A"},
        # An empty reply stays in the denominator, and the article "a" is no option.
        replies={
            "a.mp4 3 8.5 What does the driver see?": "",
            "frames/c 0 2 What does the driver see?": "I see a car.",
            "d.mp4 0 2 What does the driver see?": "A. a red light",
            "e.mp4 What does the driver see?": "A",
        },
        numbers={"overall": 50.0, "static": 0.0, "dynamic": 0.0, "interaction": 100.0},
    ),
    Fixture(
        benchmark="odv_bench",
        layout="published",
        files={
            "odvbench.json": [
                {
                    "problem_id": "odv_1",
                    "problem_type": "multiple choice",
                    "problem": "What does the driver see?",
                    "options": ["A. a red light", "B. a green light"],
                    "solution": "<answer>B</answer>",
                    "path": "1_a_s3_e8.5.mp4",
                    "odv_task": "perception",
                    "odv_subtask": "lights",
                }
            ]
        },
        questions=("odv_1",),
        replies={"odv_1": "B"},
        numbers={"overall": 100.0},
    ),
]
