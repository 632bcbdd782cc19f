from tests.benchmarks.releases import Fixture

FIXTURES = [
    Fixture(
        benchmark="charades_sta",
        layout="authors",
        files={
            "charades_sta_test.txt": [
                "AAAAA 0.0 10.0##a person opens a door.",
                "AAAAA 5.0 15.0##a person sits down.",
                "BBBBB 2.0 1.0##a person runs.",
                "no line",
            ]
        },
        questions=("AAAAA 0.0 10.0 a person opens a door.", "AAAAA 5.0 15.0 a person sits down."),
        refused=("does not end after it starts", "it is not 'video start end##sentence'"),
        replies={
            "AAAAA 0.0 10.0 a person opens a door.": "0.0 to 5.0 seconds",
            "AAAAA 5.0 15.0 a person sits down.": "I do not know.",
        },
        numbers={"mIoU": 25.0, "R@1 IoU 0.3": 50.0, "R@1 IoU 0.5": 50.0, "R@1 IoU 0.7": 0.0},
        published=("charades_sta.json",),
    ),
    Fixture(
        benchmark="charades_sta",
        layout="hub",
        files={
            "data/test-00000-of-00001.parquet": [
                {"video": "AAAAA.mp4", "caption": "a person opens a door.", "timestamp": [0.0, 10.0]}
            ]
        },
        questions=("AAAAA.mp4 [0.0, 10.0] a person opens a door.",),
        parts={
            "AAAAA.mp4 [0.0, 10.0] a person opens a door.": {
                "question": 'When does this happen in the video? "a person opens a door."'
            }
        },
        replies={},
        numbers={"mIoU": 0.0, "R@1 IoU 0.3": 0.0},
    ),
]
