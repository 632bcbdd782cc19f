"""SOLE-R1: a critic that says how far a task has come, and agents whose only reward is what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import write_text
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.seeds import derive_seed
from easyvideor1.serving.score_stream import Stream, StreamScorer
from easyvideor1.toyworld.encode import write_video
from easyvideor1.toyworld.scene import Body, Scene, paint
from easyvideor1.types import Completion, DataError, Sample, Score, Trajectory, Turn

Cell = tuple[int, int]

#: Cells of the grid along each side, and pixels of a frame along each side.
CELLS, PIXELS = 6, 64
#: Side of both shapes in pixels.
SIZE = 10.0
START: Cell = (0, 0)
GOAL: Cell = (CELLS - 1, CELLS - 1)
MOVES: tuple[Cell, ...] = ((1, 0), (-1, 0), (0, 1), (0, -1))
#: What every row asks.
QUESTION = "The red circle has to reach the blue square. How far has it come, in percent?"
#: Of an agent: learning rate, discount of later rewards, and share of moves at random.
RATE, DISCOUNT, EXPLORE = 0.3, 0.9, 0.1
#: Frames of a toy video; the strategy of the recipe asks about all but the first.
FRAMES = 4
#: Of the toy rows, one in so many comes near to the goal and returns to where it began.
RETURNS_EVERY = 4


def progress(cell: Cell) -> float:
    """``100 (1 - d / d_0)``: the share of the way that is done, in percent, with distances in moves."""
    distance = sum(abs(a - b) for a, b in zip(cell, GOAL, strict=True))
    whole = sum(abs(a - b) for a, b in zip(START, GOAL, strict=True))
    return 100.0 * (whole - distance) / whole


def picture(cell: Cell) -> NDArray[np.uint8]:
    """The grid with the agent in a cell, uint8 RGB ``(64, 64, 3)``."""
    goal, agent = Body("square", "blue", SIZE, *_centre(GOAL)), Body("circle", "red", SIZE, *_centre(cell))
    return paint(Scene(PIXELS, PIXELS, 1.0, 1.0, (0.0,), (goal, agent)), 0.0)


def _centre(cell: Cell) -> tuple[float, float]:
    width = PIXELS / CELLS
    return (cell[0] + 0.5) * width, (cell[1] + 0.5) * width


def reward(sample: Sample, response: str, trajectory: Trajectory | None = None) -> Score:
    """``1 - |p - t| / 100`` of each turn, with the true progress ``t`` of the column ``progress`` (percent by turn).

    The paper's reward is not public. A turn that states no number between 0 and 100 gets 0: what the strategy carries
    on in its place was not said. The score has the mean over turns, and the mean distance ``error`` in percent of the
    turns that state one.

    Raises:
        DataError: the column does not have a number for each turn.
    """
    truth = sample.extra.get("progress")
    turns = [Completion(response)] if trajectory is None else [_said(turn) for turn in trajectory.turns]
    if not isinstance(truth, list) or len(truth) < len(turns):
        raise DataError(f"{sample.id}: the column progress is {truth!r} for {len(turns)} turns - give percent by turn")
    wanted = truth[-1:] if trajectory is None else truth[: len(turns)]
    stated = [_stated(turn) for turn in turns]
    paid = [0.0 if p is None else 1 - abs(p - t) / 100 for p, t in zip(stated, wanted, strict=True)]
    errors = [abs(p - t) for p, t in zip(stated, wanted, strict=True) if p is not None]
    mean, form = sum(paid) / len(paid), len(errors) / len(paid)
    parts = {"error": sum(errors) / len(errors)} if errors else {}
    return Score(mean, form, mean, parts, turns=() if trajectory is None else tuple(paid))


def _said(turn: Turn) -> Completion:
    return Completion(turn.text, turn.finish, turn.prompt.opens_thinking)


def _stated(said: Completion) -> float | None:
    number = parse("numerical", said, (), grammar_of("answer")).value
    return float(number.value) if number is not None and 0 <= number.value <= 100 else None


#: Values in percent of the frames that some agents see, given the cells they are in; called once for each moment.
Critic = Callable[[Sequence[Cell]], Sequence[float]]


def true_critic() -> Critic:
    """Says the true progress."""
    return lambda cells: [progress(cell) for cell in cells]


def noisy_critic(rng: np.random.Generator, deviation: float = 20.0) -> Critic:
    """Says the true progress with an error that belongs to the cell, as a model's does: it does not average out.

    Args:
        rng: draws the errors.
        deviation: of the errors, in percent.
    """
    errors = rng.normal(0, deviation, (CELLS, CELLS))
    return lambda cells: [float(np.clip(progress(cell) + errors[cell], 0, 100)) for cell in cells]


def model_critic(scorer: StreamScorer) -> Callable[[], Critic]:
    """A trained critic: each call ends all episodes and begins new ones, which carry what the model said last."""

    streams: list[Stream] = []

    def begin() -> Critic:
        while streams:
            scorer.end(streams.pop())

        def values(cells: Sequence[Cell]) -> Sequence[float]:
            streams.extend(scorer.stream(QUESTION) for _ in cells[len(streams) :])
            return scorer.score([(stream, picture(cell)) for stream, cell in zip(streams, cells, strict=True)])

        return values

    return begin


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an agent fares after training. ``perceived`` says what its critic saw in the last frame.

    Attributes:
        perceived: value of the critic, share of 1.
        true: true progress, share of 1.
        success: whether the agent is at the goal.
    """

    perceived: float
    true: float
    success: bool


