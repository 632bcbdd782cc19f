"""A server under load and at its end: streams, clients that leave, limits of time and number, failures."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from easyvideor1.serving.service import ServerLimits

from .own_engine import SAYING, Slow
from .servers import data_url, error_of, running, said, streamed, text, user, video

pytestmark = pytest.mark.model

LIMITS = ServerLimits(requests=9, seconds=3.0)


@pytest.fixture(scope="module")
def slow(world, config, tmp_path_factory):
    """An engine with pauses, which says what it has so far."""
    rollout = config.rollout.model_copy(update={"engine": "serving.own_engine:Slow", "max_new_tokens": 30})
    scratch = tmp_path_factory.mktemp("slow")
    own = config.model_copy(update={"rollout": rollout})
    with running(own, world.checkpoint, scratch, limits=LIMITS, roots=(world.home,)) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh():
    Slow.cancelled.clear()
    Slow.windows.clear()
    Slow.seconds = 0.01


def cancelled():
    """The tickets that the engine was told to drop, which it is at its next pause."""
    until = time.monotonic() + 5
    while not Slow.cancelled and time.monotonic() < until:
        time.sleep(0.01)
    return Slow.cancelled


def ask(server, **fields):
    body = {"messages": [user("?")], **fields}
    return server.client.build_request("POST", "/v1/chat/completions", json=body)


def test_a_stream_grows_by_whole_characters(slow):
    events = slow.events("?", max_tokens=60)
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == said(slow.chat("?", max_tokens=60))[0]
    assert sum(map(bool, pieces)) > 10, "it came in many pieces"
    assert not any("\ufffd" in piece for piece in pieces[:-2]) and {"日", "🎈", "ß"} <= set(pieces)


def test_pieces_come_while_the_response_grows(slow):
    Slow.seconds = 0.05
    with slow.client.stream("POST", "/v1/chat/completions", content=ask(slow, stream=True, max_tokens=20).content,
                            headers={"Content-Type": "application/json"}) as response:  # fmt: skip
        times = [time.monotonic() for _ in response.iter_raw()]
    assert len(times) > 5 and times[-1] - times[1] > 0.3


def test_several_responses_stream_side_by_side(slow):
    whole = SAYING[: len(SAYING) // 2]
    first, second = streamed(slow.events("?", n=2, max_tokens=40))
    assert first == second and first.startswith(whole[:5])


def test_a_stream_ends_before_a_stop_string(slow):
    pieces = [e["choices"][0]["delta"].get("content", "") for e in slow.events("?", max_tokens=60, stop=["🎈"])]
    assert "".join(pieces) == SAYING[: SAYING.index("🎈")]


def test_requests_that_come_meanwhile_run_together(slow):
    Slow.seconds = 0.02
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda n: said(slow.chat("?", max_tokens=30)), range(8)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert time.monotonic() - began < 4 * 30 * 0.02, "eight in turn would take twice as long"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_request(slow, stream):
    Slow.seconds = 0.05

    async def leave():
        async with httpx.AsyncClient(base_url=slow.url) as client:
            body = {"messages": [user("?")], "max_tokens": 400, "stream": stream}
            task = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await asyncio.sleep(0.4)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert slow.idle() and len(cancelled()) == 1
    assert said(slow.chat("?", max_tokens=2))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_a_deadline(slow, stream):
    Slow.seconds = 0.3
    if not stream:
        assert error_of(slow.chat("?", max_tokens=400), 503)["code"] == "timeout"
    else:
        events = slow.events("?", max_tokens=400)
        assert events[-1]["error"]["code"] == "timeout" and len(events) > 3
    assert slow.idle() and len(cancelled()) == 1


def test_more_requests_than_places_are_told_to_come_back(slow):
    Slow.seconds = 0.02
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: slow.chat("?", max_tokens=40), range(20)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) <= 11
    for answer in refused:
        assert error_of(answer, 429)["code"] == "queue_full" and answer.headers["Retry-After"] == "1"
    assert slow.idle()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_fails_leaves_the_others_alone(slow, stream):
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(slow.chat, "?", max_tokens=40)
        response = slow.chat("[refuse]", stream=stream)
        assert error_of(response, 400)["message"] == "not this one", "a status, as nothing had been streamed"
        assert said(other.result())


def test_an_engine_that_fails_is_told_and_used_again(slow, caplog):
    other = threading.Thread(target=slow.chat, args=("?",), kwargs={"max_tokens": 300}, daemon=True)
    other.start()
    time.sleep(0.2)
    assert error_of(slow.chat("[fail]"), 503)["code"] == "engine_failed"
    other.join(5)
    assert not other.is_alive(), "it was told, too"
    assert len(Slow.cancelled) == 2, "what was given up is computed no more"
    assert slow.client.get("/health").status_code == 200, "one failure keeps no load balancer away"
    for _ in range(2):
        assert error_of(slow.chat("[fail]"), 503)["code"] == "engine_failed"
    health = slow.client.get("/health")
    assert health.status_code == 503 and "secret" not in health.text
    assert said(slow.chat("?", max_tokens=2))
    assert slow.client.get("/health").status_code == 200
    assert "out of order in /secret/place" in caplog.text


def test_an_engine_that_failed_long_ago_is_tried_again(slow, monkeypatch):
    from easyvideor1.serving import engine_thread

    for _ in range(3):
        error_of(slow.chat("[fail]"), 503)
    assert slow.client.get("/health").status_code == 503
    monkeypatch.setattr(engine_thread, "_FAILURE_SECONDS", 0.0)
    assert slow.client.get("/health").status_code == 200
    assert said(slow.chat("?", max_tokens=1))


def test_streams_whose_state_is_slow_to_come_hold_up_nobody(slow, monkeypatch):
    """Each of them waits for a pause of an engine in another process."""
    quick = Slow.partial

    def late(engine, ticket):
        time.sleep(0.03)
        return quick(engine, ticket)

    monkeypatch.setattr(Slow, "partial", late)
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda n: slow.events("?", max_tokens=12), range(8)))
    assert time.monotonic() - began < 12 * 8 * 0.03 * 0.8, "all streams at each pause take longer"
    assert all(sum(bool(e["choices"][0]["delta"].get("content")) for e in each) > 1 for each in answers), "in turn"


def test_a_request_that_times_out_while_it_runs_gives_place_and_directory_back(slow, clip):
    Slow.seconds = 0.3
    assert error_of(slow.chat([video(data_url(clip)), text("?")], max_tokens=400), 503)["code"] == "timeout"
    assert slow.idle() and not list(slow.service.scratch.glob("request-*"))


def test_counters_of_the_engine_are_metrics(slow):
    said(slow.chat("?", max_tokens=2))
    assert "evr1_engine_new_tokens " in slow.client.get("/metrics").text


def test_a_file_that_hangs_keeps_nobody_waiting(world, config, tmp_path, clip):
    """A pipe is no regular file; a slow one that decodes for ever runs into the deadline of decoding."""
    import os

    pipe = world.home / "pipe.mp4"
    if not pipe.exists():
        os.mkfifo(pipe)
    with running(config, world.checkpoint, tmp_path, roots=(world.home,)) as server, ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(server.chat, [video(pipe), text("?")])
        assert said(server.chat([video(clip), text("?")], max_tokens=1))
        assert error_of(hanging.result(timeout=10), 400)["code"] == "invalid_media"


def test_a_client_that_sends_half_a_body_and_leaves(slow):
    import socket

    body = json.dumps({"messages": [user("?")]}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    for sent in (head, head + body[:10], head[:20]):
        with socket.create_connection(("127.0.0.1", slow.port)) as connection:
            connection.sendall(sent)
            time.sleep(0.05)
    assert slow.idle() and said(slow.chat("?", max_tokens=1))


def test_a_client_that_never_reads_keeps_no_place(slow, monkeypatch):
    import socket

    from easyvideor1.serving import app

    monkeypatch.setattr(app, "LAST_WORDS_SECONDS", 0.3)
    Slow.seconds = 0.0005
    body = json.dumps({"messages": [user("?")], "stream": True, "max_tokens": 2000, "n": 8}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", slow.port))
        began = time.monotonic()
        deaf.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.5)
        assert slow.service.active == 1
        assert slow.idle() and time.monotonic() - began > LIMITS.seconds - 1, "it waited until the deadline"
    assert said(slow.chat("?", max_tokens=1))
