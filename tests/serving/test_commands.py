"""``evr1 serve`` as a process, ``evr1 generate``, and this project's own clients of an endpoint."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from curation.commands import configured, evr1
from easyvideor1.cli.app import app
from easyvideor1.config.schema import JudgeConfig
from easyvideor1.engines.endpoint import EndpointEngine
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.rewards.judge.client import ChatClient

from .servers import data_url, running, said, streamed, text, user, video

pytestmark = pytest.mark.model

RUN = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture
def settings(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return path


class Command:
    """``evr1 serve`` as a process of its own, with temporary files in a place of its own."""

    def __init__(self, place, *words):
        self.scratch = place / "scratch"
        self.scratch.mkdir()
        self.log = place / "log"
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "TMPDIR": str(self.scratch), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "easyvideor1.cli", "serve", *map(str, words)],
            stderr=self.log.open("wb"),
            env=environment,
        )

    def url(self):
        until = time.monotonic() + 90
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(r"at (http://\S+)/v1", self.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


@pytest.fixture
def command(tmp_path):
    started = []

    def start(*words):
        started.append(Command(tmp_path, *words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_a_signal_ends_the_server_and_what_is_under_way(command, settings, world, clip):
    server = command(
        *(world.checkpoint, "--config", settings, "--engine", "serving.own_engine:Slow", "--port", 0),
        *("--media-root", world.home, "--grace", 0.5),
    )
    client = httpx.Client(base_url=server.url(), timeout=30)
    body = {"messages": [user([video(clip), text("?")])], "max_tokens": 1000, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.terminate()
        time.sleep(0.1)
        refused = httpx.post(f"{client.base_url}/v1/chat/completions", json=body)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        last = [line for line in lines if line]
    assert json.loads(last[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert server.process.wait(timeout=30) == 0, server.log.read_text()
    log = server.log.read_text()
    assert "the server has ended" in log and "Traceback" not in log
    assert list(server.scratch.iterdir()) == []


def test_an_engine_in_a_process_of_its_own_answers_as_one_in_the_server(world, config, clip, server, tmp_path):
    rollout = config.rollout.model_copy(update={"workers": 1})
    own = config.model_copy(
        update={"rollout": rollout, "cache": config.cache.model_copy(update={"dir": str(tmp_path / "frames")})}
    )
    with running(own, world.checkpoint, tmp_path / "scratch") as other:
        content = [video(data_url(clip)), text("What moves?")]
        assert said(other.chat(content, seed=4, max_tokens=12)) == said(server.chat(content, seed=4, max_tokens=12))
        assert streamed(other.events(content, seed=4, max_tokens=12)) == said(
            server.chat(content, seed=4, max_tokens=12)
        )
    assert not list((tmp_path / "frames").rglob("*.safetensors")), "the engine's process keeps no uploads either"


def test_a_port_that_is_taken_fails_before_the_model_is_loaded(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = RUN.invoke(app, ["serve", str(world.checkpoint), "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2 and "is taken by another program" in done.stderr and "loading" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--host", "0.0.0.0"), "EVR1_API_KEY"),
        (("--media-root", "nowhere"), "not a directory"),
        (("--host", "no.such.host.invalid", "--api-key", "k"), "give an address of this machine"),
        (("--engine", "warp", "--port", "0"), "warp"),
        (("rollout.temperatur=2",), "temperature"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(world, words, message):
    done = RUN.invoke(app, ["serve", str(world.checkpoint), *words], env={"EVR1_API_KEY": ""})
    assert done.exit_code == 2 and message in done.stderr


def ask(*words, stdin=None):
    return RUN.invoke(app, ["generate", *map(str, words)], input=stdin)


def test_one_question_is_answered_as_the_server_does(world, settings, clip, server, tmp_path):
    words = (world.checkpoint, "What moves?", "--video", clip, "--config", settings, "--seed", 6, "--n", 2)
    done = ask(*words, "rollout.max_new_tokens=9", "--json", "--show-frames", tmp_path / "frames", "--end", 1)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    same = server.chat([video(clip, end=1), text("\nWhat moves?")], seed=6, n=2, max_tokens=9)
    assert [each["text"] for each in told["responses"]] == said(same)
    assert told["prompt_tokens"] == same.json()["usage"]["prompt_tokens"]
    (medium,) = told["media"]
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert len(names) == len(medium["times"]) and max(medium["times"]) <= 1
    assert names[0] == f"01-video-0001-{medium['times'][0]:.2f}s.png"


def test_a_question_grows_on_the_screen(world, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slow = ("--engine", "serving.own_engine:Slow", "rollout.max_new_tokens=40")
    grown = ask(world.checkpoint, "-", *slow, stdin="Hello\n")
    whole = ask(world.checkpoint, "-", *slow, "--no-stream", stdin="Hello\n")
    assert grown.exit_code == 0 and grown.stdout == whole.stdout and "日本語" in grown.stdout
    assert "cut at rollout.max_new_tokens = 40" in grown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"], "nothing is left behind"


def test_a_run_directory_has_its_own_configuration(world, settings, tmp_path):
    own = shutil.copytree(world.checkpoint, tmp_path / "own")
    shutil.copy(settings, own / "config.yaml")
    for words, tokens in [((), 48), (("--config", "quickstart", "rollout.max_new_tokens=3"), 3)]:
        told = json.loads(ask(own, "Hi", "--seed", 1, "--json", *words).stdout)
        assert told["responses"][0]["tokens"] == tokens or told["responses"][0]["finish"] == "stop"


def test_mistakes_of_a_question(world, settings, clip, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    for words, message in [
        (("?", "--video", tmp_path / "none.mp4"), "does not exist"),
        (("?", "--video", broken), "cannot be read as a video"),
        (("?", "--image", clip), "is a video, not an image"),
        (("?", "--video", clip, "--start", 90, "--end", 91), "outside the video"),
        (("<video> or <video>?", "--video", clip), "placeholders"),
        (("?", "--fps", 2), "--fps has no effect without --video"),
        (("?", "--option", "left"), "--problem-type"),
        (("",), "the question is empty"),
        (("?", "--problem-type", "riddle"), "riddle"),
    ]:
        done = ask(world.checkpoint, *words)
        assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.output, done.output


def test_the_endpoint_engine_and_the_judge_ask_it(server, world, components_prompt):
    endpoint = JudgeConfig(url=f"{server.url}/v1", model="tiny", concurrency=3, retries=0)
    family, load, prompt = components_prompt
    engine = EndpointEngine(family, load, endpoint, system="Be brief.")
    sampling = Sampling(0.8, 0.9, 12, 10, repetition_penalty=1.1, stop=("</x>",))
    ((*found,), greedy) = generate(
        engine,
        [Request("a", prompt, 3, sampling, 0), Request("b", prompt, 1, Sampling(greedy=True, max_new_tokens=8), 0)],
    )
    engine.close()
    assert len(found) == 3 and greedy[0].text and all(each.finish in ("length", "stop") for each in found)
    client = ChatClient(endpoint.model_copy(update={"temperature": 0.0, "reply_tokens": 5}))
    reply = client.complete([{"role": "user", "content": "Grade this."}])
    client.close()
    assert reply.tokens > 5 and reply.cut_off


@pytest.fixture
def components_prompt(world, config, clip):
    from easyvideor1.components import Components
    from easyvideor1.types import MediaRef, Sample

    with Components.open(config, world.checkpoint) as components:
        sample = Sample("row", "<video>\nWhat moves?", "open_ended", "", (MediaRef("video", str(clip)),))
        yield components.family, components.load, components.render(sample)


def test_trajectories_are_collected_from_it(server, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "rows.jsonl"
    words = ("--endpoint", f"{server.url}/v1", "--model", "tiny", "--concurrency", 2, "-k", 2, "--threshold", 0)
    before = server.service.answered.copy()
    done = evr1("trajectories", "collect", configured(world, tmp_path), "--out", out, *words)
    assert done.exit_code == 0, done.output
    found = server.service.answered - before
    # A request is counted after its client has the answer, so the last one of an earlier test may be among these.
    assert set(found) == {200} and found[200] in (24, 25), "two of each of twelve rows, none refused"


def test_the_client_of_openai(server, clip):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    messages = [user([video(clip), text("What moves?")])]
    whole = client.chat.completions.create(model="tiny", messages=messages, seed=1, max_tokens=6)
    parts = client.chat.completions.create(model="tiny", messages=messages, seed=1, max_tokens=6, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="tiny", messages=messages, temperature=11)
