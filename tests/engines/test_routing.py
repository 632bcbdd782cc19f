"""Which of several engines a request goes to."""

import numpy as np
import pytest

from easyvideor1.engines.engine import Request, Sampling
from easyvideor1.engines.routing import PREFILL_PER_NEW, Router
from easyvideor1.types import Prompt
from tiny import make_plan


def prompt_of(*plans, text=40, seed=0):
    ids = np.random.default_rng(seed).integers(0, 250, text + sum(plan.tokens for plan in plans))
    return Prompt(ids, plans=plans)


def video(seed, frames=64):
    return make_plan("video", frames=frames, seed=seed)


def request(prompt, *, n=8, new=100):
    return Request("r", prompt, n, Sampling(max_new_tokens=new), 0)


def assign(router, requests, first=0):
    placed = router.assign(list(enumerate(requests, first)))
    return [placed[ticket] for ticket in range(first, first + len(requests))]


def test_a_window_is_spread_by_tokens_to_be_generated():
    router = Router(range(3), 10**6)
    placed = assign(router, [request(prompt_of(seed=i), n=n) for i, n in enumerate([1, 9, 3, 3, 3, 8, 9, 8, 4, 12])])
    assert set(placed) == {0, 1, 2}
    loads = router.loads().values()
    assert max(loads) < 1.05 * min(loads)


def test_prompts_of_one_video_go_to_one_engine_with_the_whole_window():
    router, videos = Router(range(2), 10**6), [video(i) for i in range(6)]
    requests = [request(prompt_of(videos[i % 6], seed=i)) for i in range(24)]
    placed = assign(router, requests)
    for i in range(6):
        assert len(set(placed[i::6])) == 1
    assert placed.count(0) == placed.count(1) == 12


def test_the_only_video_of_a_window_is_shared_out_between_prompts_and_never_within_one():
    router, prompts = Router(range(2), 10**6), [prompt_of(video(0), seed=i) for i in range(4)]
    requests = [request(prompts[i // 2]) for i in range(8)]  # a greedy baseline beside the samples, say
    placed = assign(router, requests)
    assert placed[::2] == placed[1::2] and placed.count(0) == placed.count(1) == 4
    assert assign(Router(range(2), 10**6), [request(prompt_of(), n=64)] * 3) == [0, 0, 0]


def test_a_later_question_goes_to_the_engine_that_has_its_video_unless_that_is_much_busier():
    router, seen = Router(range(2), 10**6), video(0)
    worth = seen.tokens // PREFILL_PER_NEW
    (home,) = assign(router, [request(prompt_of(seen), n=1)])
    router.done(0)
    # Some load there, but less than the prefill of the video is worth.
    other = request(prompt_of(text=8, seed=9), n=1, new=worth // 2)
    assert assign(router, [other], 1) == [home]  # of two idle engines the first
    assert assign(router, [request(prompt_of(seen, seed=1), n=1, new=worth)], 2) == [home]
    # Now it is busier than that.
    assert assign(router, [request(prompt_of(seen, seed=2), n=1, new=worth)], 3) == [1 - home]


@pytest.mark.parametrize("why", ["weights", "age", "neither"])
def test_caches_are_forgotten_with_the_weights_and_by_age(why):
    seen, busy = video(0), request(prompt_of(text=8, seed=5), n=1, new=1000)
    router = Router(range(2), seen.tokens + 200)
    assert assign(router, [busy, request(prompt_of(seen), n=1)]) == [0, 1]
    if why == "weights":
        router.forget_prefixes()
    elif why == "age":
        assert assign(router, [request(prompt_of(video(1)), n=1)], 2) == [1]
        router.done(2)
    router.done(0), router.done(1)
    assert assign(router, [request(prompt_of(seen, seed=6), n=1)], 3) == [1 if why == "neither" else 0]


@pytest.mark.parametrize("seed", range(5))
def test_loads_return_to_zero_and_a_removed_engine_gets_nothing(seed):
    rng = np.random.default_rng(seed)
    router = Router(range(3), 2000)
    requests = [
        request(prompt_of(*[video(int(i)) for i in rng.integers(0, 5, rng.integers(0, 3))], seed=int(rng.integers(9))))
        for _ in range(40)
    ]
    placed = assign(router, requests)
    router.remove(1)
    for ticket in rng.permutation(40):
        router.done(int(ticket))
    assert set(placed) == {0, 1, 2}
    assert router.loads() == pytest.approx({0: 0, 2: 0}, abs=1e-6)
    assert 1 not in assign(router, requests, 40)
