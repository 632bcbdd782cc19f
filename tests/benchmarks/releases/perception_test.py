from tests.benchmarks.releases import Fixture


def asked(number, answer, area, options=("one", "two", "three")):
    row = {"id": number, "question": "What happens?", "options": list(options), "answer_id": answer}
    return row | {"area": area, "reasoning": "descriptive", "tag": ["motion"]}


def video(rate, *questions):
    return {"metadata": {"split": "valid", "frame_rate": rate, "num_frames": 900}, "mc_question": list(questions)}


def hub(name, question):
    row = {key: value for key, value in question.items() if key != "id"}
    return row | {"video_name": name, "question_id": str(question["id"]), "answer_id": str(question["answer_id"])}


FIXTURES = [
    Fixture(
        benchmark="perception_test",
        layout="authors",
        files={
            "mc_question_valid.json": {
                "video_1": video(30.0, asked(0, 2, "memory"), asked(1, 3, "memory"), asked(2, 0, "Physics")),
                "video_2": video(25.0, asked(0, 1, "abstraction"), asked(5, 0, "physics", ("yes", " ", "no"))),
                "video_3": video(None, asked(0, 1, "semantics")),
                "video_4": {"metadata": {"frame_rate": 30.0}},
            },
            "cut_frame_mapping_valid.json": {"video_1": 60, "video_2": -1, "video_3": 10},
        },
        questions=("video_1:0", "video_1:2", "video_2:0"),
        refused=(
            "its answer 3 is none of its 3 options",
            "its option 2 is blank",
            "cut at frame 10, and None frames per second",
            "it has no column 'mc_question'",
        ),
        answers={"video_1:0": "C"},
        # Cut so that frame 60, and all behind it, are not shown.
        parts={"video_1:0": {"video": "video_1.mp4", "end": 59.5 / 30}, "video_2:0": {"end": None}},
        replies={"video_1:0": "C", "video_1:2": "(A) one", "video_2:0": "A man, and B or C."},
        numbers={"accuracy": 200 / 3, "memory": 100.0, "physics": 100.0, "abstraction": 0.0},
    ),
    Fixture(
        benchmark="perception_test",
        layout="hub",
        files={
            "mc_question_val/validation-00000-of-00001.parquet": [
                hub("video_1", asked(0, 2, "memory")),
                hub("video_2", asked(0, 1, "semantics")),
            ],
            "cut_frame_mapping_valid.json": {"video_1": 60},
        },
        questions=("video_2:0",),
        refused=("its video is cut at frame 60",),
        replies={"video_2:0": "B"},
        numbers={"accuracy": 100.0, "semantics": 100.0},
    ),
]
