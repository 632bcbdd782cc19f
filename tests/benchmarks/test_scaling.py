"""The simulation of large clusters: what must hold whatever the costs are."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks.scaling_cluster import Cluster, Setting, draw, forward_operations
from benchmarks.scaling_costs import Controller, Hardware, Model, Workload
from benchmarks.scaling_events import Clock, Decoding, Engine, Job, Link, Reader, Servers
from benchmarks.scaling_step import simulate
from benchmarks.scaling_trainer import UPDATE, shares, units

from easyvideor1.packing.balance import Costs

MODEL = Model(Costs(1.4e10, 5.9e5, 1.2e9, 9e8, 1.2e5), 8.8e9, 36, 147_456.0, 1.2e9)
NOTHING = Controller(call_bytes=0, again_bytes=0, pack=0, unpack=0, plan=0, score=0, line=1e18, read=1e18, result=0)
COSTLY = Controller(call_bytes=2e4, again_bytes=2e3, pack=1e-4, unpack=1e-4, plan=2e-4, score=1e-4, line=4e8, read=5e8)
EVEN = Workload(prompts=64, least=1.0, spread=0.0)
FAST: dict[str, Any] = {
    "uneven": 0.0,
    "store": 1e18,
    "store_per_node": 1e18,
    "hop_in_node": 0.0,
    "hop_between_nodes": 0.0,
}

#: Nothing takes time but reading.
READING: dict[str, Any] = {
    **dict.fromkeys(("arithmetic", "memory", "ring_in_node", "through_cpu"), 1e30),
    **dict.fromkeys(("step_overhead", "uneven", "hop_in_node"), 0.0),
}


def test_flows_share_a_link_and_none_gets_more_than_its_most() -> None:
    clock = Clock()
    ends: dict[str, float] = {}
    link = Link(clock, rate=10.0, most=8.0)
    link.read(16.0, lambda: ends.setdefault("short", clock.now))
    link.read(40.0, lambda: ends.setdefault("long", clock.now))
    clock.after(1.0, lambda: link.read(5.0, lambda: ends.setdefault("late", clock.now)))
    clock.run()
    # One second at 5 each; then three at 10/3 until the late one has its 5; then 5 each; the last alone at 8.
    assert ends["late"] == pytest.approx(2.5)
    assert ends["short"] == pytest.approx(2.5 + (16 - 5 - 5) / 5)
    assert ends["long"] == pytest.approx(3.7 + (40 - 16) / 8)
    assert link.bytes == 61.0


def test_a_process_reads_one_video_at_a_time() -> None:
    clock = Clock()
    link, ends = Link(clock, rate=10.0, most=2.0), []
    readers = [Reader(link), Reader(link)]
    for reader, sizes in zip(readers, ((4.0, 6.0), (5.0,)), strict=True):
        for size in sizes:
            reader.read(size, lambda: ends.append(clock.now))
    clock.run()
    assert ends == [2.0, 2.5, 5.0]


@pytest.mark.parametrize(("gpus", "rate"), [(1, 0.46e9), (8, 8 * 0.46e9)])
def test_no_node_reads_faster_than_its_processes(gpus: int, rate: float) -> None:
    """With arithmetic and decoding for nothing, a step is reading: each video three times, as fast as processes can."""
    workload = replace(EVEN, median=1.0)
    hardware = Hardware(gpus, **READING)
    found = simulate(MODEL, hardware, workload, replace(NOTHING, read=0.46e9), Setting(steps=3))
    size = workload.prompts * workload.video_tokens * workload.bytes_per_token
    assert found.seconds == pytest.approx(3 * size / rate, rel=1e-6)


def test_the_share_of_a_node_in_the_store_is_its_limit() -> None:
    workload = replace(EVEN, median=1.0)
    hardware = Hardware(8, **READING)
    found = simulate(MODEL, hardware, workload, NOTHING, Setting(steps=3))
    size = workload.prompts * workload.video_tokens * workload.bytes_per_token
    assert found.seconds == pytest.approx(3 * size / hardware.store_per_node, rel=1e-6)


@pytest.mark.parametrize(("gpus", "share"), [(8, 0.375), (8, 0.5), (32, 0.375), (32, 0.5)])
def test_a_step_ahead_is_in_a_steady_state(gpus: int, share: float) -> None:
    workload = Workload(prompts=8 * gpus)
    few, many = (
        simulate(MODEL, Hardware(gpus), workload, COSTLY, Setting(1, share, steps=steps)).seconds for steps in (24, 48)
    )
    assert few == pytest.approx(many, rel=0.03)


@pytest.mark.parametrize("gpus", [8, 32])
def test_new_weights_go_through_the_cpu_to_engines_on_the_gpus_of_ranks(gpus: int) -> None:
    hardware = Hardware(gpus)
    together, apart = (
        Cluster(MODEL, hardware, EVEN, NOTHING, Setting(staleness)).new_weights() for staleness in (0, 1)
    )
    assert together > 2 * MODEL.parameters / hardware.through_cpu
    assert apart < 2 * MODEL.parameters / hardware.card + 1.0


def test_layers_are_gathered_in_bfloat16_and_gradients_summed_in_float32() -> None:
    hardware = Hardware(8, hop_in_node=0.0)
    cluster = Cluster(MODEL, hardware, EVEN, NOTHING, Setting())
    moved = (MODEL.parameters - MODEL.whole) * 7 / 8 / hardware.ring_in_node
    assert cluster.pass_gathers(backward=False) == pytest.approx(2 * moved)
    assert cluster.pass_gathers(backward=True) == pytest.approx((2 + 2 + 4) * moved)


def test_clusters_of_any_size_have_the_same_work_per_prompt_and_are_equally_fast() -> None:
    def mean(prompts: int, step: int) -> float:
        workload = Workload(prompts=prompts)
        found = units(MODEL, workload, *draw(workload, 0, step), 1)
        return sum(unit.forward for unit in found) / prompts

    works = [mean(prompts, step) for prompts in (8, 64, 2048) for step in (0, 1)]
    assert max(works) / min(works) < 1.01
    speeds = [Cluster(MODEL, Hardware(gpus), EVEN, NOTHING, Setting()).rank_slowness.mean() for gpus in (1, 8, 1024)]
    assert max(speeds) / min(speeds) < 1.01


def test_servers_take_one_work_each() -> None:
    clock, ends = Clock(), []
    servers = Servers(clock, 2)
    for seconds in (3.0, 1.0, 1.5):
        servers.take(seconds, lambda: ends.append(clock.now))
    clock.run()
    assert ends == [1.0, 2.5, 3.0] and servers.busy == 5.5


def test_steps_of_decoding_add_up_however_they_are_cut() -> None:
    one = Decoding(weights=3.0, per_token=0.25, per_response=0.0, overhead=1.0)
    cut = one.steps(3, 10.0, 2) + one.steps(5, 10.0 + 3 * 2, 2)
    assert one.steps(8, 10.0, 2) == pytest.approx(cut)
    assert one.steps(1, 10.0, 2) == 3.0 + 2.5 + 1.0
    assert Decoding(1.0, 0.0, 4.0).steps(2, 0.0, 3) == 24.0  # arithmetic of three responses


def test_an_engine_admits_what_its_cache_has_room_for() -> None:
    clock, ends = Clock(), []
    engine = Engine(clock, Decoding(1.0, 0.0, 0.0), 1.0, 100.0, lambda job: ends.append((clock.now, job.step)))
    for step in range(2):
        engine.add(Job(step, context=50.0, size=0.0, prefill=10.0, lengths=[5, 7], room=60.0))
    clock.run()
    # The second is prefilled when the first has ended: both together would need 120.
    assert ends == [(15.0, 0), (17.0, 0), (32.0, 1), (34.0, 1)]
    assert engine.tokens == 24


@pytest.mark.parametrize("gpus", [1, 4, 64])
def test_without_variance_a_step_is_what_the_formula_says(gpus: int) -> None:
    """Equal videos, equal responses, equal GPUs, nothing in between: every engine and rank has ``k`` prompts."""
    hardware = Hardware(gpus, cache=1e15, **FAST)
    cluster = Cluster(MODEL, hardware, EVEN, NOTHING, Setting())
    found = simulate(MODEL, hardware, EVEN, NOTHING, Setting(steps=3))
    k, context = EVEN.prompts // gpus, EVEN.video_tokens + EVEN.text_tokens
    prefill = forward_operations(MODEL, EVEN, EVEN.video_tokens, [], logits=False) / hardware.arithmetic
    responses = k * EVEN.group
    generation = k * prefill + cluster.decoding().steps(450, responses * context, responses)
    forward = forward_operations(MODEL, EVEN, EVEN.video_tokens, [450.0] * EVEN.group, logits=True)
    passes = k * (1 + UPDATE) * forward / hardware.arithmetic
    assert found.phases["generation"] == pytest.approx(generation, rel=1e-9)
    assert found.phases["passes"] == pytest.approx(passes, rel=1e-9)
    assert found.seconds == pytest.approx(generation + passes + cluster.optimizer() + cluster.new_weights(), rel=1e-6)


def test_in_the_ideal_case_more_gpus_are_never_slower() -> None:
    seconds = []
    for gpus in (1, 2, 4, 8, 16, 32, 64, 128, 512):
        hardware = Hardware(gpus, ring_in_node=1e18, ring_between_nodes=1e18, through_cpu=1e18, **FAST)
        seconds.append(simulate(MODEL, hardware, EVEN, NOTHING, Setting(split=True, steps=2)).seconds)
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(seconds))
    assert seconds[0] / seconds[3] > 7  # nearly eight times as fast on eight


@pytest.mark.parametrize("staleness", [0, 1])
def test_work_is_conserved(staleness: int) -> None:
    workload, hardware = Workload(prompts=24), Hardware(16, uneven=0.0)
    setting = Setting(staleness, steps=3)
    found = simulate(MODEL, hardware, workload, COSTLY, setting)
    drawn = [draw(workload, setting.seed, step) for step in range(setting.steps)]
    assert found.tokens == sum(int(lengths.sum()) for _, lengths in drawn)
    assert found.scored == setting.steps * workload.prompts * workload.group
    # Each video is read once to generate, once to score and once to update.
    frames = sum(float(video.sum()) * workload.bytes_per_token for video, _ in drawn)
    assert found.read_bytes == pytest.approx(3 * frames)
    ranks = Cluster(MODEL, hardware, workload, COSTLY, setting).ranks
    parts = [shares(units(MODEL, workload, *each, ranks), ranks) for each in drawn]
    forward = sum(unit.forward for part in parts for own in part for unit in own)
    assert found.ranks_seconds == pytest.approx((1 + UPDATE) * forward / hardware.arithmetic)


def test_the_phases_of_a_step_are_the_step() -> None:
    for staleness in (0, 1):
        found = simulate(MODEL, Hardware(32), Workload(prompts=64), COSTLY, Setting(staleness))
        assert sum(found.phases.values()) == pytest.approx(found.seconds, rel=1e-6)


def test_a_step_ahead_the_trainer_waits_less_for_the_longest_responses() -> None:
    workload = Workload(prompts=64)
    waits = [
        simulate(MODEL, Hardware(32), workload, NOTHING, Setting(staleness)).phases["generation"]
        for staleness in (0, 1)
    ]
    assert waits[1] < 0.5 * waits[0]


def test_calls_of_one_process_grow_with_samples_and_not_with_ranks() -> None:
    def called(gpus: int, prompts: int, *, first: bool = True) -> float:
        workload = Workload(prompts=prompts)
        return Cluster(MODEL, Hardware(gpus), workload, COSTLY, Setting()).call(prompts * workload.group, first=first)

    planned = 80 * (1e-4 + 2e-4)  # and packed
    assert called(8, 10) == pytest.approx(planned + 80 * 7 / 8 * 2e4 / 4e8 + 10 * 1e-4)
    assert called(8, 10, first=False) == pytest.approx(planned + 80 * 7 / 8 * (2e3 + 7 / 8 * 2e4) / 4e8 + 10 * 1e-4)
    assert called(1000, 20) == pytest.approx(2 * called(1000, 10)) == pytest.approx(2 * called(500, 10), rel=0.01)
    assert called(1, 10) == 80 * 2e-4, "planned alone"


def test_units_have_all_responses_and_fill_the_ranks() -> None:
    workload = Workload(prompts=4)
    video, lengths = draw(workload, 0, 0)
    for ranks, count in ((2, 4), (8, 8), (512, 32)):
        found = units(MODEL, workload, video, lengths, ranks)
        assert len(found) == count
        prompts = float(np.sum(video)) + 4 * workload.text_tokens
        assert sum(unit.tokens for unit in found) == pytest.approx(prompts * count / 4 + lengths.sum())
        assert sorted(map(len, shares(found, ranks)))[-1] == -(-count // ranks)
