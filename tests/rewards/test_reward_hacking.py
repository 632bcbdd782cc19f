"""No response that the moves make is paid for an answer that it does not commit to."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.certificates import load_certificate
from easyvideor1.rewards.certificates.reward_hacking import WRONG, moves, search
from easyvideor1.tasks import TASKS
from easyvideor1.types import Score

#: Types whose comparison takes a process.
MOST = {"code": 60, "math": 300}


@pytest.mark.parametrize("task", TASKS)
def test_nobody_is_paid_without_answering(task: str) -> None:
    found = search([task], score, most=MOST)
    assert found.tried >= min(MOST.get(task, 4000), 4000)
    assert not found.broken, "\n".join(f"{m.name}: {m.response!r} {m.finish} -> {a}" for m, a in found.broken[:20])


@pytest.mark.parametrize("task", TASKS)
def test_the_wrong_answers_of_the_search_are_answers(task: str) -> None:
    case = load_certificate(task).cases[0]
    said = score(task, f"<answer>{WRONG[task]}</answer>", case.answer, options=case.options, **case.row)
    assert said.parsed
    assert said.accuracy < 0.7


def test_a_scorer_that_pays_mentions_is_found_out() -> None:
    def pays_mentions(task: str, response: str, answer: str, **columns: object) -> Score:
        accuracy = float(answer in response)
        return Score(accuracy, 0.0, accuracy)

    found = search(["numerical"], pays_mentions)
    assert len(found.broken) > 1000
    invariants = {move.name.partition(":")[0] for move, _ in found.broken}
    assert invariants == {"nothing", "both", "wrong"}


def test_every_move_is_made_once() -> None:
    made = [(m.name, m.finish) for m in moves("multiple_choice", score)]
    assert len(set(made)) == len(made)
