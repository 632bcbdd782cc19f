from tests.benchmarks.releases import Fixture, verdict


def pair(question, answer):
    return {"question": question, "answer": answer}


ROWS = [
    {"index": 0, "video": "a.mp4", "discipline": "Math"}
    | {"question": str([pair("Which letter is on the board?", "X"), pair("What is 1 + 1?", "It's 2")])},
    {"index": 1, "video": "b.mp4", "discipline": "Math", "question": str([pair("Who speaks?", "a man")])},
    {"index": 2, "video": "c.mp4", "discipline": "physics", "question": str([pair("What falls?", "a ball")])},
    {"index": 3, "video": "d.mp4", "discipline": "Biology", "question": str([pair("What grows?", "a tree")])},
    {"index": 4, "video": "e.mp4", "discipline": "chemistry", "question": "[{"},
    {"index": 5, "video": "f.mp4", "discipline": "chemistry", "question": "[]"},
]


def judge(system, user):
    """Finds what the caption says; the letter X is only right as itself, and "a person" is half of "a man"."""
    if "Reply with the answer alone" in user:
        caption, question = user.split("Question:")
        known = {"letter": "x", "1 + 1": "2", "speaks": "a person", "falls": "a ball"}
        return next((said for word, said in known.items() if word in question and said in caption.lower()), "not said")
    answer = user.split("Answer to judge: ")[1].split("\n")[0]
    right, score = {'"x"': (False, 0), '"2"': (True, 5), '"a person"': (False, 2), '"a ball"': (True, 4)}[answer]
    return verdict(system, correct=right, score=score)


FIXTURES = [
    Fixture(
        benchmark="video_mmlu",
        layout="harness",
        files={"Video_MMLU_CAP.tsv": ROWS},
        questions=("a.mp4", "b.mp4", "c.mp4"),
        refused=("'Biology' is none of Math, Physics, Chemistry", "its questions are no list", "it has no questions"),
        answers={"b.mp4": "Who speaks? a man"},
        replies={
            "a.mp4": "The board shows x and 1 + 1 = 2.",
            "b.mp4": "It is a person.",
            "c.mp4": "A ball drops.",
        },
        judge=judge,
        # Math has one of three questions right, though the mean of its videos is 1/4; Physics one of one.
        numbers={
            "Math": 100 / 3,
            "Physics": 100.0,
            "overall": 200 / 3,
            "score of 5": ((0 + 5 + 2) / 3 + 4) / 2,
        },
    ),
    Fixture(
        benchmark="video_mmlu",
        layout="authors",
        files={
            "video_mmlu.jsonl": [
                {
                    "video_id": "a",
                    "discipline": "Math",
                    "captions_qa": [pair("1 + 1?", "2"), pair("Why?", "so")],
                },
                {"video_id": "b", "discipline": "Math", "captions_qa": [pair("What falls?", "a ball")]},
            ]
        },
        questions=("a", "b"),
        # A caption that failed, and one that says nothing, keep their questions in the denominator.
        replies={"b": ""},
        judge=judge,
        numbers={"Math": 0.0, "overall": 0.0, "score of 5": 0.0},
    ),
    Fixture(
        benchmark="video_mmlu",
        layout="published",
        files={
            "videommlu.json": [
                {"problem_id": "a", "problem": "", "solution": "A ball drops.", "path": "youtube_videos/a.mp4"},
                {"problem_id": "b", "problem": "", "solution": "", "path": "youtube_videos/b.mp4"},
            ]
        },
        questions=("a",),
        refused=("its solution is blank",),
        replies={},
        numbers={"reference caption": 0.0},
        published=("videommlu.json",),
    ),
]
