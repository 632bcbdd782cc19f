from tests.benchmarks.releases import Fixture


def row(qid, *windows, duration=150):
    row = {"qid": qid, "query": "A girl cooks.", "duration": duration, "vid": "NUsG9BgSes0_210.0_360.0"}
    return row | {"relevant_clip_ids": [0], "saliency_scores": [[1, 1, 2]], "relevant_windows": list(windows)}


FIXTURES = [
    Fixture(
        benchmark="qvhighlights",
        layout="authors",
        files={
            "data/highlight_val_release.jsonl": [
                row(1, [0, 10], [50, 100]),
                row(2, [0, 20]),
                row(3, [0, 100]),
                row(4),
                row(5, [10, 8]),
                row(6, [200, 210]),
                row(7, [0, 100]),
            ],
            "data/highlight_test_with_gt.jsonl": [row(8, [0, 10])],
        },
        questions=("1", "2", "3", "7"),
        refused=("are not a list of 1 to 64 windows", "does not end after it starts", "outside the video of 150 s"),
        answers={"1": '{"time": [[0.0, 10.0], [50.0, 100.0]]}'},
        parts={"1": {"video": "NUsG9BgSes0_210.0_360.0.mp4"}},
        replies={
            # The first window meets the second gold one with IoU 40/50, the second misses, the third is the first one.
            "1": '<answer>{"time": [[50, 90], [120, 130], [0, 10]]}</answer>',
            "2": "The girl cooks from 0 to 16 seconds.",  # IoU 0.8
            "3": "I saw nothing.",
        },
        # AP of 1: up to 0.8 both count, (1 + 2/3) / 2; above, only the third window: 1/3 / 2. 7 of 10 thresholds are up
        # to 0.8. AP of 2: 7 of 10. A reply without a window and a failure have 0.
        numbers={
            "R1 IoU 0.5": 50.0,
            "R1 IoU 0.7": 50.0,
            "mAP": 25 * (0.7 * 5 / 6 + 0.3 / 6 + 0.7),
            "mAP 0.5": 25 * (5 / 6 + 1),
            "mAP 0.75": 25 * (5 / 6 + 1),
            "mAP short": 100 / 3,
            "mAP middle": 70.0,
            "mAP long": 70 / 3,
        },
    ),
    Fixture(
        benchmark="qvhighlights_test",
        layout="authors",
        files={"highlight_test_with_gt.jsonl": [row(8, [0, 10])]},
        questions=("8",),
        replies={"8": '{"time": [[0, 5]]}'},
        numbers={"R1 IoU 0.5": 100.0, "R1 IoU 0.7": 0.0, "mAP": 10.0},
    ),
]
