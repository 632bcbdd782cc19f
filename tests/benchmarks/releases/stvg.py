from tests.benchmarks.releases import Fixture

BOX = [0, 0, 100, 100]


def published(number, time, boxes):
    return {
        "problem_id": number,
        "problem": "When does a child run, and where is it?",
        "problem_type": "spatial-temporal grounding",
        "options": [],
        "path": f"{number}.mp4",
        "solution": f'<answer>{{"time": {time}, "boxes": {boxes}}}</answer>'.replace("'", '"'),
    }


def official(name, fps, first=30, last=90, boxes=None):
    meta = {
        "width": 640,
        "height": 360,
        "split": [0, 150],
        "time_token": {"<s>": first, "<e>": last},
        "spatial_token": {"<bboxes>": boxes or {str(frame): [0, 0, 100, 100] for frame in range(30, 91)}},
    }
    if fps:
        meta["fps"] = fps
    said = [{"from": "human", "value": "<video>\nWhen does a child run?"}, {"from": "gpt", "value": "From <s> to <e>"}]
    return {"video_path": name, "meta": meta, "conversations": said}


def reply(time, boxes):
    return f'<answer>{{"time": {time}, "boxes": {boxes}}}</answer>'.replace("'", '"')


FIXTURES = [
    Fixture(
        benchmark="stvg",
        layout="official or published",
        files={
            "stvg.json": [
                published(1, [0, 4], {"1": BOX, "2": BOX}),
                published(2, [0, 4], {"1": BOX, "2": BOX}),
                published(3, [0, 4], {"1": BOX, "2": BOX}),
                published(4, [0.2, 0.8], {}),
                published(5, [4, 0], {"1": BOX}),
            ]
        },
        questions=("1", "2", "3", "4"),
        refused=('a "time" or a box is missing or malformed',),
        replies={
            # tIoU 1/2; shared seconds: 1 with box IoU 1/2; seconds of either: 1, 2, 3.
            "1": reply([0, 2], {"1": [0, 0, 100, 50], "3": BOX}),
            "2": "",
            "3": reply([0, 4], {"1": BOX, "2": BOX}),
            "4": reply([0.2, 0.8], {}),
        },
        # A row without a box in its reference has a span alone: sIoU and stIoU are over three rows, tIoU over four.
        numbers={
            "m_tIoU": 100 * (0.5 + 0 + 1 + 1) / 4,
            "m_sIoU": 100 * (0.5 + 0 + 1) / 3,
            "m_stIoU": 100 * (0.5 / 3 + 0 + 1) / 3,
            "tIoU@0.5": 75.0,
            "tIoU@0.7": 50.0,
            "sIoU@0.5": 100 * 2 / 3,
            "stIoU@0.3": 100 / 3,
        },
        published=("stvg.json",),
    ),
    Fixture(
        benchmark="stvg",
        layout="official or published",
        files={"stvg.json": [official("a.mp4", 30), official("b.mp4", None), official("c.mp4", 30, last=30)]},
        questions=("a.mp4 1",),
        refused=("None frames per second say no time", "is not a first and a last frame"),
        answers={
            "a.mp4 1": '{"time": [1.0, 3.0], "boxes": {"1": [0.0, 0.0, 100.0, 100.0], "2": [0.0, 0.0, 100.0, 100.0], '
            '"3": [0.0, 0.0, 100.0, 100.0]}}'
        },
        replies={"a.mp4 1": reply([1, 3], {"1": BOX, "2": BOX, "3": BOX, "4": BOX})},
        numbers={"m_tIoU": 100.0, "m_sIoU": 100.0, "m_stIoU": 75.0},
    ),
]
