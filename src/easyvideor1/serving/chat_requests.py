"""Read the body of ``POST /v1/chat/completions``: every field is understood, without effect, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from easyvideor1.config import RolloutConfig
from easyvideor1.engines.engine import Sampling
from easyvideor1.serving.chat_messages import MediaPart, Message, read_messages
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.fields import FieldReader, Fields, check_text, in_words, wrong

#: Fields that change nothing of an answer.
IGNORED = frozenset(
    (
        *("metadata", "parallel_tool_calls", "prediction", "priority", "prompt_cache_key", "prompt_cache_retention"),
        *("request_id", "safety_identifier", "service_tier", "store", "user"),
    )
)
#: Fields that are not supported -> the values of them that ask for nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "add_generation_prompt": (True,),
        "best_of": (1,),
        "continue_final_message": (False,),
        "echo": (False,),
        "functions": ([],),
        "ignore_eos": (False,),
        "include_stop_str_in_output": (False,),
        "length_penalty": (1,),
        "logit_bias": ({},),
        "min_p": (0,),
        "min_tokens": (0,),
        "modalities": (["text"],),
        "response_format": ({"type": "text"},),
        "skip_special_tokens": (True,),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "use_beam_search": (False,),
    }
)
#: Most strings of ``stop``, characters of one of them, and responses of a request.
MOST_STOPS, LONGEST_STOP, MOST_RESPONSES = 16, 256, 16
#: Temperatures below are too close to 0 to divide by; 0 itself takes the likeliest token.
LOWEST_TEMPERATURE = 0.01
#: Most lists, objects and commas of a body. Reading the JSON of millions of them would hold up all threads for seconds.
MOST_MARKS = 1_000_000
#: Seeds of engines have 63 bits.
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion that can be answered, as far as its fields show.

    ``system`` is ``None`` if there is no system message. Messages alternate between user and assistant, and begin and
    end with the user. ``problem_type`` asks for the wording of training prompts, with ``options`` under the question;
    it is empty if there is none.
    """

    model: str
    system: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    n: int
    seed: int | None
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    problem_type: str = ""
    options: tuple[str, ...] = ()

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """All media, in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, MediaPart))


def read_chat_request(body: bytes, defaults: RolloutConfig) -> ChatRequest:
    """The chat completion that a body asks for.

    Args:
        body: JSON, as it came.
        defaults: how tokens are drawn where the body does not say it.

    Raises:
        RequestError: it is no JSON, a field is wrong, or it asks for something that this server does not do.
    """
    fields = {name: value for name, value in _json_object(body).items() if value is not None}
    reader = FieldReader(fields)
    system, messages = read_messages(reader.list("messages"))
    stream_options = FieldReader(reader.object("stream_options"))
    request = ChatRequest(
        model=reader.text("model"),
        system=system,
        messages=messages,
        sampling=_sampling(reader, defaults),
        n=reader.whole("n", 1, 1, MOST_RESPONSES) or 1,
        seed=reader.whole("seed", None, 0, LARGEST_SEED),
        stream=reader.flag("stream"),
        include_usage=stream_options.flag("include_usage"),
        logprobs=reader.flag("logprobs"),
        problem_type=reader.text("problem_type"),
        options=_options(reader),
    )
    for name, value in fields.items():
        if name not in reader.known and name not in IGNORED:
            _refuse_unless_neutral(name, value)
    return request


def _json_object(body: bytes) -> Fields:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > MOST_MARKS:
        what = f"the body has more than {MOST_MARKS} lists, objects and commas; send a shorter one"
        raise RequestError(what, status=413, code="body_too_long")
    try:
        fields = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 are a ValueError, too
        said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"the body is not JSON: {said}; send a JSON object as UTF-8", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise RequestError(f"the body is {in_words(fields)}, not a JSON object", code="invalid_json")
    return fields


def _refuse_unless_neutral(name: str, value: Any) -> None:
    shown = name[:60].encode(errors="replace").decode()
    if name not in NEUTRAL:
        raise RequestError(f"unknown parameter {shown!r}; leave it out", param=shown, code="unknown_parameter")
    if value not in NEUTRAL[name]:
        only = " or ".join(json.dumps(each) for each in NEUTRAL[name])
        what = f"{name} is not supported by this server; leave it out, or send {only}"
        raise RequestError(what, param=name, code="unsupported_parameter")


def _sampling(reader: FieldReader, defaults: RolloutConfig) -> Sampling:
    """How tokens are drawn.

    Raises:
        RequestError: a number is out of range, or penalties stand beside temperature 0, where they have no effect.
    """
    limit = _token_limit(reader) or defaults.max_new_tokens
    temperature = reader.number("temperature", defaults.temperature, 0, 10)
    top_p = reader.number("top_p", defaults.top_p, 0, 1)
    top_k = reader.whole("top_k", defaults.top_k, -1, 1 << 31) or 0
    penalties = {
        "repetition_penalty": (reader.number("repetition_penalty", 1.0, 0.01, 10), 1.0),
        "presence_penalty": (reader.number("presence_penalty", 0.0, -2, 2), 0.0),
        "frequency_penalty": (reader.number("frequency_penalty", 0.0, -2, 2), 0.0),
    }
    stop = _stop(reader)
    if top_p == 0:
        raise wrong("top_p", top_p, "a number above 0, at most 1")
    if temperature == 0:
        if active := [name for name, (value, neutral) in penalties.items() if value != neutral]:
            what = (
                f"{active[0]} has no effect with temperature 0, which takes the likeliest token; leave one of them out"
            )
            raise RequestError(what, param=active[0], code="unsupported_value")
        return Sampling(greedy=True, max_new_tokens=limit, stop=stop)
    if temperature < LOWEST_TEMPERATURE:
        raise wrong("temperature", temperature, f"0, or a number from {LOWEST_TEMPERATURE} to 10")
    repetition, presence, frequency = (value for value, _ in penalties.values())
    return Sampling(temperature, top_p, max(top_k, 0), limit, False, repetition, presence, frequency, stop)


def _token_limit(reader: FieldReader) -> int | None:
    names = ("max_completion_tokens", "max_tokens")
    found = {value for name in names if (value := reader.whole(name, None, 1, 1 << 31)) is not None}
    if len(found) > 1:
        what = "max_completion_tokens and max_tokens differ; send one of them"
        raise RequestError(what, param=names[0], code="invalid_value")
    return found.pop() if found else None


def _options(reader: FieldReader) -> tuple[str, ...]:
    options = reader.list("options")
    if not all(isinstance(one, str) and one.strip() for one in options):
        raise wrong("options", options, 'a list of texts, such as ["A. left", "B. right"]')
    for one in options:
        check_text(one, "options")
    if options and not reader.text("problem_type"):
        what = "options belong to a problem_type, whose template lists them; send it, too, such as multiple_choice"
        raise RequestError(what, param="options", code="invalid_value")
    return tuple(options)


def _stop(reader: FieldReader) -> tuple[str, ...]:
    value = reader.any("stop")
    strings = [value] if isinstance(value, str) else value or []
    if not isinstance(strings, list) or not all(isinstance(one, str) and one for one in strings):
        raise wrong("stop", value, "a string or a list of strings that are not empty")
    if len(strings) > MOST_STOPS or any(len(one) > LONGEST_STOP for one in strings):
        raise wrong("stop", value, f"at most {MOST_STOPS} strings of at most {LONGEST_STOP} characters")
    for one in strings:
        check_text(one, "stop")
    return tuple(strings)
