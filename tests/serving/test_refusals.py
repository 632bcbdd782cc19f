"""What a server refuses: by name, in OpenAI's format, and without harm to what else it does."""

import base64
import json
import os
import struct
import time
import zlib

import httpx
import pytest

from easyvideor1.serving.request_media import MediaLimits
from easyvideor1.serving.server import ServerOptions
from easyvideor1.serving.service import ServerLimits
from easyvideor1.types import ConfigError
from video.clips import damage

from .servers import data_url, error_of, running, said, text, user, video

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e-6}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"n": 0}, "n"),
        ({"n": 10**30}, "n"),
        ({"seed": -1}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"temperature": 0, "presence_penalty": 1}, "presence_penalty"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 5}, "top_logprobs"),
        ({"temprature": 1}, "temprature"),
        ({"model": 5}, "model"),
        ({"options": ["a", "b"]}, "options"),
        ({"problem_type": "multiple_choice", "options": ["a", 5]}, "options"),
        ({"problem_type": "riddle"}, "messages"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named(server, fields, param):
    assert error_of(server.chat("?", **fields), 400)["param"] == param


def test_what_changes_nothing_is_ignored(server):
    harmless = {
        "user": "me",
        "metadata": {"a": "b"},
        "tools": [],
        "top_logprobs": 0,
        "logit_bias": None,
        "made_up": None,
    }
    assert said(server.chat("?", max_tokens=1, response_format={"type": "text"}, **harmless))


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hello",
        [5],
        [{"role": "tool", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "input_audio"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 5}]}],
        [{"role": "user", "content": [{"type": "video_url"}]}],
        [{"role": "user", "content": [{"type": "video", "video": [], "fps": 1}]}],
        [{"role": "user", "content": "a <video> b"}],
        [{"role": "assistant", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}, {"role": "user", "content": "z"}],
        [{"role": "user", "content": "x", "tool_calls": [1]}],
    ],
    ids=str,
)
def test_wrong_messages_are_named(server, messages):
    response = server.client.post("/v1/chat/completions", json={"messages": messages})
    assert error_of(response, 400)["param"].startswith("messages")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"temperature": NaN}', b"9" * 9000])
def test_a_body_that_is_no_json_object(server, body):
    response = server.client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert error_of(response, 400)["code"] == "invalid_json"


def test_a_body_of_millions_of_lists_is_not_read(server):
    body = b'{"messages": [' + b"[]," * (5 << 20) + b"0]}"
    headers = {"Content-Type": "application/json"}
    response = server.client.post("/v1/chat/completions", content=body, headers=headers)
    assert error_of(response, 413)["code"] == "body_too_long"
    commas = error_of(server.chat("a, " * 330_000), 400)  # the longest text is read
    assert "max_prompt_tokens" in commas["message"]


def test_pages_of_other_sites_are_refused(server):
    body = json.dumps({"messages": [user("?")]})
    plain = server.client.post("/v1/chat/completions", content=body, headers={"Content-Type": "text/plain"})
    assert error_of(plain, 400)["code"] == "invalid_content_type"
    assert error_of(server.chat("?", headers={"Host": "evil.example"}), 400)["code"] == "invalid_host"
    assert said(server.chat("?", headers={"Host": "localhost:8000"}, max_tokens=1))
    assert said(server.chat("?", headers={"Host": "[::1]:8000"}, max_tokens=1))


@pytest.mark.parametrize(
    "wrong", ["http://127.0.0.1/a.mp4", "https://x/a.mp4", "ftp://x", "file://far/a.mp4", "s3://b/k"]
)
def test_no_address_is_opened(server, wrong):
    part = {"type": "video_url", "video_url": {"url": wrong}}
    assert error_of(server.chat([part, text("?")]), 400)["code"] == "invalid_media"


