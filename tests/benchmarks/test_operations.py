"""Operations of puzzles are read in the form that is asked for and played by the rules of the games."""

import pytest

from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.operations import operations, puzzle_of, reaches, scoring
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.types import Completion, Sample

SLIDE = {"game": "hrd", "start": [[1, 2, 3], [4, 0, 5], [6, 7, 8]], "goal": [[1, 2, 3], [4, 5, 0], [6, 7, 8]]}
FLIP = {
    "game": "grid",
    "start": [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    "circle": [0, 0],
    "goal": [[1, 1, 1], [0, 1, 0], [0, 0, 0]],
}
SWAP = {"game": "cup", "start": [[1, 0], [0, 0]], "goal": [[0, 0], [0, 1]]}
CHIPS = {"game": "chip", "start": {"cup0": [5, 5], "cup1": [10]}, "place": "cup0", "goal": ["5", "20"]}
CARDS = {
    "game": "card",
    "start": {"pile0": ["Ace of Hearts", "2 of Clubs"]},
    "place": "pile0",
    "goal": ["2 of Clubs", "10 of Spades"],
}
FILES = {"game": "file_sys", "start": {"path0": ["a.txt", "b.py"]}, "place": "path0", "goal": ["b.py", "c.md"]}


@pytest.mark.parametrize(
    ("puzzle", "answer", "right"),
    [
        (SLIDE, "left", True),  # 5 goes left, the gap right
        (SLIDE, "Up, down, then LEFT", True),  # the gap goes up and comes back
        (SLIDE, "left, left", True),  # nothing is beyond the edge
        (SLIDE, "right", False),
        (SLIDE, "Final Answer: 1. left", True),
        (SLIDE, "not right but left", False),
        (SLIDE, "", False),
        (FLIP, "right", True),
        (FLIP, "left, up, right", True),
        (FLIP, "right, right", False),
        (SWAP, "(a1, b2)", True),
        (SWAP, "1st: (A1, A2), 2nd: (a2, b2)", True),
        (SWAP, "(a1, e5), (a1, b2)", True),
        (SWAP, "(b2, a1), (a1, a2)", True),
        (SWAP, "(a1, a2)", False),
        (SWAP, "(a1, b2) or (a1, a2)", False),
        (CHIPS, "remove 5 from cup0, add 20 to cup0", True),
        (CHIPS, "`add 20 to cup0`, `remove 5 cup0`", True),
        (CHIPS, "remove 10 from cup0, remove 5 from cup0, add 20 to cup0, add 10 to cup0", False),
        (CHIPS, "add 15 to cup0", False),
        (CHIPS, "add 20 to cup2", False),
        (CARDS, "remove Ace of Hearts from pile0, add 10 of Spades to pile0", True),
        (CARDS, "remove 2 of Clubs from pile0, add 10 of Spades to pile0", False),
        (CARDS, "remove Ace of Hearts from pile0, add 11 of Spades to pile0", False),
        (FILES, "touch path0/{c.md} & rm -rf path0/{a.txt}", True),
        (FILES, "rm -rf path0/{a.txt} & touch path0/{c.md} & touch path0/{c.md}", False),
        (FILES, "touch path0/{c.md,a.txt} & rm -rf path0/{a.txt}", False),
        (FILES, "mv path0/{a.txt} path0/{c.md}", False),
    ],
)
def test_what_an_answer_leads_to(puzzle, answer, right):
    moves = operations(puzzle["game"], answer)
    assert (moves is not None and reaches(puzzle, moves)) is right


def test_puzzles_begin_where_the_video_does_not_look():
    row = {
        "visible_time": "end",
        "question": "What gives the desired number arrangement: `(a,1): 1, (a,2): 2, (b,1): 0, (b,2): 3`?",
        "states": [[[3, 0], [1, 2]], [[0, 3], [1, 2]]],
    }
    assert puzzle_of(row, "hrd") == {"game": "hrd", "start": [[3, 0], [1, 2]], "goal": [[0, 3], [1, 2]]}
    assert puzzle_of({**row, "visible_time": "start"}, "hrd")["start"] == [[0, 3], [1, 2]]
    files = {"path0": {"init": ["a"], "touch path0/{b}": ["a", "b"]}}
    asked = "to ensure that `path0` contains exactly the following files: `a, c`, what?"
    made = puzzle_of({"visible_time": "start", "question": asked, "states": files}, "file_sys")
    assert (made["start"], made["place"], made["goal"]) == ({"path0": ["a", "b"]}, "path0", ["a", "c"])
    with pytest.raises(QuestionError, match="states no goal"):
        puzzle_of({**row, "question": "What?"}, "hrd")


def test_only_an_answer_is_played():
    score = scoring(RewardConfig())
    sample = Sample("1", "What?", "open_ended", "any operations that lead to: x", (), (), "s", extra={"puzzle": SLIDE})
    played = score(sample, Completion("<think>right</think><answer>left</answer>", "stop"))
    assert (played.accuracy, played.applicable, played.found) == (1.0, True, "tag")
    for reply in ("<answer>any operations that lead to: x</answer>", "<answer></answer>", "", "<answer>left"):
        assert score(sample, Completion(reply, "length")).accuracy == 0.0
    strict = scoring(RewardConfig(require_tag=True))
    assert strict(sample, Completion("left", "stop")).accuracy == 0.0
    other = Sample("2", "What?", "open_ended", "left", (), (), "s")
    assert score(other, Completion("<answer>Left.</answer>", "stop")).accuracy == 1.0
