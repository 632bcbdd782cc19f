from tests.benchmarks.releases import Fixture


def row(number, answer, progress=("opened the tap",), picture="now.png"):
    return {
        "sample_id": number,
        "question": "Which step comes next?",
        **{f"choice_{letter}": f"{letter.upper()} pan {number}" for letter in "abcd"},
        "golden_choice_idx": answer,
        "task_progress_metadata": list(progress),
        "video_source": "EpicKitchens",
        "video_basename": f"{number}.mp4" if progress else "",
        "current_observation_basename": picture,
    }


FIXTURES = [
    Fixture(
        benchmark="seed_bench_r1",
        layout="official",
        files={
            "annotations/validation_L1.jsonl": [row(1, "A"), row(2, "B", progress=()), row(3, "A", picture="")],
            "annotations/validation_L2.jsonl": [row(1, "C"), row(2, "E")],
            "annotations/validation_L3.jsonl": [row(1, "D") | {"video_basename": None}, row(2, "D")],
            "annotations/training_6k.jsonl": [row(9, "A")],
        },
        questions=("L1 1", "L1 2", "L2 1", "L3 2"),
        refused=(
            "its current_observation_basename is blank",
            "its answer 'E' is none of its 4 options",
            "its video_basename is blank",
        ),
        answers={"L1 2": "B", "L3 2": "D"},
        replies={"L1 1": "A", "L1 2": "Answer: C", "L2 1": "<answer>C</answer>", "L3 2": "A pan 2 is next"},
        numbers={"L1": 50.0, "L2": 100.0, "L3": 0.0},
    )
]
