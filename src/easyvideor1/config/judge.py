"""The language model that judges answers in place of a formula."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from easyvideor1.config.section import CHANGEABLE, PositiveInt, Section
from easyvideor1.tasks import canonical_task
from easyvideor1.types import DataError


class JudgeConfig(Section):
    """A language model behind an OpenAI-compatible endpoint; it reads text only, no video. Off without a ``url``."""

    url: str = ""
    """Base address of the endpoint, such as ``http://localhost:8000/v1``; empty for no judge."""
    model: str = ""
    """Name of the model at the endpoint; must be there with a ``url``."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty for an endpoint without one. The key itself is never written."""
    tasks: tuple[str, ...] = ("open_ended", "video_qa", "description", "preference")
    """Task types that are judged. Rows of ``preference`` that hold a label are compared with it, without a judge."""
    mode: Literal["scalar", "binary", "pairwise"] = "scalar"
    """``scalar``: a grade from 0 to 10, divided by 10. ``binary``: right or wrong. ``pairwise``: the answer against the
    reference, asked in both orders; 1 for better, 0.5 for a tie or for orders that disagree, 0 for worse."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one request may take as a whole."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Further attempts after HTTP 408, 409, 429 and 5xx, a timeout, a broken connection or an unreadable verdict."""
    max_wait: Annotated[float, Field(ge=0)] = 30.0
    """Longest pause in seconds before a further attempt; pauses double from half a second, or are as long as the
    endpoint asks."""
    max_requests: PositiveInt | None = None
    """Requests that one run may send, further attempts included; after that the score is not applicable."""
    max_tokens: PositiveInt | None = None
    """Tokens that one run may use, prompts and replies together, as the endpoint counts them."""
    reply_tokens: PositiveInt = 1024
    """Longest reply, in tokens; a judge that thinks aloud needs more."""
    max_characters: PositiveInt = 20_000
    """Of longer questions, references and answers the middle is left out."""
    cache_dir: Annotated[str | None, CHANGEABLE] = "cache/judge"
    """Directory of verdicts by model, prompt and settings; many processes may share it, and a run that is continued or
    repeated is scored the same. ``null`` for no cache."""
    concurrency: Annotated[PositiveInt, CHANGEABLE] = 8
    """Requests under way at the same time."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Temperature of the judge."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, such as ``chat_template_kwargs: {enable_thinking: false}``."""
    templates: str | None = None
    """Directory of your own ``judge_scalar.j2``, ``judge_binary.j2`` or ``judge_pairwise.j2``, from the working
    directory or beside the YAML file."""

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(canonical_task(task) for task in tasks))
        except DataError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _is_complete(self) -> JudgeConfig:
        if not self.url:
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {self.url!r}: write it as http://host:port/v1 or https://host/v1")
        if parts.username or parts.password:
            raise ValueError("url: name the key's environment variable in api_key_env; the address must not hold it")
        if parts.query or parts.fragment:
            raise ValueError(f"url {self.url!r}: leave out everything after '?' or '#'")
        if not self.model:
            raise ValueError("model is missing: name the model that the endpoint serves")
        taken = {"model", "messages", "temperature", "max_tokens", "stream", "n"} & set(self.extra_body)
        if taken:
            raise ValueError(f"extra_body may not set {', '.join(sorted(taken))}: there are settings for these")
        return self
