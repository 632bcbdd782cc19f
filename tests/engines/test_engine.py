"""Sampling, requests, and ``generate`` over engines that break their contract."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from answering import AnsweringEngine
from easyvideor1.engines.engine import Request, Result, Sampling, generate
from easyvideor1.types import ConfigError, EasyVideoError, Prompt, Trajectory

PROMPT = Prompt(np.arange(3))


class Sloppy(AnsweringEngine):
    """Does something to the results before it returns them."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change
        self.cancelled: list[int] = []

    def answer(self, request: Request) -> list[Trajectory]:
        return [Trajectory(())] * request.n

    def results(self) -> Iterator[Result]:
        yield from self.change(list(super().results()))

    def cancel(self, tickets) -> None:
        self.cancelled = list(tickets)
        super().cancel(tickets)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found[:1], "answered 1 of 2 requests"),
        (lambda found: [*found, found[0]], "returned ticket 0, which is not pending"),
        (lambda found: [Result(99, found[0].request)], "returned ticket 99, which is not pending"),
        (
            lambda found: [Result(0, found[0].request, found[0].trajectories[:1])],
            "answered request 'r0' with 1 responses, not with 2",
        ),
    ],
)
def test_an_engine_is_held_to_its_contract(change, words) -> None:
    engine = Sloppy(change)
    with pytest.raises(EasyVideoError, match=f"engine Sloppy {words}"):
        generate(engine, [Request(f"r{i}", PROMPT, 2, Sampling(), i) for i in range(2)])


def test_an_interrupt_cancels_what_is_pending() -> None:
    def interrupted(found: list[Result]) -> Iterator[Result]:
        yield found[0]
        raise KeyboardInterrupt

    engine = Sloppy(interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(engine, [Request("r", PROMPT, 1, Sampling(), i) for i in range(3)])
    assert engine.cancelled == [0, 1, 2]


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"max_new_tokens": 0}], ids=str
)
def test_impossible_sampling_is_refused(bad):
    with pytest.raises(ConfigError, match=r"top_p in \(0, 1\]"):
        Sampling(**bad)


@pytest.mark.parametrize("stop", ["</answer>", ("a", "")])
def test_stop_is_a_tuple_of_strings(stop):
    with pytest.raises(ConfigError, match="stop is a tuple of strings"):
        Sampling(stop=stop)


def test_no_responses_cannot_be_asked_for():
    with pytest.raises(ConfigError, match="'r' asks for 0 responses"):
        Request("r", PROMPT, 0, Sampling(), 0)
