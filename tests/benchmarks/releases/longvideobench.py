from tests.benchmarks.releases import Fixture

NAMED = {"duration_group": 15, "question_category": "S2E"}


def row(number, choice, candidates, **more):
    return {
        "id": f"v{number}_0",
        "video_path": f"v{number}.mp4",
        "question": "What colour is it when 'hello' is said?",
        "candidates": list(candidates),
        "correct_choice": choice,
        "duration": 12.5,
        "subtitle_path": f"v{number}_en.json",
        "starting_timestamp_for_subtitles": 30.0,
        **NAMED,
        **more,
    }


def padded(number, choice, *options):
    columns = row(number, choice, ())
    del columns["candidates"]
    return columns | {f"option{at}": option for at, option in enumerate(options)}


FIVE = ("red", "green", "blue", "black", "white")
ROWS = [
    row(1, 4, FIVE),
    row(2, 0, FIVE[:3], duration_group=3600, question_category="TOS"),
    row(3, 4, FIVE[:4]),
    row(4, 1, ("red", "green", "green", "blue"), duration_group=3600),
    row(5, -1, FIVE),
]
OWN = {
    "layout": "authors",
    "files": {"lvb_val.json": ROWS},
    "questions": ("v1_0", "v2_0", "v4_0"),
    "refused": ("its answer 4 is none of its 4 options", "its answer -1 is none of its 5 options"),
    "answers": {"v1_0": "E", "v4_0": "B"},
    # Option E counts; a reply without an answer is wrong, not a letter drawn by chance.
    "replies": {"v1_0": "E", "v2_0": "I cannot tell which Colour it is.", "v4_0": "green"},
    "numbers": {"accuracy": 200 / 3, "15 s": 100.0, "3600 s": 50.0},
}
HUB = {
    "layout": "hub",
    "files": {
        "validation-00000-of-00001.parquet": [
            padded(1, 3, "red", "green", "N/A", "blue", "N/A"),
            padded(2, 4, "red", "green", "blue", "N/A", "N/A"),
            padded(3, 0, "N/A", "N/A", "N/A", "N/A", "N/A"),
        ]
    },
    "questions": ("v1_0",),
    "refused": ("its answer 4 is none of its 3 options", "it has no options"),
    # "N/A" before another option is an option, so that letters stay where they are.
    "answers": {"v1_0": "D"},
    "replies": {"v1_0": "blue"},
    "numbers": {"accuracy": 100.0, "15 s": 100.0},
}
PUBLISHED = {
    "layout": "published",
    "files": {
        "longvideobench.json": [
            {
                "problem_id": 1162,
                "problem": "What is worn?",
                "problem_type": "multiple choice",
                "options": ["A. tank top", "B. T-shirt", "C. shirt", "D. jacket", "E. sweater"],
                "solution": "<answer>E</answer>",
                "path": "./videos/v1.mp4",
                "data_type": "video",
            }
        ]
    },
    "questions": ("1162",),
    "replies": {"1162": "E"},
    "numbers": {"accuracy": 100.0},
    "published": ("longvideobench.json",),
}
FIXTURES = [
    *(Fixture(benchmark="longvideobench", **layout) for layout in (OWN, HUB, PUBLISHED)),
    *(Fixture(benchmark="longvideobench_subtitles", **layout) for layout in (OWN, HUB)),
]
