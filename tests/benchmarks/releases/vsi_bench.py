from tests.benchmarks.releases import Fixture


def numeric(number, kind, truth):
    return {**choice(number, kind, truth), "options": None}


def choice(number, kind, truth, options=("A. left", "B. right", "C. back")):
    return {
        "id": number,
        "dataset": "scannet",
        "scene_name": "scene0000_00",
        "question_type": kind,
        "question": "Where or how much?",
        "options": list(options),
        "ground_truth": truth,
    }


ROWS = [
    numeric(0, "object_counting", "10"),
    numeric(1, "object_counting", "4"),
    numeric(2, "object_abs_distance", "0.5"),
    numeric(3, "object_size_estimation", "20"),
    numeric(4, "room_size_estimation", "10"),
    choice(5, "object_rel_distance", "C"),
    choice(6, "object_rel_direction_easy", "A", ("A. left", "B. right")),
    choice(7, "object_rel_direction_easy", "B", ("A. left", "B. right")),
    choice(8, "object_rel_direction_medium", "C"),
    choice(9, "object_rel_direction_hard", "B"),
    choice(10, "route_planning", "A"),
    choice(11, "obj_appearance_order", "B"),
    choice(12, "object_rel_direction", "B"),
    choice(13, "route_planning", "D"),
    numeric(14, "route_planning", "A"),
    numeric(15, "object_counting", ""),
]
REPLIES = {
    "0": "<answer>9</answer>",  # 10% off: meets 0.50 to 0.90
    "1": "<answer>four</answer>",
    "2": "<answer>0.25 m</answer>",  # 50% off: meets 0.50 alone
    "3": "<answer>19</answer>",  # 5% off: meets 0.95
    "4": "<answer>4.9</answer>",
    "5": "(C)",
    "6": "<answer>A</answer>",
    "7": "<answer>A</answer>",
    "8": "<answer>C</answer>",
    "9": "",
    "10": "The way is to the left, so A or B",
}
NUMBERS = {
    "object_counting": 95.0,
    "object_abs_distance": 10.0,
    "object_size_estimation": 100.0,
    "room_size_estimation": 0.0,
    "object_rel_distance": 100.0,
    "object_rel_direction": 50.0,  # the mean of 1/2, 1 and 0
    "route_planning": 0.0,
    "obj_appearance_order": 0.0,
    "overall": 44.375,
}
REFUSED = ("its type 'object_rel_direction'", "its answer 'D' is none of", "it has no options", "its ground_truth is")
FIXTURES = [
    Fixture(
        benchmark="vsi_bench",
        layout="official",
        files={"test-00000-of-00001.parquet": ROWS},
        questions=tuple(map(str, range(12))),
        refused=REFUSED,
        replies=REPLIES,
        numbers=NUMBERS,
        published=("vsibench.json",),
    ),
    Fixture(
        benchmark="vsi_bench",
        layout="lines",
        files={
            "test.jsonl": [
                {name: value for name, value in row.items() if name != "id"} for row in (ROWS[6], ROWS[8], ROWS[7])
            ]
        },
        questions=("1", "2", "3"),
        # The mean of easy and medium ones, not of the three questions.
        replies={"1": "<answer>B</answer>", "2": "<answer>C</answer>", "3": "<answer>A</answer>"},
        numbers={"object_rel_direction": 50.0, "overall": 50.0},
    ),
    *(
        Fixture(
            benchmark=f"vsi_bench_{part}",
            layout="official",
            files={
                "test-00000-of-00001.parquet": ROWS,
                f"test_{part}.parquet": [{**ROWS[0], "pruned": part == "pruned"}, {**ROWS[5], "pruned": False}],
            },
            questions=("0", "5"),
            replies=REPLIES,
            numbers={"object_counting": 90.0, "object_rel_distance": 100.0, "overall": 95.0},
        )
        for part in ("debiased", "pruned")
    ),
]
