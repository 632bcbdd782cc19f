from tests.benchmarks.releases import Fixture, verdict

CLOSING = "\n\nProvide a summary of the final answer after 'Final Answer:'"


def row(dim, answer, size=1, operations=5):
    return {
        "video": "videos/chip/state1_op5_start.mp4",
        "question": f"What was done?{CLOSING}",
        "answer": answer,
        "dim": dim,
        "num_state": size,
        "num_operation": operations,
        "visible_time": "start",
        "states": {},
        "actions": [],
    }


def operations(goal, states):
    """A question whose cup begins with the last of the states, as the video shows the first."""
    found = row("prediction_operation", None)
    return {**found, "question": f"What makes sure, to ensure that {goal}?{CLOSING}", "states": {"cup0": states}}


CHIP = {
    "s1_order_operation": row("order_operation", "1st: 5, cup0\n2nd: 10, cup0"),
    "s1_counting_operation": row("counting_operation", "2", operations=10),
    "s1_counting_state": row("counting_state", "None"),
    "s1_prediction_operation": operations("`cup0` contains exactly the following chips: `5, 5, 20`", [[20, 5], [10]]),
    "s2_prediction_operation": operations("`cup0` contains exactly the following chips: `5`", [[20, 5], [5, 10]]),
    "s3_prediction_operation": operations("there are few chips", [[20], []]),
    "s1_prediction_state": row("prediction_state", None),
}
CUP = {"s1_order_operation": row("order_operation", "1st: (a1, b1)", size=3), "s1_other": row("comparison_state", "3")}


def published(number, question, answer):
    return {
        "problem_id": number,
        "problem_type": "open-ended",
        "data_type": "video",
        "problem": question + CLOSING,
        "path": "chip/state1_op5_start.mp4",
        "options": [],
        "solution": f"<answer>{answer}</answer>",
    }


FIXTURES = [
    Fixture(
        benchmark="video_reason_bench",
        layout="official",
        files={"questions/chip.json": CHIP, "questions/cup.json": CUP},
        questions=(
            "chip/s1_order_operation",
            "chip/s1_counting_operation",
            "chip/s1_counting_state",
            "chip/s1_prediction_operation",
            "chip/s2_prediction_operation",
            "cup/s1_order_operation",
            "cup/s1_other",
        ),
        refused=("its question states no goal", "its answer is blank"),
        answers={"chip/s1_order_operation": "1st: 5, cup0\n2nd: 10, cup0"},
        # All lines of an answer count, and the same line alone is not enough.
        replies={
            "chip/s1_order_operation": "<answer>1st: 5, cup0\n2nd: 10, cup0</answer>",
            "chip/s1_counting_operation": "",
            "chip/s1_counting_state": "<answer>none</answer>",
            "chip/s1_prediction_operation": "<answer>remove 10 cup0, add 5 to cup0, add 5 cup0, add 20 cup0</answer>",
            "chip/s2_prediction_operation": "<answer>remove 10 from cup0, remove 20 from cup0</answer>",
            "cup/s1_order_operation": "<answer>1st: (a1, b1), 2nd: (a1, b2)</answer>",
        },
        numbers={
            "overall": 300 / 7,
            "order_operation": 50.0,
            "counting_operation": 0.0,
            "infer_state": 100.0,
            "comparison_state": 0.0,
            "recall": 100 / 3,
            "infer": 50.0,
            "prediction_operation": 50.0,
            "predict": 50.0,
        },
        judge=lambda system, user: verdict(system, score=0),
        published=("videoreasonbench.json",),
    ),
    Fixture(
        benchmark="video_reason_bench",
        layout="published",
        files={
            "videoreasonbench.json": [
                published(1, "Which steps make sure that `cup0` contains exactly the following chips: `5`?", "None"),
                published(2, "Which chips were in `cup0`?", "None"),
            ]
        },
        questions=("2",),
        refused=("takes the states of the official file",),
        replies={"2": "<answer>None</answer>"},
        numbers={"overall": 100.0},
    ),
]
