"""Whatever a body holds, it is read or refused; nothing else is raised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.config import DataConfig, RolloutConfig
from easyvideor1.engines.engine import Sampling
from easyvideor1.serving.chat_messages import MediaPart
from easyvideor1.serving.chat_requests import NEUTRAL, ChatRequest, read_chat_request
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.request_media import MediaLimits, RequestMedia

FIELDS = "messages temperature top_p top_k n seed stop max_tokens max_completion_tokens stream stream_options logprobs"
FIELDS += (
    " problem_type options presence_penalty repetition_penalty model role content type text video video_url image_url"
)
MEDIA_FIELDS = "url start end fps frames nframes min_frames max_frames min_pixels max_pixels total_pixels timestamps"
NAMES = st.sampled_from([*NEUTRAL, *FIELDS.split(), *MEDIA_FIELDS.split()])
WORDS = st.sampled_from(
    ["user", "system", "assistant", "text", "video", "video_url", "image", "data:,", "/a.mp4", "<image>"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
TALK = st.lists(st.fixed_dictionaries({"role": WORDS, "content": VALUES}), max_size=3)


def read(fields, **defaults):
    return read_chat_request(json.dumps(fields).encode(), RolloutConfig(**defaults))


@given(fields=st.dictionaries(NAMES, VALUES, max_size=5), talk=TALK)
def test_any_json_is_read_or_refused(fields, talk):
    for body in (fields, {**fields, "messages": talk}, {"messages": talk}):
        try:
            assert isinstance(read(body), ChatRequest)
        except RequestError as error:
            assert 400 <= error.status < 500 and len(str(error)) < 1000
            json.dumps(error.body()).encode()


@given(body=st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(body):
    with pytest.raises(RequestError):
        read_chat_request(body, RolloutConfig())


@given(
    kind=st.sampled_from(["image", "video"]),
    source=st.text(max_size=8) | st.sampled_from(["data:,", "data:;base64,AAAA", "/a", "file:///a", "file://[", "x:y"]),
    frames=st.booleans(),
    options=st.dictionaries(st.sampled_from(MEDIA_FIELDS.split()) | st.text(max_size=3), VALUES, max_size=3),
)
def test_any_medium_is_read_or_refused(tmp_path_factory, kind, source, frames, options):
    directory = tmp_path_factory.getbasetemp() / "any" / "request"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60) + b"IDAT")
    media = RequestMedia([directory], directory, MediaLimits(), DataConfig())
    for one in (source, "a.png"):
        own = (one, one) if frames and kind == "video" else one
        try:
            (ref,) = media.refs([MediaPart(kind, own, options, "here")])
        except RequestError as error:
            assert error.status == 400
        else:
            assert ref.kind == kind and ref.path.startswith(str(directory))


def test_what_a_body_leaves_open_is_the_configuration(tmp_path):
    messages = [{"role": "user", "content": "?"}]
    defaults = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_new_tokens": 33}
    assert read({"messages": messages}, **defaults).sampling == Sampling(0.5, 0.9, 7, 33)
    own = {"temperature": 1, "top_p": 1, "top_k": -1, "max_completion_tokens": 5, "frequency_penalty": -2, "stop": "a"}
    expected = Sampling(1.0, 1.0, 0, 5, frequency_penalty=-2.0, stop=("a",))
    assert read({"messages": messages, **own}, **defaults).sampling == expected
    greedy = Sampling(greedy=True, max_new_tokens=33)
    assert read({"messages": messages, "temperature": 0, "top_p": 0.5}, **defaults).sampling == greedy
    nulls = dict.fromkeys([*own, "n", "seed", "stream", "messages_of_mine", "tools"])
    assert read({"messages": messages, **nulls}, **defaults) == read({"messages": messages}, **defaults)
