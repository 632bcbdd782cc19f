"""The endpoint engine with vLLM's own server: its answers, its limits, and its end."""

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

from curation.commands import configured, evr1
from easyvideor1.config import JudgeConfig
from easyvideor1.engines.endpoint import EndpointEngine, ReplyError
from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.types import ConfigError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt
from training.runs import World, json_lines

from .serving import ServingLaws, tokens_of
from .vllm_server import KEY, KEY_VARIABLE, LONGEST, vllm_server

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def server(tiny_checkpoint, tmp_path_factory):
    with vllm_server(tiny_checkpoint, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def serve(server, tiny_family):
    opened = []
    # A server does not know that visual tokens are none of a response; a trained model knows it.
    forbidden = {"logit_bias": {str(token): -100 for token in tiny_family.visual_token_ids}}

    def open_(load=load_frames, **settings):
        given = {"concurrency": 8, "retries": 0, "api_key_env": KEY_VARIABLE, "extra_body": forbidden, "model": "tiny"}
        endpoint = JudgeConfig(url=server.url, **given | settings)
        opened.append(EndpointEngine(tiny_family, load, endpoint))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


class TestServing(ServingLaws):
    pass


def turns_of(groups):
    return [trajectory.last for group in groups for trajectory in group]


def ask(prompts, n=1, **sampling):
    return [Request(name, prompt, n, Sampling(**sampling), 0) for name, prompt in prompts.items()]


def test_greedy_answers_to_text_are_the_local_engines(serve, tiny_family, tiny_model):
    texts = ("What moves?", "Où est 日本, the 🚲?", "A" * 200, "x", "Is it {{red}} or <b>blue</b>?\n\nSay it.")
    requests = ask({text: make_prompt(tiny_family, text) for text in texts}, max_new_tokens=40, greedy=True)
    local = open_engine("local", tiny_family, tiny_model, load_frames, batch_tokens=65_536)
    theirs = turns_of(generate(local, requests))
    ours = turns_of(generate(serve(), requests))
    # The server keeps back the bytes of a character that is not complete.
    assert [turn.text.rstrip("\ufffd") for turn in ours] == [turn.text.rstrip("\ufffd") for turn in theirs]
    assert [turn.finish for turn in ours] == [turn.finish for turn in theirs]
    assert len({turn.text for turn in ours}) > 2


def test_pictures_and_frames_are_seen_each_in_its_place(serve, tiny_family):
    one, other = make_plan("image", seed=1), make_plan("image", seed=2)
    video, later = make_plan("video", frames=3), make_plan("video", frames=3, seed=9)
    asked = {
        "one": make_prompt(tiny_family, "<image>?", one),
        "other": make_prompt(tiny_family, "<image>?", other),
        "both": make_prompt(tiny_family, "<image> or <image>?", one, other),
        "turned": make_prompt(tiny_family, "<image> or <image>?", other, one),
        "video": make_prompt(tiny_family, "<video>?", video),
        "later": make_prompt(tiny_family, "<video>?", later),
        "mixed": make_prompt(tiny_family, "<image> in <video>?", one, video),
    }
    said = [turn.text for turn in turns_of(generate(serve(), ask(asked, max_new_tokens=40, greedy=True)))]
    again = [turn.text for turn in turns_of(generate(serve(), ask(asked, max_new_tokens=40, greedy=True)))]
    assert said == again and len(set(said)) == len(asked)


def test_n_stop_strings_and_limits(serve, tiny_family):
    prompt = {"r": make_prompt(tiny_family, "Où est 日本, the 🚲?")}
    drawn = turns_of(generate(serve(), ask(prompt, n=6, max_new_tokens=30)))
    assert len({turn.text for turn in drawn}) == 6
    assert all(turn.logprobs is None and turn.versions is None for turn in drawn)
    (whole,) = turns_of(generate(serve(), ask(prompt, max_new_tokens=30, greedy=True)))
    stop = next(letter for letter in whole.text[2:] if letter != "\ufffd" and letter not in whole.text[:2])
    (short,) = turns_of(generate(serve(), ask(prompt, max_new_tokens=30, greedy=True, stop=("never said", stop))))
    assert short.finish == "stop" and short.text == whole.text[: whole.text.index(stop)]
    (first,) = turns_of(generate(serve(), ask(prompt, max_new_tokens=1, greedy=True)))
    assert first.finish == "length" and whole.text.startswith(first.text)
    cut = turns_of(generate(serve(), ask(prompt, n=4, max_new_tokens=12, temperature=1.9, top_k=1, top_p=0.9)))
    assert len({turn.text for turn in cut}) == 1, "top_k reaches the server"


def test_a_prompt_that_is_too_long_is_refused_and_the_others_answered(serve, tiny_family):
    asked = {"long": make_prompt(tiny_family, "What moves? " * LONGEST), "fine": make_prompt(tiny_family, "What?")}
    engine = serve()
    engine.submit(ask(asked, n=2, max_new_tokens=4))
    found = {result.request.id: result for result in finished(engine)}
    assert isinstance(found["long"].fault, ReplyError) and found["long"].fault.refused
    assert str(LONGEST) in str(found["long"].fault) and found["long"].trajectories == ()
    assert found["fine"].fault is None and len(found["fine"].trajectories) == 2


@pytest.mark.parametrize("wrong", [{"model": "huge"}, {"api_key_env": ""}, {"api_key_env": "OTHER_KEY"}])
def test_a_wrong_model_or_key_is_told(serve, tiny_family, monkeypatch, wrong):
    monkeypatch.setenv("OTHER_KEY", "none")
    with pytest.raises(ConfigError, match="--model or --api-key-env"):
        generate(serve(**wrong), ask({"r": make_prompt(tiny_family, "What moves?")}))


def test_trajectories_are_collected_from_it(server, tmp_path, monkeypatch):
    world = World(tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    settings = configured(world, tmp_path, rollout__max_new_tokens=300)  # a random model seldom stops
    given = ("--endpoint", server.url, "--model", "tiny", "--api-key-env", KEY_VARIABLE, "--concurrency", 4)
    done = evr1("trajectories", "collect", settings, "--out", "out.jsonl", *given, "-k", 2, "--threshold", 0)
    assert done.exit_code == 0, done.output
    rows = json_lines(tmp_path / "out.jsonl")
    assert rows, done.output
    assert all(row["offline_output"] for row in rows)


def test_a_server_that_is_killed_is_an_engine_that_is_down(serve, server, tiny_family):
    engine = serve()
    prompt = make_prompt(tiny_family, "What moves?")
    requests = [Request(str(number), prompt, 1, Sampling(max_new_tokens=60), 0) for number in range(40)]
    engine.submit(requests)
    results = finished(engine)
    came = [next(results)]
    server.kill()
    with pytest.raises(EasyVideoError, match="failed for 5 rows one after the other, the last time with: "):
        came.extend(results)
    assert sum(bool(tokens_of([result.trajectories])[0]) for result in came) >= 1
    assert list(finished(engine)) == [], "nothing is pending afterwards"
