"""An engine in a process of its own: what happens when the process dies, hangs, or takes other weights."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.packed import Fault, PackedPrompt
from easyvideor1.engines.process import ProcessChannel
from easyvideor1.engines.weights import SharedWeights, WorkerWeights, checksum
from easyvideor1.engines.worker_engine import WorkerEngine
from easyvideor1.engines.worker_messages import Opening, Submit, TorchSettings, WeightsTaken, WorkerMedia
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError, Prompt, RequestFailed, TurnError
from tiny import load_frames, make_plan, make_prompt

from .serving import requests_for, tokens_of

pytestmark = pytest.mark.model

DEADLINE = 5.0


class Starts:
    """Starts worker processes and counts them."""

    def __init__(self) -> None:
        self.channels: list[ProcessChannel] = []

    def __call__(self) -> ProcessChannel:
        self.channels.append(ProcessChannel())
        return self.channels[-1]


def opening(checkpoint: Path, engine: str = "FailingEngine") -> Opening:
    media = partial(WorkerMedia, load_frames)
    return Opening(
        f"engines.failing_engines:{engine}", checkpoint, ModelConfig(), 65536, media, TorchSettings.of_this_process()
    )


@pytest.fixture(scope="module")
def starts():
    return Starts()


@pytest.fixture(scope="module")
def engine(tiny_checkpoint, starts):
    """One engine for all tests: what one has done to it must not trouble the next."""
    engine = WorkerEngine(opening(tiny_checkpoint), starts, deadline=DEADLINE)
    yield engine
    pid = engine.ready().pid
    engine.close()
    engine.close()
    assert not is_running(pid)


@pytest.fixture
def weights(tiny_model):
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return dict(tiny_model.named_parameters())


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@contextmanager
def changes(engine, **expected):
    """Checks by how much counters grow."""
    before = engine.stats()
    yield
    after = engine.stats()
    assert {name: after[name] - before[name] for name in expected} == expected


def named(name, prompts, *, n=1, max_new_tokens=4):
    return Request(name, prompts["text"], n, Sampling(max_new_tokens=max_new_tokens), 1)


def test_a_worker_that_is_killed_is_replaced_and_finishes_what_it_had_with_the_latest_weights(
    engine, prompts, weights, starts
):
    first = tokens_of(generate(engine, requests_for(prompts, max_new_tokens=150)))
    engine.update_weights(4, weights.items())
    whole = generate(engine, requests_for(prompts, max_new_tokens=150))
    assert tokens_of(whole) != first
    with changes(engine, restarts=2.0):
        pid = engine.ready().pid
        tickets = engine.submit(requests_for(prompts, max_new_tokens=150))
        os.kill(pid, signal.SIGKILL)  # at once: a result later it may have finished
        results, came = engine.results(), []
        while len(starts.channels) < 2:
            came.append(next(results))
        os.kill(starts.channels[1].pid, signal.SIGKILL)  # the next one, too, before it is ready
        found = {result.ticket: result for result in (*came, *results) if result is not None}
    assert len(starts.channels) == 3 and engine.stats()["resent"] >= 1
    assert [found[ticket].fault for ticket in tickets] == [None] * len(tickets)
    assert tokens_of([found[ticket].trajectories for ticket in tickets]) == tokens_of(whole)
    assert {version for each in found.values() for t in each.trajectories for version in t.last.versions} == {4}
    assert engine.version == 4


def test_a_request_that_is_lost_twice_fails_with_what_the_worker_printed(engine, prompts):
    with changes(engine, restarts=2.0, resent=1.0):
        engine.submit([named("die", prompts)])
        (result,) = finished(engine)
    assert isinstance(result.fault, RequestFailed) and result.trajectories == ()
    for part in ("request 'die'", "twice", "SIGKILL", "about to die"):
        assert part in str(result.fault)
    (after,) = generate(engine, [named("after", prompts)])
    assert set(after[0].last.versions) == {engine.version}


def test_a_worker_that_hangs_is_killed_after_the_deadline(engine, prompts):
    expected = tokens_of(generate(engine, requests_for(prompts)))
    pid = engine.ready().pid
    os.kill(pid, signal.SIGSTOP)
    with changes(engine, restarts=1.0, resent=4.0, timed_out=0.0):
        assert tokens_of(generate(engine, requests_for(prompts))) == expected
    assert not is_running(pid) and engine.ready().pid != pid


def test_a_request_that_takes_longer_than_the_deadline_is_cancelled_alone(engine, prompts):
    pid = engine.ready().pid
    with changes(engine, restarts=0.0, timed_out=1.0):
        engine.submit([named("slow", prompts)])
        late = [result.fault for result in finished(engine)]
        assert isinstance(late[0], RequestFailed) and "'slow' took longer than rollout.deadline = 5 s" in str(late[0])
        assert len(generate(engine, [named("after", prompts)])) == 1
    assert engine.ready().pid == pid


def test_idle_time_is_no_silence(engine, prompts):
    engine._heard -= 100 * DEADLINE  # as if the trainer had been busy elsewhere
    with changes(engine, restarts=0.0):
        engine.sleep()
        engine._heard -= 100 * DEADLINE
        engine.update_weights(engine.version, [])
        engine._heard -= 100 * DEADLINE
        generate(engine, [named("after", prompts)])


def test_a_request_that_can_never_fit_is_not_sent(engine, tiny_family, prompts):
    long = make_prompt(tiny_family, "word " * 1000)
    tickets = engine.submit([Request("long", long, 1, Sampling(max_new_tokens=4), 0), named("short", prompts)])
    found = {result.ticket: result.fault for result in finished(engine)}
    assert isinstance(found[tickets[0]], DataError) and "the engine takes 1000" in str(found[tickets[0]])
    assert found[tickets[1]] is None


def test_weights_that_are_not_taken_as_they_were_sent_are_refused_by_name(engine, prompts, weights):
    names = sorted(list(weights)[2:])  # the third is given, and then no more is asked for
    engine.update_weights(12, weights.items())
    with pytest.raises(EasyVideoError, match="version 13") as error:
        engine.update_weights(13, weights.items())
    assert names[0] in str(error.value) and f"took {len(names)} tensors otherwise" in str(error.value)
    assert engine.version == 12
    engine.submit([named("after", prompts)])
    with pytest.raises(EasyVideoError, match=r"version 13 did not come through.*update the engine's weights again"):
        list(finished(engine))
    assert list(finished(engine)) == []
    with pytest.raises(ConfigError, match=r"'lm_head\.weight' twice"):
        engine.update_weights(14, [("lm_head.weight", torch.zeros(2)), ("lm_head.weight", torch.zeros(2))])
    engine.update_weights(14, [])  # the tensors are right here: the worker is sent all of them once more
    assert engine.version == 14 and len(generate(engine, [named("after", prompts)])) == 1


def test_what_an_engine_raises_when_it_is_given_requests_is_their_fault_alone(engine, prompts):
    pid = engine.ready().pid
    engine.submit([named("refused", prompts), named("with it", prompts)])
    engine.submit([named("fine", prompts)])
    faults = {result.request.id: result.fault for result in finished(engine)}
    assert isinstance(faults["refused"], DataError) and isinstance(faults["with it"], DataError)
    assert faults["fine"] is None and engine.ready().pid == pid


def test_partial_of_a_request_whose_engine_fails_meanwhile(engine, prompts):
    (ticket,) = engine.submit([named("fail", prompts, n=2)])
    for _ in range(2):  # the first waits while the engine fails, or the second comes after it
        assert engine.partial(ticket) == [[], []]
    with pytest.raises(EasyVideoError, match="the engine fails"):
        list(finished(engine))
    with pytest.raises(KeyError):
        engine.partial(ticket)


def test_partial_of_a_request_whose_engine_has_failed(engine, prompts):
    """Nobody has been told yet."""
    (ticket,) = engine.submit([named("fail", prompts, n=2)])
    while engine._error is None:
        assert engine.arrived() == []
        time.sleep(0.01)
    assert engine.partial(ticket) == [[], []]
    with pytest.raises(EasyVideoError, match="the engine fails"):
        list(finished(engine))
    with pytest.raises(KeyError):
        engine.partial(ticket)


def test_what_an_engine_raises_for_cancelled_requests_does_not_trouble_later_ones(engine, prompts):
    (ticket,) = engine.submit([named("fail", prompts)])
    for _ in range(2):  # the error has come after the second
        engine.partial(ticket)
    engine.cancel([ticket])
    assert len(generate(engine, [named("after", prompts)])) == 1
    (ticket,) = engine.submit([named("fail", prompts)])
    engine.cancel([ticket])  # before the engine fails, or before its error comes
    assert len(generate(engine, [named("after", prompts)])) == 1


def test_a_message_that_cannot_be_read_is_a_death_and_no_silence(engine, prompts):
    with changes(engine, restarts=2.0):
        engine.submit([named("unreadable", prompts)])
        (result,) = finished(engine)
    assert isinstance(result.fault, RequestFailed) and "ValueError: no such class here" in str(result.fault)
    assert len(generate(engine, [named("after", prompts)])) == 1


def test_processes_that_an_engine_started_end_with_it(engine, prompts, tmp_path):
    generate(engine, [named(f"child {tmp_path / 'pid'}", prompts)])
    child = int((tmp_path / "pid").read_text())
    assert is_running(child)
    os.kill(engine.ready().pid, signal.SIGKILL)
    assert len(generate(engine, [named("after", prompts)])) == 1
    assert not is_running(child)


def test_an_update_whose_tensors_fail_leaves_the_worker_as_it_is(engine, prompts, weights):
    before, version = tokens_of(generate(engine, requests_for(prompts))), engine.version

    def broken():
        yield next(iter(weights.items()))
        raise RuntimeError("no such shard")

    with pytest.raises(RuntimeError, match="no such shard"):
        engine.update_weights(version + 1, broken())
    assert engine.version == version and tokens_of(generate(engine, requests_for(prompts))) == before
    engine.update_weights(version + 1, weights.items())


def test_an_engine_that_dies_at_start_is_an_error_and_no_loop(tiny_checkpoint):
    starts = Starts()
    engine = WorkerEngine(opening(tiny_checkpoint, "EngineThatDoesNotStart"), starts)
    try:
        with pytest.raises(
            EasyVideoError, match=r"(?s)before it was ready: exit status 1.*RuntimeError: no such kernel"
        ):
            engine.ready()
        assert len(starts.channels) == 1
    finally:
        engine.close()


def test_a_worker_ends_with_its_trainer_also_while_it_hangs():
    code = (
        "from easyvideor1.engines.process import ProcessChannel; import time; "
        "print(ProcessChannel().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pid = int(trainer.stdout.readline())
        limit = time.monotonic() + 60
        while len(list(Path(f"/proc/{pid}/task").iterdir())) < 2:  # a thread watches: it is all set up
            assert time.monotonic() < limit and is_running(pid)
            time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
        trainer.kill()
    while is_running(pid):
        assert time.monotonic() < limit
        time.sleep(0.01)


# -- what needs no process


def test_prompts_and_windows_are_as_they_were_after_the_journey(tiny_family, prompts):
    whole = [*prompts.values(), make_prompt(tiny_family, "<image><image>?", *[make_plan("image", seed=7)] * 2)]
    empty = Prompt(np.zeros(0, dtype=np.int64))
    for prompt in (*whole, empty):
        again = pickle.loads(pickle.dumps(PackedPrompt.of(prompt))).unpacked()
        assert again.token_ids.dtype == np.int64 and again.token_ids.tolist() == prompt.token_ids.tolist()
        assert (again.media, again.plans, again.spans) == (prompt.media, prompt.plans, prompt.spans)
        assert (again.text, again.opens_thinking) == (prompt.text, prompt.opens_thinking)
    video = prompts["video"]
    assert len(PackedPrompt.of(video).ids) < len(video) - sum(span.length - 1 for span in video.spans) + 1
    requests = {3: named("a", prompts), 9: named("b", prompts, n=2), 5: Request("c", video, 1, Sampling(), 2**70)}
    again = pickle.loads(pickle.dumps(Submit.of(requests))).unpacked()
    assert list(again) == [3, 9, 5] and again[3].prompt is again[9].prompt is not again[5].prompt
    assert [(each.id, each.n, each.sampling, each.seed) for each in again.values()] == [
        (each.id, each.n, each.sampling, each.seed) for each in requests.values()
    ]


def test_faults_keep_their_kind():
    class OwnError(DataError):
        def __init__(self) -> None:
            super().__init__("own")

    for error, kind in (
        (MediaError("gone", path="a.mp4", reason="missing"), MediaError),
        (TurnError("turn"), TurnError),
        (OwnError(), DataError),
        (EasyVideoError("plain"), EasyVideoError),
    ):
        again = pickle.loads(pickle.dumps(Fault.of(error))).error()
        assert type(again) is kind and str(again) == str(error)
    assert isinstance(again := Fault.of(MediaError("x", path="p", reason="r")).error(), MediaError)
    assert (again.path, again.reason) == ("p", "r")


TENSORS = {
    "matrix": torch.randn(300, 200),
    "turned": torch.randn(7, 5).T,
    "number": torch.tensor(3.0),
    "empty": torch.empty(0, 4),
    "half": torch.randn(13).bfloat16(),
    "part": torch.randn(9)[1:],
    "long": torch.arange(1 << 18),
}


def test_shared_weights_are_read_as_they_were_written_and_buffers_are_used_again():
    shared = SharedWeights()
    try:
        places = []
        for factor in (1, 2):
            sent = {name: tensor * factor for name, tensor in TENSORS.items()}
            assert shared.write(sent.items()) == list(sent)
            source = pickle.loads(pickle.dumps(shared.source()))
            read = {name: tensor.clone() for name, tensor in source.read()}
            assert read.keys() == sent.keys()
            assert all(torch.equal(read[name], sent[name]) and read[name].dtype == sent[name].dtype for name in sent)
            assert {name: checksum(name, tensor) for name, tensor in read.items()} == shared.checksums
            places.append({name: slot.start for name, slot in source.slots.items()})
        assert places[0] == places[1]
        shared.write([("number", torch.zeros(1 << 23))])  # another form, beyond the present end
        read = {name: tensor.clone() for name, tensor in shared.source(["number", "half"]).read()}
        assert read["number"].shape == (1 << 23,) and torch.equal(read["half"], TENSORS["half"] * 2)
    finally:
        shared.close()
        shared.close()


def test_weights_that_one_engine_took_and_another_refused_are_known_as_lost():
    tensors = [("w", torch.ones(4))]
    for takes_first in (True, False):
        shared = SharedWeights()
        takes, refuses, silent = (WorkerWeights(shared) for _ in range(3))
        names = shared.write(tensors)
        for worker in (takes, refuses, silent):
            worker.begin(1)
            worker.message(names)
        answers = [
            (takes, WeightsTaken(1, dict(shared.checksums))),
            (refuses, WeightsTaken(1, {}, Fault("ConfigError", "of another model"))),
        ]
        for worker, answer in answers if takes_first else reversed(answers):
            with suppress(ConfigError):
                worker.take(answer)
        assert takes.version == 1 and "of another model" in refuses.refusal
        for worker in (takes, silent):  # a worker that takes its place has the weights of the checkpoint
            assert worker.again() is None and "they are lost" in worker.refusal
        assert shared.write([("other", torch.ones(2))]) == ["other"]
        with pytest.raises(ConfigError, match="update all of them"):
            takes.begin(2)
        shared.close()


def test_other_bytes_in_one_worker_cost_no_other_its_weights():
    shared = SharedWeights()
    fine, wrong = WorkerWeights(shared), WorkerWeights(shared)
    names = shared.write([("w", torch.ones(4))])
    for worker in (fine, wrong):
        worker.begin(1)
        worker.message(names)
    fine.take(WeightsTaken(1, dict(shared.checksums)))
    with pytest.raises(EasyVideoError, match="otherwise than they were"):
        wrong.take(WeightsTaken(1, {"w": 5}))
    again = fine.again()
    assert again is not None and again.version == 1 and fine.refusal == ""
    assert [(name, tensor.tolist()) for name, tensor in again.source.read()] == [("w", [1.0] * 4)]
    shared.close()


def test_checksums_show_every_kind_of_difference():
    tensor = torch.randn(1 << 18)
    swapped, flipped = tensor.clone(), tensor.clone()
    swapped[[5, 200_000]] = swapped[[200_000, 5]]
    flipped.view(torch.uint8)[-1] ^= 1
    sums = [
        checksum("a", tensor),
        checksum("b", tensor),
        checksum("a", tensor.reshape(2, -1)),
        checksum("a", tensor.view(torch.int32)),
        checksum("a", swapped),
        checksum("a", flipped),
        checksum("a", tensor[:-1]),
    ]
    assert len(set(sums)) == len(sums) and checksum("a", tensor.clone()) == sums[0]
