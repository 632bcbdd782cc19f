from tests.benchmarks.releases import Fixture


def published(number, options, answer):
    return {
        "problem_id": number,
        "problem_type": "multiple choice",
        "data_type": "video",
        "problem": "What is shown?",
        "path": "./a.mp4",
        "options": options,
        "solution": f"<answer>{answer}</answer>",
    }


FIXTURES = [
    Fixture(
        benchmark="longvideo_reason",
        layout="official",
        files={
            "test.jsonl": [
                {"problem": "Who?\nA. I\nB. you\nC. he\nD. she", "answer": "B", "videos": "longvila_videos/a.mp4"},
                {"problem": "Who?\nA. I\nB. you", "answer": "<answer>A</answer>", "videos": "longvila_videos/a.mp4"},
                {"problem": "Who is it?", "answer": "He", "videos": "longvila_videos/b.mp4"},
                {"problem": "Who?\nA. I\nB. you", "answer": "C", "videos": "longvila_videos/b.mp4"},
            ]
        },
        questions=("longvila_videos/a.mp4 1", "longvila_videos/a.mp4 2"),
        refused=("lists no options from A on", "its answer 'C' is none of its 2 options"),
        # Two questions of a video have answers of their own, and one that failed stays in the mean.
        replies={"longvila_videos/a.mp4 1": "<think>A</think> <answer>B</answer>"},
        numbers={"accuracy": 50.0},
        published=("longvideoreason.json",),
    ),
    Fixture(
        benchmark="longvideo_reason",
        layout="published",
        files={
            "longvideoreason.json": [
                published(1, ["B. ice", "A. fire", "C. air", "D. earth"], "B"),
                published(2, ["A. fire", "C. ", "B. ice", "C. air", "D. earth", "D. ."], "C"),
                published(3, ["A. fire", "B. ice", "C. ", "D. earth"], "C"),
                published(4, ["A. fire", "B. ice", "A. air", "D. earth"], "B"),
            ]
        },
        questions=("1", "2"),
        refused=("its option 3 is blank", "its options have the letters A, A, B, D"),
        answers={"1": "B", "2": "C"},
        replies={"1": "ice", "2": "<answer>air</answer>"},
        numbers={"accuracy": 100.0},
    ),
]
