"""Answers over HTTP: those of the engine for the same prompt and seed."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from easyvideor1.components import Components
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.toyworld import write_video
from easyvideor1.types import MediaRef, Sample

from .servers import data_url, error_of, said, streamed, text, user, video

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def components(world, config):
    with Components.open(config, world.checkpoint) as components:
        yield components


@pytest.fixture(scope="module")
def engine(components):
    engine = components.open_engine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def seen(server):
    """The requests that the engine was given."""
    requests, submit = [], server.service.engine._engine.submit

    def noted(given):
        requests.extend(given)
        return submit(given)

    server.service.engine._engine.submit = noted
    return requests


def test_an_answer_is_that_of_an_evaluation_for_the_same_row(server, seen, components, engine, clip):
    sample = Sample(
        "row", "<video>\n" + "Which way? (A) left (B) right", "multiple_choice", "A", (MediaRef("video", str(clip)),)
    )
    prompt = components.render(sample)
    sampling = Sampling(0.9, 0.95, 20, 16)
    ((expected, other),) = generate(engine, [Request("r", prompt, 2, sampling, 99)])
    fields = {"temperature": 0.9, "top_p": 0.95, "top_k": 20, "max_tokens": 16, "seed": 99, "n": 2}
    content = [video(clip), text("\nWhich way? (A) left (B) right")]
    response = server.chat(content, problem_type="multiple_choice", model="tiny", **fields)
    assert said(response) == [expected.text, other.text]
    np.testing.assert_array_equal(seen[-1].prompt.token_ids, prompt.token_ids)
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] == len(prompt) and usage["completion_tokens"] == 32 == usage["total_tokens"] - len(
        prompt
    )
    assert usage["prompt_tokens_details"]["visual_tokens"] == prompt.plans[0].tokens > 0


def test_a_stream_is_the_same_answer(server, clip):
    content, fields = [video(clip), text("What moves?")], {"max_tokens": 20, "seed": 5, "n": 2}
    events = server.events(content, stream_options={"include_usage": True}, **fields)
    whole = server.chat(content, **fields)
    assert streamed(events) == said(whole)
    assert events[-1]["choices"] == [] and events[-1]["usage"] == whole.json()["usage"]
    assert [event["choices"][0]["delta"] for event in events[:2]] == [{"role": "assistant", "content": ""}] * 2
    finishes = [choice["finish_reason"] for event in events for choice in event["choices"] if choice["finish_reason"]]
    assert finishes == ["length", "length"]
    assert len({event["id"] for event in events}) == 1
    assert len(events) > 10, "the local engine shows each token"


def test_a_video_by_path_by_bytes_and_as_frames_is_one_video(server, seen, clip, components, tmp_path):
    from PIL import Image

    plan = components.plan(MediaRef("video", str(clip)))
    frames = components.load(MediaRef("video", str(clip)), plan).pixels
    urls = []
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        urls.append(data_url(tmp_path / f"{number}.png", "image/png"))
    fields = {"seed": 1, "max_tokens": 8}
    by_path = server.chat([video(clip), text("?")], **fields)
    by_bytes = server.chat([video(data_url(clip)), text("?")], **fields)
    listed = {"type": "video", "video": urls, "timestamps": list(plan.timestamps), "nframes": len(urls)}
    by_frames = server.chat([listed, text("?")], **fields)
    assert said(by_path) == said(by_bytes) == said(by_frames)
    assert [request.prompt.plans[0].timestamps for request in seen[-3:]] == [plan.timestamps] * 3
    assert by_frames.json()["usage"] == by_path.json()["usage"]


def test_clip_and_budget_of_a_medium_are_honoured(server, seen, clip):
    part = video(clip, start=0.5, end=1.6, fps=4, max_frames=4, min_pixels=1024, max_pixels=2048)
    assert said(server.chat([part, text("?")], max_tokens=1))
    (plan,) = seen[-1].prompt.plans
    assert plan.timestamps[0] >= 0.5 and plan.timestamps[-1] <= 1.6 and len(plan.frame_indices) == 4
    assert plan.height * plan.width <= 2048
    error = error_of(server.chat([video(clip, start=900, end=901), text("?")]), 400)
    assert error["code"] == "invalid_media"


def test_images_and_text_alone(server, world, seen):
    from PIL import Image

    path = world.home / "picture.png"
    Image.new("RGB", (64, 96), "red").save(path)
    part = {"type": "image_url", "image_url": {"url": data_url(path, "image/png"), "detail": "low"}}
    assert len(said(server.chat([text("Look: "), part, text(" what colour?")], max_tokens=3))) == 1
    assert seen[-1].prompt.text == "Look: <image> what colour?"
    assert said(server.chat("Plain text", temperature=0, max_tokens=3))
    assert seen[-1].sampling.greedy and not seen[-1].prompt.media


def test_further_turns_are_appended_by_ids(server, seen, components, engine, clip):
    family = components.family
    first = server.chat([video(clip), text("What moves?")], seed=3, max_tokens=200, temperature=1.5)
    answer = first.json()["choices"][0]["message"]
    asked = seen[-1].prompt
    messages = [
        {"role": "system", "content": "Be brief."},
        user([video(clip), text("What moves?")]),
        {"role": "assistant", "content": "a red circle"},
        user("Are you sure?"),
    ]
    assert said(server.chat(messages, seed=1, max_tokens=4))
    prompt = seen[-1].prompt
    start = family.render("<video>What moves?", asked.media, asked.plans, system="Be brief.")
    ids = [*family.tokenizer("a red circle", add_special_tokens=False)["input_ids"], family.stop_token_ids[0]]
    expected = family.extend(start.followed_by(np.array(ids)), "Are you sure?", (), ())
    np.testing.assert_array_equal(prompt.token_ids, expected.token_ids)
    assert prompt.spans == expected.spans
    again = server.chat([user("?"), answer, user("And now?")], max_tokens=4)  # what a client sends back as it came
    assert again.status_code == 200, again.text


def test_log_probs_are_those_of_the_engine(server, engine, components):
    prompt = components.family.render("Say something", (), ())
    ((expected,),) = generate(engine, [Request("r", prompt, 1, Sampling(max_new_tokens=6), 8)])
    choice = server.chat("Say something", seed=8, max_tokens=6, logprobs=True).json()["choices"][0]
    content = choice["logprobs"]["content"]
    np.testing.assert_allclose([each["logprob"] for each in content], expected.last.logprobs, atol=1e-5)
    assert all(each["bytes"] is None or bytes(each["bytes"]).decode() == each["token"] for each in content)
    (event,) = [
        e for e in server.events("Say something", seed=8, max_tokens=6, logprobs=True) if e["choices"][0]["logprobs"]
    ]
    assert event["choices"][0]["logprobs"] == choice["logprobs"]


def test_an_answer_ends_before_a_stop_string(server):
    (whole,) = said(server.chat("Tell me", seed=4, max_tokens=40))
    stop = whole[6:8]
    assert len(stop) == 2
    response = server.chat("Tell me", seed=4, max_tokens=40, stop=[stop, "never said"])
    (cut,) = said(response)
    assert cut == whole[: whole.index(stop)]
    assert response.json()["choices"][0]["finish_reason"] == "stop"
    assert streamed(server.events("Tell me", seed=4, max_tokens=40, stop=stop)) == [cut]


def test_seeds_differ_where_none_is_given(server):
    assert len({tuple(said(server.chat("Tell me", max_tokens=12))) for _ in range(3)}) > 1
    assert len({tuple(said(server.chat("Tell me", max_tokens=12, seed=2))) for _ in range(2)}) == 1


def test_eight_clients_get_the_answers_that_they_would_get_alone(server, clip):
    def ask(number):
        content = [video(clip if number % 2 else data_url(clip)), text(f"Question {number}")]
        return said(server.chat(content, seed=number, max_tokens=10, temperature=0 if number % 3 else 1))

    alone = [ask(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == alone


def test_models_health_and_metrics(server):
    listed = server.client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    assert server.client.get("/v1/models/tiny").json()["object"] == "model"
    assert error_of(server.client.get("/v1/models/other"), 404)["code"] == "model_not_found"
    assert error_of(server.chat("?", model="gpt-4o"), 404)["code"] == "model_not_found"
    assert server.client.get("/health").json()["status"] == "ok"
    assert "evr1_completion_tokens_total" in server.client.get("/metrics").text
    assert error_of(server.client.get("/v2"), 404) and error_of(server.client.get("/v1/chat/completions"), 405)


def test_unicode_comes_back_as_it_went(server, seen):
    words = "Größe 日本語 🎈 \u202eabc \x00 'quoted' \\n"
    assert said(server.chat(words, max_tokens=2))
    assert seen[-1].prompt.text == words
    raw = json.dumps({"messages": [user("half \ud83d")]}).encode()
    response = server.client.post("/v1/chat/completions", content=raw, headers={"Content-Type": "application/json"})
    assert "surrogate" in error_of(response, 400)["message"]
    for name in ("<|im_end|>", "<|video_pad|>"):
        assert name in error_of(server.chat(f"a {name} b"), 400)["message"]
        turns = [user("a"), {"role": "assistant", "content": f"b {name}"}, user("c")]
        assert name in error_of(server.chat(turns), 400)["message"]


def test_every_row_of_a_test_file_has_the_prompt_that_an_evaluation_gives_it(server, seen, components, world):
    from easyvideor1.config import SourceConfig

    (loaded,) = components.load_sources([SourceConfig(path=world.rows("test"))])
    samples = [sample for sample in loaded.samples if "coordinates" not in sample.extra]  # a column of the row alone
    assert {sample.task for sample in samples} >= {"multiple_choice", "boolean"}
    for sample in samples:
        (ref,) = sample.media
        medium = {"type": ref.kind, ref.kind: ref.path}
        before, _, after = sample.question.partition(f"<{ref.kind}>")
        content = [part for part in (text(before), medium, text(after)) if part != text("")]
        fields = {"problem_type": sample.task, "options": [option[3:] for option in sample.options], "max_tokens": 1}
        assert said(server.chat(content, **fields))
        np.testing.assert_array_equal(seen[-1].prompt.token_ids, components.render(sample).token_ids)


def test_a_video_of_many_frames_comes_from_the_endpoint_engine_as_images(server, seen, world, tmp_path):
    """The engine sends one image for each planned frame, 40 here; what it sends fits the limits of the server."""
    path = tmp_path / "long.mp4"
    write_video(path, [np.full((64, 64, 3), 5 * number, np.uint8) for number in range(40)], fps=8)
    endpoint = {"url": f"{server.url}/v1", "model": "tiny", "retries": 0}
    frames = {"rule": "uniform", "frames": 40, "min_pixels": 4096, "max_pixels": 4096}
    asking = world.config(stages=[], rollout__engine="endpoint", rollout__endpoint=endpoint, data__video=frames)
    sample = Sample("s", "<video>What?", "open_ended", "", media=(MediaRef("video", str(path)),))
    with Components.open(asking, world.checkpoint) as own, closing(own.open_engine()) as engine:
        prompt = own.strategy.start(sample)
        assert len(prompt.plans[0].timestamps) == 40
        ((answer,),) = generate(engine, [Request("r", prompt, 1, Sampling(greedy=True, max_new_tokens=2), 1)])
    assert answer.last.text is not None
    assert [ref.kind for ref in seen[-1].prompt.media] == ["image"] * 40
