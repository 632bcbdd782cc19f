"""Questions of VideoReasonBench for operations: any sequence that leads from a state to a goal is right.

The answer is read in the form that the question asks for and played. The rules, and what an impossible operation does,
are those of ``utils/eval_utils.py`` of llyx97/video_reason_bench. There a language model reads the operations; here an
answer with other words than operations states none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.release import Raw
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.score import counted_answer, read_settings, score_response, scored
from easyvideor1.rewards.types import Verdict
from easyvideor1.types import Completion, Sample, Score

#: The column of a row that holds its puzzle: ``game``, ``start``, ``goal`` and further keys of the game.
PUZZLE = "puzzle"

Board = list[list[int]]
Puzzle = Mapping[str, Any]

_STATED = re.compile(r"(?:desired [a-z ]+|contains exactly the following [a-z ]+):\s*`([^`]+)`")
_PLACE = re.compile(r"ensure that\s*`([^`]+)`\s*contains exactly")
_CELL = re.compile(r"\(([a-e]),\s*(\d)\):\s*(\w+)")
_DIRECTION = re.compile(r"\b(left|right|up|down)\b", re.IGNORECASE)
_SWAP = re.compile(r"\b([a-e][1-5])\s*(?:,|-|<->|<=>|\u2194|\bwith\b|\band\b)\s*([a-e][1-5])\b", re.IGNORECASE)
_CHIP = re.compile(r"\b(add|remove)\s+(\d+)\s+(?:to\s+|from\s+)?(cup\d+)\b", re.IGNORECASE)
_CARD = re.compile(
    r"\b(add|remove)\s+((?:ace|[2-9]|10|jack|queen|king) of (?:hearts|clubs|diamonds|spades))\s+(?:to\s+|from\s+)?"
    r"(pile\d+)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\b(touch|rm -rf)\s+(path\d+)/\{([^{}]*)\}")
#: What may stand around operations: marks, numbers of steps, and words that join them.
_BESIDE = re.compile(
    r"(?:[\W\d_]|\b(?:final|answer|is|the|sequence|of|moves?|swaps?|actions?|commands?|operations?|steps?|then|and|bash)\b"
    r"|(?<=\d)(?:st|nd|rd|th)\b)*",
    re.IGNORECASE,
)
_OPERATIONS = {"hrd": _DIRECTION, "grid": _DIRECTION, "cup": _SWAP, "chip": _CHIP, "card": _CARD, "file_sys": _COMMAND}
_CHIPS = (5, 10, 20, 50, 100)


def puzzle_of(row: Raw, game: str) -> dict[str, Any]:
    """The puzzle of a row of ``questions/GAME.json``: from its first state if the video shows the last, else from the
    last.

    Raises:
        QuestionError: the game is unknown, or the question states no goal.
    """
    at = 0 if row["visible_time"] == "end" else -1
    stated, place = _STATED.search(row["question"]), _PLACE.search(row["question"])
    if game not in _OPERATIONS or stated is None or (place is None and game in ("chip", "card", "file_sys")):
        raise QuestionError("its question states no goal in the form of its game")
    states, goal = row["states"], stated[1]
    if place is not None:
        start = {name: list(_all(each)[at]) for name, each in states.items()}
        return {"game": game, "start": start, "place": place[1], "goal": goal.split(", ")}
    start = states[at]
    if game == "cup":
        filled = {_cell(each) for each in goal.split(", ")}
        aim = [[int((row, column) in filled) for column in range(len(start))] for row in range(len(start))]
    else:
        aim = [[0] * len(start) for _ in start]
        for letter, digit, value in _CELL.findall(goal):
            across = ord(letter) - ord("a")
            if game == "grid":
                aim[across][int(digit)] = int(value == "black")
            else:  # rows of a sliding puzzle are lettered from the last one
                aim[len(start) - 1 - across][int(digit) - 1] = int(value)
    more = {"circle": list(row["coords"][at])} if game == "grid" else {}
    return {"game": game, "start": start, "goal": aim, **more}


def _all(states: Any) -> Sequence[Any]:
    return list(states.values()) if isinstance(states, Mapping) else states


def _cell(name: str) -> tuple[int, int]:
    """Row and column of ``b3``."""
    return ord(name[0].lower()) - ord("a"), int(name[1]) - 1


def operations(game: str, answer: str) -> list[tuple[str, ...]] | None:
    """The operations that an answer lists; ``None`` if there are none, or it says something else as well."""
    pattern = _OPERATIONS[game]
    found = [match.groups() for match in pattern.finditer(answer)]
    return found if found and _BESIDE.fullmatch(pattern.sub(" ", answer)) else None


def reaches(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """Whether operations lead from the start of a puzzle to its goal."""
    return _PLAY[puzzle["game"]](puzzle, moves)


def _slide(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """Left and right name where a square goes, up and down where the gap goes; a move beyond the edge does nothing."""
    board: Board = [list(row) for row in puzzle["start"]]
    size = len(board)
    for (name,) in moves:
        gap = next((row, column) for row in range(size) for column in range(size) if board[row][column] == 0)
        step = {"up": (-1, 0), "down": (1, 0), "left": (0, 1), "right": (0, -1)}[name.lower()]
        row, column = gap[0] + step[0], gap[1] + step[1]
        if 0 <= row < size and 0 <= column < size:
            board[gap[0]][gap[1]], board[row][column] = board[row][column], 0
    return bool(board == puzzle["goal"])


def _flip(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """Where the circle arrives, the piece and its neighbours change colour; a move beyond the edge does nothing."""
    board: Board = [list(row) for row in puzzle["start"]]
    size = len(board)
    x, y = puzzle["circle"]
    for (name,) in moves:
        step = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[name.lower()]
        if not (0 <= x + step[0] < size and 0 <= y + step[1] < size):
            continue
        x, y = x + step[0], y + step[1]
        for column, row in ((x, y), (x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
            if 0 <= column < size and 0 <= row < size:
                board[row][column] = 1 - board[row][column]
    return bool(board == puzzle["goal"])


def _swap(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """A swap with a place that is not on the board does nothing."""
    board: Board = [list(row) for row in puzzle["start"]]
    size = len(board)
    for first, second in moves:
        (row, column), (other_row, other_column) = _cell(first), _cell(second)
        if max(row, column, other_row, other_column) < size:
            kept = board[row][column]
            board[row][column], board[other_row][other_column] = board[other_row][other_column], kept
    return bool(board == puzzle["goal"])


def _chips(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """Chips of the given values are added; one that is not in the cup cannot be removed."""
    cups = {name: Counter(map(int, chips)) for name, chips in puzzle["start"].items()}
    for action, chip, place in moves:
        name, value = place.lower(), int(chip)
        if name not in cups or value not in _CHIPS or (action.lower() == "remove" and not cups[name][value]):
            return False
        cups[name][value] += 1 if action.lower() == "add" else -1
    return +cups[puzzle["place"]] == Counter(map(int, puzzle["goal"]))


def _cards(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """A card is added to the end of a pile's list, and only the first one can be removed."""
    piles = {name: [card.lower() for card in cards] for name, cards in puzzle["start"].items()}
    for action, card, place in moves:
        pile = piles.get(place.lower())
        if pile is None or (action.lower() == "remove" and pile[:1] != [card.lower()]):
            return False
        if action.lower() == "add":
            pile.append(card.lower())
        else:
            del pile[0]
    return piles[puzzle["place"]] == [card.lower() for card in puzzle["goal"]]


