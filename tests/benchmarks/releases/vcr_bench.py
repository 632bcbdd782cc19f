import json
import re

from tests.benchmarks.releases import Fixture, verdict

BLANK = dict.fromkeys("ABCD", "")
VERDICTS = {"ok": "matched", "bad": "wrong", "void": "redundant"}


def judge(system, user):
    """A judge of steps such as "video a": a response has this one if it says "saw a". The response's own steps are
    "video ok", "logic bad", "logic void"."""
    if '"steps"' not in system:
        return verdict(system, score=9)
    texts = {name: json.loads(text) for name, text in re.findall('^([A-Z][a-z ]+): (".*")$', user, re.MULTILINE)}
    said = texts["Response to judge"]
    if "matched|missing" in system:
        steps = [line.split() for line in texts["Reference steps"].splitlines()]
        found = [(kind, "matched" if f"saw {name}" in said else "missing") for kind, name in steps]
    else:
        steps = re.findall("(video|logic|background) (ok|bad|void)", said) or [("background", "void")]
        found = [(kind, VERDICTS[word]) for kind, word in steps]
    made = [{"step": "?", "kind": kind, "verdict": each} for kind, each in found]
    return json.dumps({"id": re.search('"id": "(\\w{8})"', system)[1], "steps": made})


def row(number, seconds, answer, choices=None, **other):
    return {
        "id": number,
        "video_path": "video/COIN/a.mp4",
        "duration": seconds,
        "dimension": "Fundamental Temporal Reasoning",
        "question": "What happens?",
        "multiple-choice": choices is not None,
        "choices": choices or BLANK,
        "answer": answer,
        "reasoning": ["video a"],
        **other,
    }


FIXTURES = [
    Fixture(
        benchmark="vcr_bench",
        layout="official",
        files={
            "v1/videos/meta_info_video.json": [
                row(
                    0,
                    60,
                    "C",
                    {"A": "one", "B": "two", "C": "three", "D": ""},
                    reasoning=["video a", "video b", "logic c"],
                ),
                row(
                    1,
                    61,
                    "E",
                    {"A": "one", "B": "two", "C": "three", "D": "four", "E": "five"},
                    reasoning=["logic c"],
                ),
                row(2, 300, "Kitchen"),
                row(3, 301, "[0, 38]"),
                row(4, 10, "In the belly of the fish"),
                row(5, 10, "D", {"A": "one", "B": "two", "C": "three", "D": ""}),
                row(6, 10, "C", {"A": "one", "B": "", "C": "three", "D": ""}),
                row(7, 10, "C", **{"multiple-choice": True}),
                row(8, 10, "  "),
                row(9, 10, "[0, 0, 100, 100]"),
                row(10, 10, "Up"),
                row(11, 10, "[9, 9]"),
                row(12, 10, "[1, 2, 3]"),
            ]
        },
        questions=("0", "1", "2", "3", "4", "9", "10"),
        refused=(
            "its answer 'D' is none of its 3 options",
            "its option 2 is blank",
            "it has no options",
            "its answer is blank",
            "its answer '[9, 9]' has no extent",
            "its answer '[1, 2, 3]' is neither a span nor a box",
        ),
        # A text that is only near the reference has not the best grade; it is 0 and stays in the mean. The span has an
        # IoU of 30/38, which is over 0.7; the box one of 0.5, which is not over 0.5. There is no reply to 10.
        replies={
            "0": "<think>I saw a. logic ok. video ok. video bad. background void</think><answer>C</answer>",
            "1": "<think>I saw c. logic void</think><answer>E. five</answer>",
            "2": "<answer>kitchen.</answer>",
            "3": "<answer>[0, 30]</answer>",
            "4": "<answer>In the belly of a fish</answer>",
            "9": "<answer>[0, 0, 100, 50]</answer>",
        },
        # Recall: 1/3, 1, and 0 of the five others. Precision: 2/3, and 0 of the failed one; the others have no step.
        numbers={
            "overall": 400 / 7,
            "multiple_choice": 100.0,
            "open_ended": 200 / 5,
            "0-60 s": 100 / 4,
            "60-300 s": 100.0,
            "over 300 s": 100.0,
            "step recall": 400 / 21,
            "step precision": 100 / 3,
            "step F1": 800 / 33,
            "video step recall": 100 / 12,
            "video step precision": 100 / 4,
            "video step F1": 100 / 8,
            "logic step recall": 100 / 3,
            "logic step precision": 100 / 2,
            "logic step F1": 40.0,
        },
        judge=judge,
        published=("vcrbench.json",),
    ),
    Fixture(
        benchmark="vcr_bench",
        layout="without a judge",
        files={"meta_info_video.json": [row(0, 9, "A", {"A": "one", "B": "two"}), row(1, 9, "On a shelf, at the top")]},
        questions=("0", "1"),
        replies={"0": "<answer>A</answer>", "1": "<answer>on the shelf</answer>"},
        numbers={"overall": None, "multiple_choice": 100.0, "open_ended": None, "step recall": None, "step F1": None},
    ),
]
