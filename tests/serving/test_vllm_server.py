"""The same server over vLLM: the answers of the local engine, in pieces, many at a time."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .servers import data_url, error_of, running, said, streamed, text, user, video

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def vllm(world, config, tmp_path_factory):
    """One start of vLLM for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        rollout = config.rollout.model_copy(update={"engine": "vllm"})
        scratch = tmp_path_factory.mktemp("vllm")
        with running(config.model_copy(update={"rollout": rollout}), world.checkpoint, scratch) as server:
            yield server


def test_greedy_answers_and_log_probs_are_those_of_the_local_engine(vllm, server, clip):
    content, fields = [video(data_url(clip)), text("\nWhat moves?")], {"temperature": 0, "max_tokens": 20}
    ours, theirs = (each.chat(content, logprobs=True, **fields).json() for each in (server, vllm))
    assert ours["usage"] == theirs["usage"]
    (first,), (second,) = ours["choices"], theirs["choices"]
    assert first["message"] == second["message"]
    for one, other in zip(first["logprobs"]["content"], second["logprobs"]["content"], strict=True):
        assert one["token"] == other["token"] and one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
    events = vllm.events(content, **fields)
    assert streamed(events) == [first["message"]["content"]] and len(events) > 5


def test_eight_clients_run_together(vllm):
    def ask(number):
        return said(vllm.chat(f"Question {number}", temperature=0, max_tokens=30))

    alone = [ask(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == alone
    assert len(said(vllm.chat("?", n=3, seed=4, max_tokens=5, presence_penalty=0.5))) == 3


def test_what_vllm_cannot_do_is_a_refusal_of_the_request(vllm):
    assert "logprobs" in error_of(vllm.chat("?", logprobs=True, top_p=0.5, max_tokens=2), 400)["message"]
    assert "temperature" in error_of(vllm.chat("?", temperature=5, max_tokens=2), 400)["message"]
    assert said(vllm.chat("?", max_tokens=2))


def test_a_client_that_leaves_frees_the_engine(vllm):
    async def leave():
        async with httpx.AsyncClient(base_url=vllm.url) as client:
            body = {"messages": [user("?")], "max_tokens": 20_000, "stream": True}
            task = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert vllm.idle()
    until = time.monotonic() + 10
    while vllm.service.engine._running and time.monotonic() < until:
        time.sleep(0.02)
    assert not vllm.service.engine._running and said(vllm.chat("?", max_tokens=1))