def _files(puzzle: Puzzle, moves: Sequence[tuple[str, ...]]) -> bool:
    """At most two commands, and no file that is both made and removed."""
    paths = {name: set(files) for name, files in puzzle["start"].items()}
    named: dict[str, set[str]] = {"touch": set(), "rm -rf": set()}
    for command, place, listed in moves:
        files = {file.strip() for file in listed.split(",")}
        named[command] = files
        if place not in paths:
            return False
        paths[place] = paths[place] | files if command == "touch" else paths[place] - files
    return len(moves) <= 2 and not named["touch"] & named["rm -rf"] and paths[puzzle["place"]] == set(puzzle["goal"])


_PLAY: Mapping[str, Callable[[Puzzle, Sequence[tuple[str, ...]]], bool]] = {
    "hrd": _slide, "grid": _flip, "cup": _swap, "chip": _chips, "card": _cards, "file_sys": _files
}  # fmt: skip


def scoring(config: RewardConfig) -> Callable[[Sample, Completion], Score]:
    """Rows with a puzzle are played; the others are scored by the rewards of the run, its judge included."""
    rewards, settings = Scorer(config), read_settings(config)

    def score(sample: Sample, response: Completion) -> Score:
        puzzle = sample.extra.get(PUZZLE)
        if not isinstance(puzzle, Mapping):
            return rewards(sample, response)
        tag = bool(config.require_tag)
        found = score_response(sample.task, response, sample.answer, sample.options, {}, settings, require_tag=tag)
        answer = counted_answer(sample.task, response, sample.options, settings, require_tag=tag)
        moves = operations(puzzle["game"], answer.text)
        reason = answer.reason or ("" if moves else "no operations in the form that the question asks for")
        right = answer.value is not None and moves is not None and reaches(puzzle, moves)
        return scored(replace(found, parts={}), Verdict(float(right), reason=reason), settings)

    return score