def train_agent(
    begin: Callable[[], Critic], rng: np.random.Generator, rounds: int = 60, agents: int = 8, moves: int = 14
) -> Outcome:
    """Tabular Q-learning (Watkins and Dayan 1992) of an agent that must walk to the goal, rewarded by a critic alone.

    The reward of a move is the value after it (SOLE-R1: ``r_t`` is the progress), as a share of 1. Agents of a round
    walk side by side and share one table. It begins with the largest possible return, so that every move is tried. In
    the end the agent walks once more without random moves.

    Args:
        begin: makes the critic of the episodes of a round; the first cells it is asked about are the starts.
        rng: draws moves.
        rounds: of episodes.
        agents: that walk side by side.
        moves: of an episode.
    """
    table = np.full((CELLS, CELLS, len(MOVES)), 1 / (1 - DISCOUNT))
    for _ in range(rounds):
        _walk(table, begin(), rng, EXPLORE, agents, moves, learn=True)
    cell, value = _walk(table, begin(), rng, 0.0, 1, moves, learn=False)
    return Outcome(value / 100, progress(cell) / 100, cell == GOAL)


def _walk(
    table: NDArray[np.float64],
    critic: Critic,
    rng: np.random.Generator,
    explore: float,
    agents: int,
    moves: int,
    *,
    learn: bool,
) -> tuple[Cell, float]:
    """One round; where the first agent ends, and the value there."""
    cells, values = [START] * agents, critic([START] * agents)
    for _ in range(moves):
        chosen = [
            int(rng.integers(len(MOVES))) if rng.random() < explore else int(table[cell].argmax()) for cell in cells
        ]
        after = [_moved(cell, MOVES[move]) for cell, move in zip(cells, chosen, strict=True)]
        values = critic(after)
        if learn:
            for cell, move, reached, value in zip(cells, chosen, after, values, strict=True):
                target = value / 100 + DISCOUNT * table[reached].max()
                table[cell][move] += RATE * (target - table[cell][move])
        cells = after
    return cells[0], values[0]


def _moved(cell: Cell, move: Cell) -> Cell:
    x, y = (min(max(a + b, 0), CELLS - 1) for a, b in zip(cell, move, strict=True))
    return x, y


def write_toy(root: Path) -> None:
    """Write ``world/train.jsonl`` and ``world/test.jsonl`` with their videos: walks on the grid."""
    world = root / "world"
    (world / "media").mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 400), ("test", 60)):
        rows = []
        for number in range(count):
            rng = np.random.default_rng(derive_seed("sole_r1", split, number))
            cells = _toy_walk(rng, returns=number % RETURNS_EVERY == 0)
            path = world / "media" / f"{split}-{number:03d}.mp4"
            write_video(path, [picture(cell) for cell in cells], fps=1.0)
            rows.append(json.dumps(_toy_row(f"{split}-{number}", path.name, cells)))
        write_text(world / f"{split}.jsonl", "\n".join(rows) + "\n")


def _toy_walk(rng: np.random.Generator, *, returns: bool) -> list[Cell]:
    """Cells of the frames. Up to ten moves lie before the second frame, so that all cells are seen, and up to four
    between later ones; most are towards the goal. A failure ends where it began."""
    cells = [START]
    for frame in range(1, FRAMES):
        cell = cells[-1]
        for _ in range(int(rng.integers(0, 11 if frame == 1 else 5))):
            sign = -1 if rng.random() < (0.1 if frame == 1 else 0.4) else 1
            cell = _moved(cell, (sign, 0) if rng.random() < 0.5 else (0, sign))
        cells.append(cell)
    return [*cells[:-1], START] if returns else cells


def _toy_row(name: str, file: str, cells: Sequence[Cell]) -> dict[str, object]:
    values = [progress(cell) for cell in cells[1:]]
    *before, last = [f"<answer>{value:g}</answer>" for value in values]
    return {
        "problem_id": name,
        "problem": f"<video>\n{QUESTION}",
        "problem_type": "numerical",
        "answer": f"{values[-1]:g}",
        "videos": [f"media/{file}"],
        "progress": values,
        "has_offline_trajectory": True,
        "offline_output": {"before": before, "text": last},
    }
