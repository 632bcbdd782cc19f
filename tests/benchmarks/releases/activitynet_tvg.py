from tests.benchmarks.releases import Fixture

FIXTURES = [
    Fixture(
        benchmark="activitynet_tvg",
        layout="timelens",
        files={
            "activitynet-timelens.json": {
                "v_a": {
                    "duration": 60.0,
                    "spans": [[0.0, 10.0], [20.0, 30.0], [40.0, 35.0]],
                    "queries": ["A man  runs. ", "He sits.", "He goes."],
                },
                "v_b": {"duration": 9.0, "spans": [[1.0, 2.0]], "queries": ["He runs.", "He sits."]},
                "v_c": {"duration": 30.0, "spans": [[1.0, 2.0]], "queries": ["The end."]},
            }
        },
        questions=("v_a:0", "v_a:1", "v_c:0"),
        refused=("does not end after it starts", "it has 2 queries and 1 spans"),
        parts={"v_a:0": {"video": "v_a.mp4", "question": 'When does this happen in the video? "A man runs"'}},
        # The whole span of two; words without a span; a failure. All stay in the denominator.
        replies={"v_a:0": "The event happens in 5.0 - 10.0 seconds", "v_a:1": "At no time."},
        numbers={"mIoU": 50 / 3, "R@1 IoU 0.3": 100 / 3, "R@1 IoU 0.5": 100 / 3, "R@1 IoU 0.7": 0.0},
    ),
    Fixture(
        benchmark="activitynet_tvg",
        layout="hub",
        files={
            "data/activitynet-00000-of-00001.parquet": [
                {"video_path": "activitynet/v_a.mp4", "query": "A man runs", "span": [[0.0, 10.0]]},
                {"video_path": "activitynet/v_b.mp4", "query": "A man runs", "span": []},
            ]
        },
        questions=("activitynet/v_a.mp4 A man runs [[0.0, 10.0]]",),
        refused=("a column is not as expected",),
        replies={"activitynet/v_a.mp4 A man runs [[0.0, 10.0]]": '{"time": [0, 10]}'},
        numbers={"mIoU": 100.0, "R@1 IoU 0.7": 100.0},
    ),
    Fixture(
        benchmark="activitynet_captions",
        layout="plain",
        files={
            "val_2.json": {
                "v_a": {
                    "duration": 60.0,
                    "timestamps": [[0.0, 10.0], [5, 5]],
                    "sentences": [" He runs.", "He sits."],
                },
                "v_b": {"duration": 60.0, "sentences": ["He sits."]},
            }
        },
        questions=("v_a:0",),
        refused=("does not end after it starts", "it has no column 'timestamps'"),
        answers={"v_a:0": '{"time": [0.0, 10.0]}'},
        replies={"v_a:0": "from 0:00 to 0:05"},
        numbers={"mIoU": 50.0, "R@1 IoU 0.5": 100.0},
    ),
]
