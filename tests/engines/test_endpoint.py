"""The endpoint engine with a real server: the requirements of serving, what is sent, and faults."""

import pytest

from curation.commands import serving
from easyvideor1.config import JudgeConfig
from easyvideor1.engines.endpoint import DOWN_AFTER, EndpointEngine, ReplyError, chat_messages
from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.types import ConfigError, DataError, EasyVideoError, Prompt
from tiny import load_frames

from .serving import ServingLaws, requests_for

pytestmark = pytest.mark.model


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def serve(server, tiny_family):
    opened = []

    def open_(load=load_frames, **settings):
        endpoint = JudgeConfig(url=server.url, model="big", **{"concurrency": 2, "retries": 1} | settings)
        opened.append(EndpointEngine(tiny_family, load, endpoint, system="Be brief."))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


class TestServing(ServingLaws):
    pass


def texts(body):
    return [part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text"]


def test_a_request_is_a_chat_completion_per_response(serve, server, prompts):
    said = iter(["one", "two", "three"])
    server.answer = lambda body: (200, next(said))
    sampling = Sampling(0.7, 0.9, 5, 33, stop=("</x>",), presence_penalty=0.5)
    ((*found,),) = generate(serve(concurrency=1), [Request("r", prompts["both"], 3, sampling, 1)])
    assert [trajectory.text for trajectory in found] == ["one", "two", "three"]
    first = server.seen[0]
    assert first == server.seen[1] == server.seen[2]
    settings = {name: value for name, value in first.items() if name not in ("messages", "model")}
    assert settings == {
        "temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_tokens": 33, "stop": ["</x>"], "presence_penalty": 0.5,
    }  # fmt: skip
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    kinds = [part["type"] for part in first["messages"][1]["content"]]
    assert kinds == ["image_url", "text", "image_url", "text", "image_url", "text"]
    assert texts(first) == ["<0.0 seconds>", "<0.5 seconds>", "?"]
    server.answer = lambda body: (200, "aaa")
    generate(serve(), [Request("r", prompts["text"], 1, Sampling(greedy=True, max_new_tokens=4), 1)])
    last = server.seen[-1]
    assert last["temperature"] == 0 and "top_p" not in last and "top_k" not in last


def test_a_response_is_a_turn_without_log_probs(serve, tiny_family, prompts):
    ((trajectory,),) = generate(serve(), requests_for({"text": prompts["text"]}, n=1))
    turn = trajectory.last
    assert (turn.text, turn.finish, turn.logprobs, turn.versions) == ("aaa", "stop", None, None)
    assert turn.response_ids[-1] == tiny_family.stop_token_ids[0]
    assert tiny_family.tokenizer.decode(turn.response_ids[:-1]) == "aaa"


def test_the_responses_that_came_stand_beside_the_fault(serve, server, prompts):
    answers = iter([(200, "aaa"), (400, "too long"), (200, "bbb")])
    server.answer = lambda body: next(answers)
    engine = serve(concurrency=1)
    engine.submit(requests_for({"text": prompts["text"]}, n=3))
    (result,) = finished(engine)
    assert isinstance(result.fault, ReplyError) and result.fault.refused and "too long" in str(result.fault)
    assert [trajectory.text for trajectory in result.trajectories] == ["aaa", "bbb"]
    server.answer = lambda body: (200, None)
    engine.submit(requests_for({"text": prompts["text"]}, n=1))
    (result,) = finished(engine)
    assert isinstance(result.fault, ReplyError) and not result.fault.refused
    assert "in 2 attempts" in str(result.fault) and result.trajectories == ()


def test_an_endpoint_that_is_down_fails_as_an_engine(serve, server, prompts):
    server.answer = lambda body: (503, "starting")
    engine = serve(retries=0)
    requests = [Request(name, prompts["text"], 1, Sampling(), 0) for name in "aaaaaaaabcdefgh"]
    engine.submit(requests)
    results, came = finished(engine), []
    with pytest.raises(EasyVideoError, match=f"failed for {DOWN_AFTER} rows one after the other"):
        came.extend(result.request.id for result in results)
    assert set(came) <= set("abcdef"), "requests with one id count once"
    assert list(finished(engine)) == []
    server.answer = lambda body: (200, "aaa")
    assert generate(engine, requests[:1])


def test_closing_ends_the_retries_that_are_under_way(serve, server, prompts):
    server.answer = lambda body: (200, "aaa") if body["max_tokens"] == 7 else (503, "busy")
    engine = serve(retries=10**6)
    engine.submit([Request("r", prompts["text"], 1, Sampling(max_new_tokens=limit), 0) for limit in (7, 8, 9)])
    assert next(finished(engine)).trajectories[0].text == "aaa"
    engine.close()
    sent = len(server.seen)
    assert list(finished(engine)) == [] and len(server.seen) == sent


def test_weights_cannot_be_updated(serve, server):
    with pytest.raises(ConfigError, match="keeps its own weights"):
        serve().update_weights(1, [])


def test_a_text_without_places_for_its_media_is_refused(prompts):
    longer = Prompt(prompts["image"].token_ids, prompts["image"].media, prompts["image"].plans, text="no placeholder")
    with pytest.raises(DataError, match="cannot be put in their places"):
        chat_messages(longer, load_frames)
