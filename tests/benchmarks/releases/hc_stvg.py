from tests.benchmarks.releases import Fixture


def row(boxes, st_frame=21, version=2, **changes):
    """A video of 10 frames per second, whose person stands at x 0 to 10 and y 0 to 20 (x, y, width, height)."""
    row = {"bbox": boxes, "st_time": (st_frame - 1) / 10, "ed_time": (st_frame - 2 + len(boxes)) / 10, "img_num": 200}
    row |= {"st_frame": st_frame}
    if version == 2:
        return row | {"English": "The man turns.", "img_size": [360, 640]} | changes
    return row | {"caption": "The man turns.", "width": 640, "height": 360} | changes


STILL = [[0, 0, 10, 20]] * 21
ASKED = '{"time": [2.0, 4.0], "boxes": {"2": [0, 0, 10, 20], "3": [0, 0, 10, 20], "4": [0, 0, 10, 20]}}'

FIXTURES = [
    Fixture(
        benchmark="hc_stvg",
        layout="authors",
        files={
            "anno_v2/valv2.json": {
                "a.mp4": row(STILL),
                "b.mp4": row(STILL),
                "c.mkv": row(STILL),
                "d.mp4": row([[0, 0, 10, 0]] * 3),
                "e.mp4": row(STILL, st_frame=0),
                "f.mp4": row(STILL, img_size=None),
                "g.mp4": row(STILL, st_frame=401),
                "h.mp4": row(STILL),
            }
        },
        questions=("a.mp4", "b.mp4", "c.mkv", "h.mp4"),
        refused=("has no area", "are no tube", "a column is not as expected", "starts at 40 s"),
        answers={
            "a.mp4": '{"time": [2.0, 4.0], "boxes": {"2": [0.0, 0.0, 10.0, 20.0], "3": [0.0, 0.0, 10.0, 20.0], '
            '"4": [0.0, 0.0, 10.0, 20.0]}}'
        },
        replies={
            "a.mp4": ASKED,
            # Frames 31 to 61 against 21 to 41: 11 shared of 41, half of each box.
            "b.mp4": '{"time": [3.0, 6.0], "boxes": {"3": [0, 0, 5, 20]}}',
            # A span alone is half an answer.
            "c.mkv": '{"time": [2, 4]}',
        },
        numbers={
            "vIoU": 25 * (1 + 11 / 82),
            "vIoU > 0.3": 25.0,
            "vIoU > 0.5": 25.0,
            "tIoU": 25 * (1 + 11 / 41 + 1),
        },
    ),
    Fixture(
        benchmark="hc_stvg_v1",
        layout="authors",
        files={"test.json": {"a.mp4": row(STILL, version=1), "b.mp4": row(STILL, version=1, width="640")}},
        questions=("a.mp4",),
        refused=("is not a width and a height",),
        replies={"a.mp4": ASKED},
        numbers={"vIoU": 100.0, "tIoU": 100.0},
    ),
]
