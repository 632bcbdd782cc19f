"""Pools of workers: the answers of one engine in this process, whoever is killed.

Weights are broadcast here. They go through shared memory in the tests of the contract (``local-pool``) and of Ray.
"""

from __future__ import annotations

import threading

import pytest
import torch

from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.engines.pool import EnginePool
from easyvideor1.engines.worker_pool import WorkerPool
from easyvideor1.types import ConfigError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt

from .serving import tokens_of
from .workers import kill, opening_of, scaled

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def pool(tiny_checkpoint):
    """Two processes, used by all tests in turn."""
    torch.set_num_threads(1)
    pool = WorkerPool(opening_of(tiny_checkpoint), workers=2, weight_sync="collective")
    yield pool
    pool.close()


@pytest.fixture
def requests(tiny_family):
    plans = [make_plan("video", frames=4, seed=i) for i in range(4)]
    prompts = [make_prompt(tiny_family, f"<video>What moves in {i}?", plans[i % 4]) for i in range(8)]
    return [Request(f"r{i}", prompt, 3, Sampling(max_new_tokens=40), i) for i, prompt in enumerate(prompts)]


@pytest.fixture
def expected(tiny_model, tiny_family, requests):
    """The tokens of an engine in this process that has the weights of this module."""

    def of(weights):
        engine = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=2000)
        engine.update_weights(0, weights)
        return tokens_of(generate(engine, requests))

    return of


def pids(pool):
    return [member.engine.ready().pid for member in pool._members.values()]


def update(pool, weights):
    pool.update_weights(pool.version + 1, iter(weights))


def test_the_pool_answers_as_one_engine_with_the_same_weights(pool, tiny_model, requests, expected):
    for factor in (1.2, 0.9):
        weights = scaled(tiny_model, factor)
        update(pool, weights)
        found = generate(pool, requests)
        assert tokens_of(found) == expected(weights)
        assert {int(v) for group in found for each in group for v in each.last.versions} == {pool.version}
    stats = pool.stats()
    assert stats["engines"] == 2 and stats["engines_lost"] == 0 and stats["sync_seconds"] > 0
    assert stats["sync_bytes"] >= 2 * 2 * sum(tensor.nbytes for _, tensor in weights)


def test_a_worker_that_is_killed_in_the_middle_of_a_step_loses_no_sample(pool, tiny_model, requests, expected):
    weights = scaled(tiny_model, 1.3)
    update(pool, weights)
    restarts, before = pool.stats()["restarts"], pids(pool)
    tickets = pool.submit(requests)
    kill(before[0])  # at once: a result later it may have finished
    found = {result.ticket: result for result in finished(pool)}
    assert sorted(found) == tickets and not any(result.fault for result in found.values())
    assert tokens_of([found[ticket].trajectories for ticket in tickets]) == expected(weights)
    after = pids(pool)
    assert after[0] != before[0] and after[1] == before[1]
    assert pool.stats()["restarts"] == restarts + 1 and pool.stats()["engines"] == 2


def test_a_worker_that_is_killed_during_an_update_gets_the_weights_when_it_is_back(
    pool, tiny_model, requests, expected
):
    weights, before = scaled(tiny_model, 0.8), pids(pool)

    def with_a_kill():
        for number, pair in enumerate(weights):
            if number == len(weights) - 1:
                kill(before[1])
            yield pair

    update(pool, with_a_kill())
    assert tokens_of(generate(pool, requests)) == expected(weights)
    assert pids(pool)[1] != before[1] and pool.stats()["engines"] == 2


def test_weights_of_another_model_are_refused_and_the_next_ones_taken(pool, tiny_model, requests, expected):
    weights = scaled(tiny_model, 1.1)
    update(pool, weights)
    version = pool.version
    with pytest.raises(ConfigError, match=r"model\.nothing"):
        pool.update_weights(version + 1, [*weights[:3], ("model.nothing", torch.zeros(1)), *weights[3:]])
    assert pool.version == version
    pool.submit(requests)
    with pytest.raises(EasyVideoError, match="update the engine's weights again"):
        list(finished(pool))
    update(pool, weights)
    assert tokens_of(generate(pool, requests)) == expected(weights)


def test_an_update_that_lacks_tensors_costs_no_worker(pool, tiny_model, requests, expected):
    weights, before = scaled(tiny_model, 1.4), pids(pool)
    with pytest.raises(ConfigError, match=r"model\.nothing"):
        update(pool, [*weights, ("model.nothing", torch.zeros(1))])
    with pytest.raises(ConfigError, match="update all of them"):
        update(pool, weights[:2])
    assert pids(pool) == before
    update(pool, weights)
    assert tokens_of(generate(pool, requests)) == expected(weights)


def test_responses_grow_while_the_caller_does_something_else(pool, requests):
    assert pool.runs_ahead
    tickets = pool.submit(requests)
    waited = threading.Event()
    for _ in range(200):
        waited.wait(0.05)
        if all(len(ids) for ticket in tickets for ids in pool.partial(ticket)):
            break
    else:
        raise AssertionError("nothing grew in ten seconds")
    pool.cancel(tickets)
    assert list(finished(pool)) == []


def test_workers_and_engines_in_this_process_can_share_a_pool(pool, tiny_model, tiny_family, requests, expected):
    weights = scaled(tiny_model, 1.0)
    update(pool, weights)
    own = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=2000)
    mixed = EnginePool({"the workers": pool, "this process": own})
    assert not mixed.runs_ahead and tokens_of(generate(mixed, requests)) == expected(weights)


def test_an_engine_that_cannot_be_opened_is_told_at_once(tiny_checkpoint):
    with pytest.raises(ConfigError, match="lokal"):
        WorkerPool(opening_of(tiny_checkpoint, engine="lokal"), workers=1)
