"""The requirements of serving, which hold for engines with and without a model of their own."""

from __future__ import annotations

from functools import partial

import pytest

from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.types import MediaError
from tiny import load_frames

UNREADABLE = {"image", "both"}


def requests_for(prompts, *, n=3, seed=100, **sampling):
    settings = Sampling(**{"max_new_tokens": 10, **sampling})
    return [Request(name, prompt, n, settings, seed + i) for i, (name, prompt) in enumerate(prompts.items())]


def tokens_of(results):
    return [[trajectory.last.response_ids.tolist() for trajectory in group] for group in results]


def load_none_of(prompts, names):
    """Frames of all prompts but some."""
    return partial(_load_but, frozenset(plan.digest for name in names for plan in prompts[name].plans))


def _load_but(gone, ref, plan):
    if plan.digest in gone:
        raise MediaError(f"{ref.path}: truncated", path=ref.path, reason="truncated")
    return load_frames(ref, plan)


class ServingLaws:
    """Asked of an engine that the fixture ``serve(load)`` opens."""

    @pytest.fixture
    def engine(self, serve):
        return serve(load_frames)

    def test_every_ticket_comes_back_once_with_its_request_and_n_trajectories(self, engine, prompts):
        requests = [
            Request("the same id", p, n, Sampling(max_new_tokens=3), n) for n in (2, 1) for p in prompts.values()
        ]
        tickets = engine.submit(requests)
        assert len(set(tickets)) == len(requests)
        by_ticket = dict(zip(tickets, requests, strict=True))
        found = list(finished(engine))
        assert sorted(result.ticket for result in found) == sorted(tickets)
        for result in found:
            request = by_ticket[result.ticket]
            assert result.request is request and result.fault is None
            assert len(result.trajectories) == request.n
            for trajectory in result.trajectories:
                assert len(trajectory.turns) == 1 and trajectory.origin == "online"
                turn = trajectory.last
                assert turn.prompt.token_ids is request.prompt.token_ids
                assert turn.response_mask.shape == turn.response_ids.shape and turn.response_mask.all()

    def test_tickets_are_never_used_again(self, engine, prompts):
        requests = requests_for(prompts, n=1, max_new_tokens=1)
        seen = engine.submit(requests)
        list(finished(engine))
        assert not set(seen) & set(engine.submit(requests))

    def test_nothing_submitted_is_nothing_answered(self, engine):
        assert engine.submit([]) == [] and list(finished(engine)) == [] and generate(engine, []) == []

    def test_media_that_cannot_be_read_are_the_fault_of_their_request(self, serve, prompts):
        engine = serve(load_none_of(prompts, UNREADABLE))
        engine.submit(requests_for(prompts))
        found = {result.request.id: result for result in finished(engine)}
        assert found.keys() == prompts.keys()
        for name, result in found.items():
            assert isinstance(result.fault, MediaError) == (name in UNREADABLE)
            assert len(result.trajectories) == (0 if name in UNREADABLE else 3)
        with pytest.raises(MediaError, match="truncated"):
            generate(engine, requests_for(prompts))
        assert list(finished(engine)) == [], "the others were cancelled"

    def test_what_is_cancelled_gives_no_result(self, engine, prompts):
        tickets = engine.submit(requests_for(prompts, n=1))
        engine.cancel([tickets[1], tickets[3]])
        engine.cancel([tickets[1], 10**6])
        assert sorted(result.ticket for result in finished(engine)) == [tickets[0], tickets[2]]
        engine.cancel(tickets)
        assert list(finished(engine)) == []

    def test_requests_can_be_cancelled_while_results_are_read(self, engine, prompts):
        first, *others = engine.submit(requests_for(prompts, n=2))
        results = finished(engine)
        came = [next(results).ticket]
        left = [ticket for ticket in (first, *others) if ticket not in came]
        engine.cancel(left[:-1])
        assert [result.ticket for result in results] == left[-1:]

    def test_an_iterator_that_is_left_loses_nothing(self, engine, prompts):
        tickets = engine.submit(requests_for(prompts, n=1))
        came = []
        while (result := next(finished(engine), None)) is not None:
            came.append(result.ticket)
        assert sorted(came) == tickets

    def test_more_can_be_submitted_while_results_are_read(self, engine, prompts):
        requests = requests_for(prompts, n=1, max_new_tokens=2)
        tickets = engine.submit(requests[:1])
        came = []
        for result in finished(engine):
            came.append(result.ticket)
            if len(tickets) < len(requests):
                tickets += engine.submit([requests[len(tickets)]])
        assert came == tickets and len(came) == len(requests)

    def test_more_can_be_submitted_and_cancelled_in_pauses(self, engine, prompts):
        requests = requests_for(prompts, n=1, max_new_tokens=6)
        tickets, came = engine.submit(requests[:2]), []
        for result in engine.results():
            if result is not None:
                came.append(result.ticket)
            if len(tickets) < 4:  # an engine that yields no pause gets here with a result
                tickets += engine.submit(requests[2:])
                engine.cancel([gone := tickets[3]])
        assert sorted(came) == [ticket for ticket in tickets if ticket != gone]

    def test_an_engine_that_slept_answers(self, engine, prompts):
        engine.sleep()
        engine.sleep()
        engine.wake()
        engine.sleep()
        assert len(generate(engine, requests_for(prompts, n=1))) == len(prompts), "it wakes by itself"

    def test_closing_drops_what_is_pending(self, engine, prompts):
        engine.submit(requests_for(prompts))
        engine.close()
        engine.close()
        assert list(finished(engine)) == []
