from tests.benchmarks.releases import Fixture, verdict


def asked(question, answer):
    return {"question": question, "answer": answer}


CHOICE = {
    "101": {
        "action": [
            asked("What is the man doing?\nA. running\nB. walking\nC. jumping", "B. walking"),
            asked("What does he do?\nA. runs\nB. jumps", "A. jumps"),
            asked("What does he do?\nA. runs\nB. runs", "A. runs"),
        ],
        "direction": [asked("Where to?\nA. left\nB. right\nC. left", "C. left")],
    },
    "101_reverse": {"direction": [asked("Where to?\nA. left\nB. right", "B. right")]},
}
YES_NO = {
    "101": {"action": [asked("Is the man walking?", "yes"), asked("Does he run?", "No"), asked("Is he?", "maybe")]}
}
MATCHING = {
    "101": {
        "action": [
            asked("Which fits?\nOption 1: He runs.\nOption 2: He walks.", "Option 2: He walks."),
            asked("Which fits?\nSentence A: He walks.\nSentence B: He runs.", "Sentence A: He walks."),
            asked("Which fits?\nCaption A: He walks.\nCaption B: He runs.", "Caption A: He runs."),
            asked("Which fits?\nHe walks.\nHe runs.", "He walks."),
        ]
    }
}
CAPTIONS = {
    "101": {"action": [asked("Describe it.\nInformation A: runs\nGenerated Caption:", "A. walking")]},
    "102": {"speed": [asked("Describe it.\nGenerated Caption:", "A. slow")]},
}
REFUSED = (
    "its answer 'Caption A: He runs.' is none of its captions",
    "its question does not list two captions",
    "its mc_answer is blank",
    "its answer 'A. jumps' is none of its options",
    "its options are all 'runs'",
    "its answer 'maybe' is neither yes nor no",
)


def hub(video, dim, question, answer, **more):
    return {"video_id": video, "dim": dim, **asked(question, answer), **more}


def judge(system, user):
    """Reads what the caption says of hats and cups, and compares letters."""
    if "Reply with the answer alone" in user:
        caption, question = user.split("Question:")
        assert "A. cup" in question
        return "B. hat" if "hat" in caption.lower() else "A. cup" if "cup" in caption.lower() else "None can be chosen."
    return verdict(system, correct='Answer to judge: "B. hat"' in user)


FIXTURES = [
    Fixture(
        benchmark="tempcompass",
        layout="authors",
        files={
            "questions/multi-choice.json": CHOICE,
            "questions/yes_no.json": YES_NO,
            "questions/caption_matching.json": MATCHING,
            "questions/captioning.json": CAPTIONS,
        },
        questions=(
            "caption_matching-101-action-1",
            "caption_matching-101-action-2",
            "captioning-101-action-1",
            "multi-choice-101-action-1",
            "multi-choice-101-direction-1",
            "multi-choice-101_reverse-direction-1",
            "yes_no-101-action-1",
            "yes_no-101-action-2",
        ),
        refused=REFUSED,
        # The letter C named a second copy of "left", which is gone.
        answers={
            "caption_matching-101-action-1": "B",
            "caption_matching-101-action-2": "A",
            "captioning-101-action-1": "walking",
            "multi-choice-101-direction-1": "A",
            "yes_no-101-action-2": "no",
        },
        # "not sure" begins with the letters of "no" and says neither.
        replies={
            "caption_matching-101-action-1": "He walks.",
            "caption_matching-101-action-2": "B",
            "captioning-101-action-1": "",
            "multi-choice-101-action-1": "B. walking",
            "multi-choice-101-direction-1": "left",
            "yes_no-101-action-1": "Yes, he is.",
            "yes_no-101-action-2": "not sure",
        },
        numbers={
            "without captions": 400 / 7,
            "multi-choice": 200 / 3,
            "yes_no": 50.0,
            "caption_matching": 50.0,
            "captioning": 0.0,
            "mean of kinds": (200 / 3 + 50 + 50 + 0) / 4,
        },
    ),
    Fixture(
        benchmark="tempcompass",
        layout="hub",
        files={
            "multi-choice/test-00000-of-00001.parquet": [hub("7", "order", "Which first?\nA. cup\nB. hat", "B. hat")],
            "yes_no/test-00000-of-00001.parquet": [hub("7", "order", "Is the cup first?", "no")],
            "caption_matching/test-00000-of-00001.parquet": [
                hub("7", "order", "Which?\nCaption A: hat, cup\nCaption B: cup, hat", "Caption A: hat, cup")
            ],
            "captioning/test-00000-of-00001.parquet": [
                hub("7", "order", "Caption:", "B. hat", mc_question="Which first?\nA. cup\nB. hat", mc_answer="B. hat")
                for _ in range(3)
            ],
            "other/test-00000-of-00001.parquet": [hub("7", "order", "Is the cup first?", "no")],
        },
        questions=(
            "caption_matching-7-order-1",
            *(f"captioning-7-order-{number}" for number in (1, 2, 3)),
            "multi-choice-7-order-1",
            "yes_no-7-order-1",
        ),
        refused=("its file 'other/test-00000-of-00001.parquet' is none of multi-choice",),
        answers={"captioning-7-order-1": "hat", "caption_matching-7-order-1": "A"},
        replies={
            "multi-choice-7-order-1": "B",
            "yes_no-7-order-1": "no",
            "captioning-7-order-1": "First there is a hat.",
            "captioning-7-order-2": "It begins with a cup.",
            "captioning-7-order-3": "Things are on a table.",
        },
        judge=judge,
        numbers={
            "without captions": 200 / 3,
            "multi-choice": 100.0,
            "yes_no": 100.0,
            "caption_matching": 0.0,
            "captioning": 100 / 3,
            "mean of kinds": (100 + 100 + 0 + 100 / 3) / 4,
        },
    ),
]