def test_paths_outside_of_the_roots_are_refused_and_not_told_apart(server, world, clip):
    root = world.home / "world"
    outside = world.home / "outside.mp4"
    outside.write_bytes(clip.read_bytes())
    link, inner = root / "link.mp4", root / "inner.mp4"
    listing = root / "all.frames.json"
    if not link.exists():
        link.symlink_to(outside)
        inner.symlink_to(clip)
        (root / "loop.mp4").symlink_to("loop.mp4")
        listing.write_text(json.dumps({"frames": [str(outside)], "fps": 1}))
    tried = [outside, world.home / "missing.mp4", link, root / ".." / "outside.mp4", root, root / "loop.mp4", listing]
    messages = set()
    for path in [*tried, "a\0b", "../outside.mp4", "%2e%2e/outside.mp4"]:
        error = error_of(server.chat([{"type": "video", "video": str(path)}, text("?")]), 400)
        assert error["code"] == "invalid_media"
        messages.add(error["message"].replace(repr(str(path)), "PATH"))
    assert len(messages) == 1
    for path in (inner, clip, clip.relative_to(root)):
        assert said(server.chat([{"type": "video", "video": str(path)}, text("?")], max_tokens=1))


def test_a_broken_video_fails_alone_and_no_path_of_the_server_is_told(server, clip, tmp_path):
    content = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 3])
    (tmp_path / "noise.mp4").write_bytes(os.urandom(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n")
    for name in ("cut.mp4", "noise.mp4", "empty.mp4", "list.m3u8"):
        error = error_of(server.chat([video(data_url(tmp_path / name)), text("?")]), 400)
        assert str(server.service.scratch) not in error["message"] and "messages[0].content[0]" in error["message"]
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    damage(str(damaged), [0])
    for _ in range(2):  # the second time it is known to be damaged, from another request
        error = error_of(server.chat([video(data_url(damaged)), text("?")]), 400)
        assert str(server.service.scratch) not in error["message"]
    for url in ("data:video/mp4;base64,@@@", "data:video/mp4,abc", "data:", "data:video/mp4;base64,"):
        assert error_of(server.chat([video(url), text("?")]), 400)["code"] == "invalid_media"
    assert "image" in error_of(server.chat([video(data_url(png(8, 8))), text("?")]), 400)["message"]
    assert said(server.chat([video(clip), text("?")], max_tokens=1))
    assert server.idle() and not list(server.service.scratch.glob("request-*")), "uploads are removed"


def png(width, height):
    """A picture of one colour that is small as a file, however large it is."""
    import tempfile
    from pathlib import Path

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (width + 1)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
        file.write(whole)
    return Path(file.name)


def test_a_picture_that_would_fill_the_memory_is_refused(server):
    bomb = png(20_000, 20_000)
    part = {"type": "image_url", "image_url": {"url": data_url(bomb, "image/png")}}
    assert "reduce the image" in error_of(server.chat([part, text("?")]), 400)["message"]


def test_clips_and_budgets_that_make_no_sense(server, clip):
    for options, name in [
        ({"start": -1}, "video_start"),
        ({"start": 2, "end": 1}, "video_end"),
        ({"fps": 0}, "fps"),
        ({"max_frames": "many"}, "max_frames"),
        ({"colour": "red"}, "colour"),
        ({"frames": 4, "nframes": 4}, "one meaning"),
        ({"min_pixels": 10**7, "max_pixels": 10}, "min_pixels"),
    ]:
        assert name in error_of(server.chat([video(clip, **options), text("?")]), 400)["message"]
    listed = {"type": "video", "video": [data_url(png(64, 64), "image/png")] * 2}
    assert "times" in error_of(server.chat([listed, text("?")]), 400)["message"]
    wrong = error_of(server.chat([{**listed, "timestamps": [1.0, 0.5]}, text("?")]), 400)
    assert "ascend" in wrong["message"]


def test_prompts_that_are_too_long_are_refused_before_anything_is_decoded(server, clip):
    large = video(clip, min_pixels=16_000_000, max_pixels=16_000_000)
    assert "max_prompt_tokens" in error_of(server.chat([large, text("?")]), 400)["message"]
    assert "max_prompt_tokens" in error_of(server.chat("word " * 90_000), 400)["message"]
    assert error_of(server.chat("a" * 1_000_001), 413)["code"] == "text_too_long"


@pytest.fixture(scope="module")
def strict(world, config, tmp_path_factory):
    """A server with a key and narrow limits."""
    options = {
        "limits": ServerLimits(2, 1 << 20, 30.0),
        "media": MediaLimits(videos=2, images=2, frames=2, seconds=1.0),
        "key": "geheim-à",
    }
    scratch = tmp_path_factory.mktemp("strict")
    with running(config, world.checkpoint, scratch, **options) as server:
        yield server


def key(value="geheim-à"):
    return {"Authorization": f"Bearer {value}".encode()}


def test_the_key_is_asked_for(strict):
    for headers in ({}, key("geheim"), key("geheim-àà"), key("x"), {"Authorization": "Basic geheim-à".encode()}):
        response = strict.chat("?", headers=headers)
        assert error_of(response, 401)["code"] == "invalid_api_key"
        assert strict.client.get("/v1/models", headers=headers).status_code == 401
        assert strict.client.get("/metrics", headers=headers).status_code == 401
    assert strict.client.get("/health").status_code == 200
    assert said(strict.chat("?", headers=key(), max_tokens=1))
    assert said(strict.chat("?", headers={**key(), "Host": "evil.example"}, max_tokens=1)), "who has the key may"


def test_limits_of_bodies_and_media(strict, clip):
    body = b'{"messages": "' + b"a" * (40 << 20) + b'"}'
    headers = {**key(), "Content-Type": "application/json"}
    for content in (body, iter([body])):  # with a declared length, and in chunks
        response = httpx.post(f"{strict.url}/v1/chat/completions", content=content, headers=headers, timeout=30)
        assert error_of(response, 413)["code"] == "body_too_long"
    assert strict.idle() and strict.service.body_bytes == 0
    small = {"type": "image_url", "image_url": {"url": data_url(png(64, 64), "image/png")}}
    many = error_of(strict.chat([small] * 3, headers=key()), 413)
    assert many["code"] == "too_many_media" and "--max-images 3" in many["message"]
    short = video(data_url(clip), end=0.9)
    many = error_of(strict.chat([short, small, short, short], headers=key()), 413)
    assert "3 videos, this server takes 2" in many["message"] and many["param"] == "messages[0].content[3]"
    listed = {"type": "video", "video": [data_url(png(64, 64), "image/png")] * 3, "fps": 1}
    many = error_of(strict.chat([listed], headers=key()), 413)
    assert many["code"] == "too_many_frames" and "--max-frames 3" in many["message"]
    long = error_of(strict.chat([video(data_url(clip)), text("?")], headers=key()), 400)
    assert "the longest is 1 s" in long["message"]
    assert said(strict.chat([video(data_url(clip), end=0.9), text("?")], headers=key(), max_tokens=1))
    no_files = error_of(strict.chat([video(clip), text("?")], headers=key()), 400)
    assert "--media-root" in no_files["message"]


def test_other_machines_need_a_key_and_roots_are_directories(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.5", ""):
        with pytest.raises(ConfigError, match="EVR1_API_KEY"):
            ServerOptions("m", host=host)
    assert ServerOptions("m", host="0.0.0.0", key="k").host == "0.0.0.0"
    assert ServerOptions("m", host="0.0.0.0", key=" k\n").key == "k", "as it arrives in a header"
    for key in (" ", "\n"):
        with pytest.raises(ConfigError, match="blank"):
            ServerOptions("m", key=key)
    assert "geheim" not in repr(ServerOptions("m", key="geheim"))
    with pytest.raises(ConfigError, match="not a directory"):
        ServerOptions("m", roots=(tmp_path / "none",))


def test_bytes_that_are_no_base64_are_short_work():
    """A pattern that backtracks would take minutes for this."""
    from easyvideor1.serving.request_media import _DATA

    assert _DATA.match("data:" + ";" * 200_000) is None
    assert base64.b64decode(data_url(png(2, 2), "image/png").partition(",")[2])


def test_bodies_of_all_requests_together_are_limited(strict):
    """Nearly whole bodies of several clients: another one is told to come back, and in the end nothing is held."""
    import socket

    strict.service.limits, before = ServerLimits(8, 1 << 20, 30.0), strict.service.limits
    half = b"a" * (1 << 20)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer geheim-\xc3\xa0\r\nContent-Length: 1048576\r\n\r\n"
    )
    waiting = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(4)]
    try:
        for connection in waiting:
            connection.sendall(head + half[:-1])
        until = time.monotonic() + 10
        while strict.service.body_bytes < 4 * len(half) - 4 and time.monotonic() < until:
            time.sleep(0.01)
        assert error_of(strict.chat("?" * 1000, headers=key()), 429)["code"] == "queue_full"
    finally:
        for connection in waiting:
            connection.close()
        strict.service.limits = before
    assert strict.idle() and strict.service.body_bytes == 0
    assert said(strict.chat("?", headers=key(), max_tokens=1))
