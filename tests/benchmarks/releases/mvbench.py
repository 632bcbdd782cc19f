from tests.benchmarks.releases import Fixture


def row(video, answer, candidates, **more):
    return {"video": video, "question": "What happens?", "candidates": list(candidates), "answer": answer, **more}


ANTONYM = [
    row("1.webm", "opening", ("closing", "opening", "not sure")),
    row("2.webm", "opening", ("opening", "closing", "opening")),
    row("3.webm", "opening", ("closing", "closing", "opening")),
    row("4.webm", "opening the door", ("opening", "closing")),
    row("5.webm", "opening", ()),
    row("6.webm", "opening", ("opening",)),
]
SEQUENCE = [
    row("a.mp4", "The bag.", ("The bag.", "The box."), start=3.5, end=9.25),
    row("b.mp4", "The bag.", ("The bag.", "The box."), start=9.25, end=3.5),
    row("c.mp4", "The box.", ("The bag.", "The box."), start=0.0, end=4.0),
    row("d.mp4", "The box.", ("The bag.", "The box.")),
]
EPISODIC = [row("friends_s01e01_seg02_clip_00", "A", ("C", "A", "B"), start=1.0, end=5.0)]
REFUSED = (
    "its answer 'opening the door' is none of its 2 options",
    "it has no options",
    "does not end after it starts",
    "it has no column 'start'",
)
MAIN = {
    "json/action_antonym.json": ANTONYM,
    "json/action_sequence.json": SEQUENCE,
    "json/episodic_reasoning.json": EPISODIC,
    "json/notes.json": [row("x.mp4", "a", ("a", "b"))],
}
ANTONYMS = ("action_antonym-1", "action_antonym-2", "action_antonym-3", "action_antonym-6")


def published(number, path, answer, options, **more):
    own = {"problem_id": number, "problem": "What happens?", "problem_type": "multiple choice", "data_type": "video"}
    return own | {"solution": f"<answer>{answer}</answer>", "path": path, "options": list(options), **more}


FIXTURES = [
    Fixture(
        benchmark="mvbench",
        layout="branch main",
        files=MAIN,
        questions=(*ANTONYMS, "action_sequence-1", "action_sequence-3", "episodic_reasoning-1"),
        refused=(*REFUSED, "'notes' is no task of MVBench"),
        # antonym-2: the right text stands twice and its second copy is gone; antonym-3: two wrong ones are the same.
        # episodic-1: options that are letters themselves are asked as "A. C", "B. A", "C. B".
        answers={"action_antonym-2": "A", "action_antonym-3": "C", "episodic_reasoning-1": "B"},
        # An empty reply and a bracket alone are wrong, and stay in the mean.
        replies={
            "action_antonym-1": "",
            "action_antonym-2": "(",
            "action_antonym-3": "(C) opening",
            "action_antonym-6": "A",
            "action_sequence-1": "A",
            "action_sequence-3": "The box.",
            "episodic_reasoning-1": "A",
        },
        numbers={"mean of tasks": (50 + 100 + 0) / 3, "accuracy": 400 / 7},
    ),
    Fixture(
        benchmark="mvbench",
        layout="branch video",
        files={
            "json/action_antonym.json": ANTONYM[:1],
            "json/action_sequence.json": SEQUENCE,
            "json/episodic_reasoning.json": EPISODIC,
            "video/star/Charades_segment/readme.txt": ["cut videos"],
        },
        questions=(
            "action_antonym-1",
            *(f"action_sequence-{number}" for number in (1, 2, 3, 4)),
            "episodic_reasoning-1",
        ),
        replies={"action_antonym-1": "B", "action_sequence-1": "B"},
        numbers={"mean of tasks": 100 / 3, "accuracy": 100 / 6},
    ),
    Fixture(
        benchmark="mvbench",
        layout="published",
        files={
            "mvbench.json": [
                published(8, "./ssv2_video/1.webm", "A", ("A. opening", "B. closing")),
                published(9, "./star/Charades_v1_480/a.mp4", "B", ("A. bag", "B. box"), start=1.5, end=4),
                published(10, "./star/Charades_v1_480/b.mp4", "B", ("A. bag", "B. box"), start=4, end=1.5),
                published(11, "./clevrer/c.mp4", "A", ("A. yes", "B. yes")),
            ]
        },
        questions=("8", "9"),
        refused=("does not end after it starts", "its options are all 'yes'"),
        replies={"8": "A", "9": "A box and a bag"},
        numbers={"accuracy": 50.0, "mean of tasks": None},
        published=("mvbench.json",),
    ),
]
