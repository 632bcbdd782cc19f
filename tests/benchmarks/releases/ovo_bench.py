from tests.benchmarks.releases import Fixture


def choice(number, task, gold, options=("red", "blue", "green", "(E) none"), realtime=12.5):
    return {
        "id": number,
        "task": task,
        "video": f"films/{number}.mp4",
        "realtime": realtime,
        "question": "Which colour is it?",
        "options": list(options),
        "answer": "",
        "gt": gold,
    }


ROWS = [
    choice(0, "EPM", 1),
    choice(1, "EPM", 0),
    choice(2, "HLD", 3),
    choice(3, "OCR", 0),
    choice(4, "OCR", 7),
    choice(5, "XYZ", 0),
    {
        "id": 6,
        "task": "REC",
        "video": "films/6.mp4",
        "activity": "jump",
        "test_info": [{"realtime": 3, "count": 1}, {"realtime": 5.5, "count": 2}, {"realtime": 9, "count": 12}],
    },
    {
        "id": 7,
        "task": "SSR",
        "video": "films/7.mp4",
        "test_info": [
            {"realtime": 3, "step": "cut the paper", "type": 0},
            {"realtime": 4, "step": "cut the paper", "type": 2},
        ],
    },
    {
        "id": 8,
        "task": "CRR",
        "video": "films/8.mp4",
        "question": "What does she do next?",
        "test_info": [{"realtime": 0, "type": 0}, {"realtime": 8, "type": 1}],
    },
]
REPLIES = {
    "0": "B",
    "1": "Answer: B",  # "A" is a letter of "Answer"
    "2": "",
    "3": "A",
    "6_0": "1",
    "6_1": "There were 2 jumps.",
    "6_2": "1 or 2",  # its digits make 12
    "7_0": "No",
    "8_1": "Yes",
}
#: EPM 1/2 and HLD 0; OCR 1; REC 2/3 and SSR 1; CRR 1 of the points that are asked.
NUMBERS = {"EPM": 50.0, "HLD": 0.0, "backward": 25.0, "OCR": 100.0, "realtime": 100.0, "REC": 200 / 3, "SSR": 100.0}


def published(number, task, mode, solution, kind="multiple choice", problem="Which?", options=()):
    return {
        "data_type": "video",
        "data_source": "OVO-Bench",
        "problem_type": kind,
        "problem": problem,
        "options": list(options),
        "path": f"{number}.mp4",
        "solution": f"<answer>{solution}</answer>",
        "problem_id": f"ovo_{number}",
        "ovo_task": task,
        "ovo_category": mode,
    }


FIXTURES = [
    Fixture(
        benchmark="ovo_bench",
        layout="whole",
        # The video is cut at the moment itself, and a moment at the start of the video shows none of it.
        files={"data/ovo_bench_new.json": ROWS, "src_videos.tar.partaa": []},
        questions=("0", "1", "2", "3", "6_0", "6_1", "6_2", "7_0", "8_1"),
        refused=(
            "7 is none of its 4 options",
            "'XYZ' is none of",
            "it has no column 2",
            "does not end after it starts",
        ),
        answers={"0": "B", "2": "D", "6_2": "12", "7_0": "No", "8_1": "Yes"},
        replies=REPLIES,
        numbers={**NUMBERS, "CRR": 100.0, "forward": 100 * (2 / 3 + 1 + 1) / 3, "total": (25 + 100 + 800 / 9) / 3},
    ),
    Fixture(
        benchmark="ovo_bench",
        layout="cut",
        files={"ovo_bench_new.json": ROWS},
        questions=("0", "1", "2", "3", "6_0", "6_1", "6_2", "7_0", "8_0", "8_1"),
        refused=("7 is none of its 4 options", "'XYZ' is none of", "it has no column 2"),
        replies=REPLIES,
        # The point 8_0 has no answer: it counts 0, and CRR is 1/2.
        numbers={**NUMBERS, "CRR": 50.0, "forward": 100 * (2 / 3 + 1 + 1 / 2) / 3},
    ),
    Fixture(
        benchmark="ovo_bench",
        layout="published",
        files={
            "ovobench.json": [
                published("1", "EPM", "backward", "B", options=["A: red", "B: (E) none"]),
                published("2", "OCR", "realtime", "C", options=["A: red", "B: blue"]),
                published("3_0", "CRR", "forward", "Yes", "CRR", "What is next?"),
                published("4_1", "REC", "forward", "2", "REC", "How many times did they jump?"),
            ]
        },
        questions=("ovo_1", "ovo_3_0", "ovo_4_1"),
        refused=("its answer 'C' is none of its 2 options",),
        replies={"ovo_1": "B", "ovo_3_0": "No, not yet", "ovo_4_1": "2"},
        numbers={"EPM": 100.0, "CRR": 0.0, "REC": 100.0, "forward": 50.0, "total": 75.0},
        published=("ovobench.json",),
    ),
]
