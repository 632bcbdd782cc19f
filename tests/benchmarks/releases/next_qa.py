from tests.benchmarks.releases import Fixture


def row(video, qid, type_, answer, options=("one", "two", "three", "four", "five")):
    row = {"video": video, "frame_count": 900, "width": 640, "height": 480}
    row |= {"question": "why did the boy run", "answer": answer, "qid": qid, "type": type_}
    return row | {f"a{at}": text for at, text in enumerate(options)}


ROWS = [
    row(4010069381, 6, "CW", 0),
    row(4010069381, 7, "CH", 4),
    row(
        4010069381, 8, "TN", 2, ("dog", "cat", "bird", "cow", "bird")
    ),  # as 8 test rows do, it repeats its right option
    row(555, 0, "DL", 3),
    row(555, 1, "DL", 5),
    row(555, 2, "XX", 1),
    row(555, 3, "TP", 1, ("run", "sit", "run", "jump", "lie")),
]
REFUSED = ("its answer", "'XX' is none of CW")
QUESTIONS = ("4010069381:6", "4010069381:7", "4010069381:8", "555:0", "555:3")
#: The fifth option counts; a letter somewhere in a reply is no answer; the repeated option is right once.
REPLIES = {
    "4010069381:6": "A boy ran, so B.",
    "4010069381:7": "E",
    "4010069381:8": "C",
    "555:0": "D. four",
    "555:3": "",
}
NUMBERS = {"accuracy": 60.0, "causal": 50.0, "temporal": 50.0, "descriptive": 100.0}

FIXTURES = [
    Fixture(
        benchmark="next_qa",
        layout="authors",
        files={
            "dataset/nextqa/test.csv": ROWS,
            "dataset/nextqa/map_vid_vidorID.json": {"4010069381": "1164/4010069381"},
        },
        questions=QUESTIONS,
        refused=REFUSED,
        answers={"4010069381:7": "E", "4010069381:8": "C"},
        parts={"4010069381:6": {"video": "1164/4010069381.mp4"}, "555:0": {"video": "555.mp4"}},
        replies=REPLIES,
        numbers=NUMBERS,
    ),
    Fixture(
        benchmark="next_qa",
        layout="hub",
        files={"MC/test-00000-of-00001.parquet": ROWS},
        questions=QUESTIONS,
        refused=REFUSED,
        parts={"4010069381:6": {"video": "4010069381.mp4"}},
        replies=REPLIES,
        numbers=NUMBERS,
    ),
]
