"""Several engines as one: the same answers for any number of them, and failures that stay alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.engines.pool import EnginePool
from easyvideor1.types import ConfigError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt

from .serving import ServingLaws, tokens_of

pytestmark = pytest.mark.model


class Failing(LocalEngine):
    """Fails for good before it gives its result number ``after``."""

    after = 10**9
    refuses = False
    closed = False

    def results(self):
        for count, result in enumerate(super().results()):
            if count >= self.after:
                raise EasyVideoError("the device is gone")
            yield result

    def update_weights(self, version, tensors):
        if self.refuses:
            raise ConfigError("no room for these weights")
        if self.after < 0:
            raise OSError("no memory is left")
        super().update_weights(version, tensors)

    def close(self):
        self.closed = True
        super().close()


@pytest.fixture
def pool_of(tiny_family, tiny_checkpoint):
    """Opens a pool of local engines with weights of their own; ``after`` says when each of them fails."""
    opened = []

    def open_(count=2, after=(), load=load_frames, batch_tokens=2000):
        engines = [Failing(tiny_family, tiny_checkpoint, load, batch_tokens=batch_tokens) for _ in range(count)]
        for engine, limit in zip(engines, after, strict=False):
            engine.after = limit
        opened.append(EnginePool({f"engine {i}": engine for i, engine in enumerate(engines)}))
        opened[-1].engines = engines
        return opened[-1]

    yield open_
    for pool in opened:
        pool.close()


@pytest.fixture
def requests(tiny_family):
    """Sixteen requests for six media, some of them for the same."""
    plans = [make_plan("video", frames=4 + 2 * (i % 2), seed=i) for i in range(6)]
    prompts = [make_prompt(tiny_family, f"<video>What moves in {i}?", plans[i % 6]) for i in range(14)]
    prompts += [make_prompt(tiny_family, "What moves?"), make_prompt(tiny_family, "Nothing.")]
    return [Request(f"r{i}", prompt, 1 + i % 3, Sampling(max_new_tokens=6), i) for i, prompt in enumerate(prompts)]


class TestServing(ServingLaws):
    @pytest.fixture
    def serve(self, pool_of):
        return lambda load: pool_of(2, load=load)


def test_the_number_of_engines_changes_nothing(pool_of, requests):
    whole = generate(pool_of(1), requests)
    for count in (2, 3):
        several = generate(pool_of(count), requests)
        assert tokens_of(several) == tokens_of(whole)
        for group, other in zip(several, whole, strict=True):
            for one, two in zip(group, other, strict=True):
                np.testing.assert_allclose(one.last.logprobs, two.last.logprobs, rtol=0, atol=1e-5)


def test_no_video_is_prefilled_by_two_engines(pool_of, tiny_family):
    plans = [make_plan("video", frames=8, height=128, width=128, seed=i) for i in range(4)]
    prompts = [make_prompt(tiny_family, f"<video>What moves in {i}?", plans[i % 4]) for i in range(12)]
    prefilled = []
    for count in (1, 2):
        pool = pool_of(count, batch_tokens=100_000)  # one batch for each engine
        generate(pool, [Request("r", prompt, 2, Sampling(max_new_tokens=4), i) for i, prompt in enumerate(prompts)])
        prefilled.append(pool.stats()["prefilled_tokens"])
    # Each engine prefills what all prompts begin with, before the video.
    assert 4 * plans[0].tokens < prefilled[0] <= prefilled[1] < prefilled[0] + plans[0].tokens


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("after", [(0,), (3,), (10**9, 10**9, 2)], ids=str)
def test_an_engine_that_fails_loses_no_request(pool_of, requests, after):
    pool = pool_of(3, after)
    failing = sum(limit < 10**9 for limit in after)
    with pytest.warns(RuntimeWarning, match="engine . failed and is taken out of the pool: the device is gone") as told:
        found = generate(pool, requests)
    assert len(told) == failing
    assert tokens_of(found) == tokens_of(generate(pool_of(1), requests))
    stats = pool.stats()
    assert (stats["engines"], stats["engines_lost"]) == (3 - failing, failing) and stats["resent"] > 0
    assert [engine.closed for engine in pool.engines] == [limit < 10**9 for limit in (*after, 10**9, 10**9)[:3]]
    assert len(generate(pool, requests)) == len(requests), "the others go on"


@pytest.mark.filterwarnings("ignore:engine:RuntimeWarning")
def test_a_request_is_sent_to_two_engines_and_no_more(pool_of, requests):
    pool = pool_of(3, (0, 0, 10**9))
    tickets = pool.submit(requests)
    found = {result.ticket: result for result in finished(pool)}
    assert sorted(found) == tickets
    faults = [result for result in found.values() if result.fault is not None]
    assert all("two engines failed with it: the device is gone" in str(result.fault) for result in faults)
    assert faults and len(faults) < len(tickets)
    assert all(len(r.trajectories) == r.request.n for r in found.values() if r.fault is None)


@pytest.mark.filterwarnings("ignore:engine:RuntimeWarning")
def test_without_an_engine_the_pool_fails_and_nothing_is_pending(pool_of, requests):
    pool = pool_of(2, (0, 0))
    pool.submit(requests)
    with pytest.raises(EasyVideoError, match="all engines of the pool failed; the last one: the device is gone"):
        list(finished(pool))
    assert list(finished(pool)) == []
    with pytest.raises(EasyVideoError, match="all engines"):
        generate(pool, requests)
    with pytest.raises(EasyVideoError, match="all engines"):
        pool.update_weights(1, [])


def test_weights_are_read_once_and_reach_all(pool_of, tiny_model, requests):
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.mul_(1.1)
    pool, reads = pool_of(3), []

    def tensors():
        for name, parameter in tiny_model.named_parameters():
            reads.append(name)
            yield name, parameter.detach()

    before = tokens_of(generate(pool, requests))
    pool.update_weights(4, tensors())
    assert len(reads) == len(set(reads)) == len(list(tiny_model.named_parameters()))
    assert pool.version == 4 and all(engine.version == 4 for engine in pool.engines)
    after = generate(pool, requests)
    assert tokens_of(after) != before
    assert all(set(trajectory.last.versions) == {4} for group in after for trajectory in group)
    for engine in pool.engines:
        for own, sent in zip(engine.model.parameters(), tiny_model.parameters(), strict=True):
            assert torch.equal(own, sent)


def test_weights_that_came_in_part_are_not_generated_with(pool_of, tiny_model, requests):
    pool = pool_of(2)
    name, first = next(iter(tiny_model.named_parameters()))
    pool.submit(requests)
    with pytest.raises(ConfigError, match="missing"):
        pool.update_weights(1, [(name, first.detach() + 1), ("missing", first)])
    assert pool.version == 0
    with pytest.raises(EasyVideoError, match="only in part"):
        list(finished(pool))
    pool.update_weights(1, [(name, first.detach())])
    assert list(finished(pool)) == []
    assert pool.stats()["engines"] == 2 and len(generate(pool, requests)) == len(requests)


@pytest.mark.parametrize("submitted", ["before", "after", "during"])
def test_weights_that_one_engine_refused_are_generated_with_by_none(pool_of, tiny_model, requests, submitted):
    pool = pool_of(2)
    weights = [(name, parameter.detach() * 1.5) for name, parameter in tiny_model.named_parameters()]
    if submitted != "after":
        pool.submit(requests)
    results = pool.results()
    if submitted == "during":
        next(results)
    pool.engines[1].refuses = True
    with pytest.raises(ConfigError, match="no room"):
        pool.update_weights(1, weights)
    if submitted == "after":
        pool.submit(requests)
    with pytest.raises(EasyVideoError, match=r"taken by some engines and refused by others \(no room"):
        for result in results:
            assert result is None
    assert list(finished(pool)) == [] and pool.version == 0
    with pytest.raises(RuntimeError, match="no such shard"):
        pool.update_weights(1, failing_tensors())
    pool.submit(requests)
    with pytest.raises(EasyVideoError, match="taken by some engines"):
        list(finished(pool))
    pool.engines[1].refuses = False
    pool.update_weights(1, weights)
    assert {int(v) for group in generate(pool, requests) for each in group for v in each.last.versions} == {1}


def failing_tensors():
    yield "model.norm.weight", torch.ones(1)
    raise RuntimeError("no such shard")


def test_after_an_update_no_engine_is_taken_to_have_prefixes_in_its_caches(pool_of, tiny_family):
    """The caches are empty: a prompt goes to the first idle engine again, and not to the one that had it."""
    pool = pool_of(2)
    prompts = [make_prompt(tiny_family, f"<video>{i}?", make_plan("video", frames=4, seed=i)) for i in range(2)]
    first, second = (Request(f"r{i}", prompt, 1, Sampling(max_new_tokens=4), i) for i, prompt in enumerate(prompts))

    def taker(request):
        before = [engine.stats()["prompt_tokens"] for engine in pool.engines]
        generate(pool, [request])
        after = [engine.stats()["prompt_tokens"] for engine in pool.engines]
        return [new > old for new, old in zip(after, before, strict=True)].index(True)

    generate(pool, [first, second])
    assert [taker(first), taker(second)] == [0, 1]
    pool.update_weights(1, [])
    assert taker(second) == 0


def test_an_engine_that_cannot_take_weights_is_taken_out(pool_of, requests):
    pool = pool_of(2, (-1,))
    with pytest.warns(RuntimeWarning, match="engine 0 failed .* no memory is left"):
        pool.update_weights(2, [])
    assert pool.version == 2 and pool.stats()["engines"] == 1
    assert len(generate(pool, requests[:3])) == 3


def test_a_pool_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one engine"):
        EnginePool({})
