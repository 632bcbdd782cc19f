from tests.benchmarks.releases import Fixture, verdict

SIX = ("one", "two", "three", "four", "five", "six")


def row(video, kind, answer, candidates=None, **more):
    columns = {"video": video, "duration": 300.0, "question": "What is it?", "answer": answer, "question_type": kind}
    return columns | ({} if candidates is None else {"candidates": list(candidates)}) | more


def hub(video, kind, answer, options):
    listed = "".join(f"\n({letter}) {option}" for letter, option in zip("ABCDEF", options, strict=False))
    return {"video_name": video, "question": f"What is it?{listed}", "answer": answer, "task_type": kind}


def published(number, answer, options):
    more = {"problem_id": number, "problem": "What is it?", "problem_type": "multiple choice", "data_type": "video"}
    return more | {"options": options, "solution": f"<answer>{answer}</answer>", "path": f"./video/count_{number}.mp4"}


LETTERED = [f"{letter}. {option}" for letter, option in zip("ABCDEF", SIX, strict=True)]
DEV = {
    "MLVU/json/1_plotQA.json": [
        row("a.mp4", "plotQA", "two", SIX[:4]),
        row("b.mp4", "plotQA", "two", SIX[:4]),
        row("c.mp4", "plotQA", "two", SIX[:4]),
    ],
    "MLVU/json/2_needle.json": [
        row("d.mp4", "findNeedle", "seven", SIX[:4]),
        row("e.mp4", "findNeedle", "four", ("one", "four", "four", "two")),
        row("e.mp4", "findNeedle", "one", ("one", "four", "four", "two")),
    ],
    "MLVU/json/8_sub_scene.json": [row("f.mp4", "subPlot", "He opens the door.", scoring_points=["opens", "the door"])],
}
TEST = [
    row("g.mp4", "sportsQA", "six", SIX, question_id="SQA_0"),
    row("h.mp4", "sportsQA", "five", SIX, question_id="SQA_1"),
    row("i.mp4", "count", "one", SIX, question_id="AC_0"),
    row("j.mp4", "count", "one", (*SIX[:5], ""), question_id="AC_1"),
]
OPEN = {
    "json/8_sub_scene.json": [
        row("a.mp4", "subPlot", "He opens the door.", scoring_points=["he opens it", "it is a door"]),
        row("b.mp4", "subPlot", "He shuts the door.", scoring_points="he shuts it"),
        row("c.mp4", "subPlot", "He shuts the door.", scoring_points=[]),
        row("c.mp4", "subPlot", "He shuts the door."),
    ],
    "json/9_summary.json": [row("d.mp4", "summary", "A man walks home."), row("d.mp4", "summary", " ")],
    "json/1_plotQA.json": [row("a.mp4", "plotQA", "two", SIX[:4])],
}


def judge(system, user):
    if '"points"' in system:
        assert "- he opens it" in user
        return verdict(system, points=3.5, relevance=4)
    return verdict(system, completeness=5, reliability=2)


FIXTURES = [
    Fixture(
        benchmark="mlvu_dev",
        layout="authors",
        files=DEV,
        questions=("1_plotQA-1", "1_plotQA-2", "1_plotQA-3", "2_needle-2", "2_needle-3"),
        refused=("its answer 'seven' is none of its 4 options",),
        answers={"2_needle-2": "B", "2_needle-3": "A"},
        replies={"1_plotQA-1": "B", "1_plotQA-2": "", "2_needle-2": "(B) four", "2_needle-3": "A"},
        numbers={"M-Avg": (100 / 3 + 100) / 2, "accuracy": 60.0},
    ),
    Fixture(
        benchmark="mlvu_dev",
        layout="hub",
        files={"test-00000-of-00001.parquet": [hub("a.mp4", "plotQA", "D", SIX[:4]), hub("b.mp4", "AC", "E", SIX[:4])]},
        questions=("plotQA-1",),
        refused=("its answer 'E' is none of its 4 options",),
        replies={"plotQA-1": "D"},
        numbers={"M-Avg": 100.0},
    ),
    Fixture(
        benchmark="mlvu_dev",
        layout="published",
        files={"mlvu-dev.json": [published(1, "D", LETTERED[:4]), published(2, "E", LETTERED[:4])]},
        questions=("1",),
        refused=("its answer 'E' is none of its 4 options",),
        replies={"1": "A Dog"},
        numbers={"accuracy": 0.0, "M-Avg": None},
        published=("mlvu-dev.json",),
    ),
    Fixture(
        benchmark="mlvu_test",
        layout="authors",
        files={"test-ground-truth/test_mcq_gt.json": TEST},
        questions=("SQA_0", "SQA_1", "AC_0"),
        refused=("its option 6 is blank",),
        answers={"SQA_0": "F", "SQA_1": "E"},
        # Options E and F count.
        replies={"SQA_0": "F", "SQA_1": "E) five", "AC_0": "B"},
        numbers={"M-Avg": 50.0, "accuracy": 200 / 3},
    ),
    Fixture(
        benchmark="mlvu_test",
        layout="hub",
        files={"data/test-00000-of-00001.parquet": [hub("a.mp4", "sportsQA", "F", SIX)]},
        questions=("sportsQA-1",),
        replies={"sportsQA-1": "Best option: (F)"},
        numbers={"M-Avg": 100.0},
    ),
    Fixture(
        benchmark="mlvu_test",
        layout="published",
        files={"mlvu-test.json": [published(46, "F", LETTERED)]},
        questions=("46",),
        replies={"46": "F"},
        numbers={"accuracy": 100.0, "M-Avg": None},
        published=("mlvu-test.json", "mlvu.json"),
    ),
    Fixture(
        benchmark="mlvu_open",
        layout="authors",
        files=OPEN,
        questions=("8_sub_scene-1", "8_sub_scene-2", "9_summary-1"),
        refused=("it has no scoring points", "it has no column 'scoring_points'", "its answer is blank"),
        answers={"8_sub_scene-1": "- he opens it\n- it is a door", "8_sub_scene-2": "- he shuts it"},
        # 3.5 + 4 and, for the empty answer, 1 + 1 without a verdict; 5 + 2.
        replies={"8_sub_scene-1": "Somebody opens something.", "8_sub_scene-2": "", "9_summary-1": "A man walks home."},
        judge=judge,
        numbers={"G-Avg": (4.75 + 7) / 2, "sub_scene": 4.75, "summary": 7.0},
    ),
]
