"""Scoring: rules, custom rewards, and the language model that judges free text."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from easyvideor1.config.base import CHANGEABLE, BaseConfig, NonNegativeInt, PositiveInt, Probability
from easyvideor1.tasks import canonical_task
from easyvideor1.types import DataError


class JudgeConfig(BaseConfig):
    """A language model behind an OpenAI-compatible endpoint; it reads text only, no video. Off without a ``url``."""

    url: str = ""
    """Base address of the endpoint, such as ``http://localhost:8000/v1``; empty for no judge."""
    model: str = ""
    """Name of the model at the endpoint; must be there with a ``url``."""
    api_key_env: Annotated[str, CHANGEABLE] = ""
    """Environment variable that holds the key; empty for an endpoint without one. The key itself is never written."""
    tasks: tuple[str, ...] = ("open_ended", "video_qa", "description", "preference")
    """Task types that are judged. Rows of ``preference`` that hold a label are compared with it, without a judge."""
    mode: Literal["scalar", "binary", "pairwise"] = "scalar"
    """``scalar``: a grade from 0 to 10, divided by 10. ``binary``: right or wrong. ``pairwise``: the answer against the
    reference, asked in both orders; 1 for better, 0.5 for a tie or for orders that disagree, 0 for worse."""
    timeout: Annotated[float, Field(gt=0), CHANGEABLE] = 60.0
    """Seconds that one request may take as a whole."""
    retries: Annotated[int, Field(ge=0), CHANGEABLE] = 4
    """Further attempts after HTTP 408, 409, 429 and 5xx, a timeout, a broken connection or an unreadable verdict."""
    max_wait: Annotated[float, Field(ge=0), CHANGEABLE] = 30.0
    """Longest pause in seconds before a further attempt; pauses double from half a second, or are as long as the
    endpoint asks."""
    fallback: Literal["mask", "rule"] = "mask"
    """What becomes of responses that the judge gives no verdict on. ``mask``: they are left out and counted. ``rule``:
    all responses of their group that it was asked about keep the score of the built-in rule (ROUGE for free text),
    since grades of two kinds cannot be compared, and have the part ``judge_fallback``, which counts them. Rows of
    ``preference`` have no such rule and are left out."""
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


#: ``accuracy > 0``, several joined by ``and``: what a part of the reward may depend on.
GATE = re.compile(r"([A-Za-z_][\w.]*)\s*(>=|<=|==|!=|>|<)\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))")

#: Parts that the rules of the task types, the judge and the renderer put into scores (docs/rewards.md).
RULE_PARTS = frozenset(
    {
        "all_passed",
        "attributes",
        "beyond_limits",
        "beyond_video",
        "box_iou",
        "box_iou_common",
        "box_iou_union",
        "character_accuracy",
        "image",
        "judge",
        "judge_agreed",
        "judge_fallback",
        "mask_iou",
        "mean_relative_accuracy",
        "negative_points",
        "order",
        "positive_points",
        "relative_accuracy",
        "rouge1",
        "rouge2",
        "rougeL",
        "rule_accuracy",
        "scale_mismatch",
        "structure",
        "tags",
        "temporal_iou",
        "time",
        "word_accuracy",
        "words",
    }
)

#: A tag, or a list of tags that may come several times over.
Block = str | tuple[str, ...]


class TagContent(BaseConfig):
    """What stands in a tag before the answer."""

    asks: str = ""
    """What to write, in a few words; they stand in the tag in the prompt. Empty: a span is asked for as start and end
    in seconds, and text as a blank."""
    holds: Literal["text", "span", "spans"] = "text"
    """What the format reward wants to find: ``text``, some words; ``span``, one time span in seconds that lies inside
    the clip (column ``duration`` of the row); ``spans``, one or more of them."""


class RewardPart(BaseConfig):
    """One more term of the total, or with weight 0 a number that is recorded beside it."""

    name: str
    """Its name in ``Score.parts`` and in the metrics."""
    reward: str
    """A built-in (``length_bonus``, ``brevity``, ``diversity``, ``trace_span_iou``) or ``module:attr``: ``(sample,
    response) -> float | Score | None`` or, for a whole group, ``(sample, responses, scores) -> list[float | None]``,
    all in [0, 1]."""
    weight: Annotated[float, Field(ge=-10, le=10)] = 0.1
    """Weight in the total; a negative one makes it a penalty. 0 records the number and pays nothing for it."""
    gate: str = ""
    """Counts only where this holds, else the part is 0: ``accuracy > 0``, ``format >= 1 and accuracy > 0.5``; names are
    ``accuracy``, ``format`` and earlier parts."""
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Further keyword arguments of the reward."""

    @model_validator(mode="after")
    def _is_readable(self) -> RewardPart:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name) or self.name in {"accuracy", "format", "total"}:
            raise ValueError(f"name {self.name!r}: use letters, digits and _, and none of accuracy, format, total")
        for condition in re.split(r"\s+and\s+", self.gate.strip()) if self.gate.strip() else ():
            if not GATE.fullmatch(condition.strip()):
                raise ValueError(f"gate {self.gate!r}: write conditions as 'accuracy > 0', joined by 'and'")
        return self


class RewardConfig(BaseConfig):
    """How responses are scored."""

    profile: Literal["strict", "easyvideor1-video", "easyvideor1-unified"] = "strict"
    """``strict`` is this library's own; the others restate what the two published packages do, for comparison."""
    grammar: Literal["answer", "think-answer"] | tuple[Block, ...] = "answer"
    """Tags of a well-formed response. ``answer``: an answer tag, whatever stands before it. ``think-answer``: thinking,
    then the answer, and nothing else. A list names the tags before the answer in order, such as ``[time, caption,
    think]``; a list inside it may repeat (``[[time, caption], think]``), and ``think/plan`` stands inside ``think``."""
    tags: dict[str, TagContent] = Field(default_factory=dict)
    """What stands in innermost tags of ``grammar``, such as ``time: {holds: span}``. The prompt asks for it, and a
    response whose tags hold something else is not well-formed."""
    require_tag: bool | None = None
    """Whether accuracy counts only for an answer in the closed answer tag. Null: in training where the prompt asks for
    the tag, and not in evaluation, where a model may never have seen the prompt; how many answers came without the tag
    is reported there. ``true`` asks for it everywhere, ``false`` nowhere."""
    reading: Literal["any", "asked"] = "any"
    """``any``: accuracy reads every unambiguous form of an answer, and the format part pays the form that the prompt
    asks for. ``asked``: an answer in another form (``B. blue car`` is one, ``the blue car`` is not) is no answer."""
    coordinates: Literal["normalized", "thousand", "pixel"] | None = None
    """Scale that the prompt asks boxes and points in: 0-1, 0-1000 or pixels. A row's column ``coordinates`` says on
    which scale its reference is (this one if it does not), and the answer is converted to it."""
    scale_mismatch: Literal["mask", "zero"] = "mask"
    """An answer that is plainly on another scale is left out of the score and counted, or is worth 0. ``zero`` keeps a
    policy from leaving hard questions out on purpose."""
    forms: dict[str, str] = Field(default_factory=dict)
    """Task type -> named form of its accuracy, such as ``regression: relative``; a row's column ``reward_form`` goes
    before it."""

    accuracy_weight: Probability = 0.9
    """Weight of accuracy in the total."""
    format_weight: Probability = 0.1
    """Weight of the format reward in the total."""
    custom: dict[str, str] = Field(default_factory=dict)
    """Task type -> ``module:attr`` of your own reward ``(sample, response) -> Score | float | None``; ``*`` for all. A
    number in [0, 1] is accuracy and total; ``None`` is "does not apply". It is tried on one sample before anything is
    built."""
    parts: tuple[RewardPart, ...] = ()
    """Further terms of the total. With them the total is the weighted sum, moved and scaled linearly into [0, 1]."""
    on_error: Literal["stop", "mask"] = "stop"
    """A reward that raises stops the run, or masks the sample and is counted."""
    timeout: Annotated[float, Field(gt=0)] | None = 300.0
    """Seconds that one call of a reward of your own may take; more is an error like any other (``on_error``). Null:
    no timeout."""
    workers: Annotated[PositiveInt | None, CHANGEABLE] = None
    """Programs, expressions of mathematics and pictures that are compared side by side, each in a process of its own;
    null for one per processor, 16 at most."""
    processes: Annotated[NonNegativeInt, CHANGEABLE] = 0
    """Processes that score whole groups; 0 scores in the process of the run. They are actors of Ray where the ranks are
    (``cluster.placement``), else on this machine. One that hangs or dies is replaced, and what it had is masked. Each
    gets a part of ``judge.concurrency``, ``judge.max_requests`` and ``judge.max_tokens``."""
    deadline: Annotated[float, Field(gt=0), CHANGEABLE] = 600.0
    """Seconds that the responses to one sample may take together in a process of ``processes``, which then is ended.
    With a judge it has to be longer than a request with all its attempts, ``(judge.retries + 1) * judge.timeout``."""
    overlap: Annotated[bool | None, CHANGEABLE] = None
    """Whether comparisons of a step begin while its other responses are still being generated, and with ``processes``
    all of its scores. Null: with ``processes``, and where the model is on another device than the processors, which
    comparisons would take away from it."""
    step_seconds: Annotated[float, Field(gt=0)] | None = 900.0
    """Seconds that a step may wait for its comparisons together. What has not begun by then is masked and counted; null
    waits for all."""
    judge: JudgeConfig = JudgeConfig()
    """The language model that judges free text."""
    render: Literal["auto", "chromium", "off"] = "auto"
    """Whether SVG and HTML are judged by their looks as well: ``auto`` if a Chromium is found, ``chromium`` demands
    one, ``off`` compares the structure alone."""
    chromium: str | None = None
    """Path of the Chromium to render with; looked for under its usual names if not set."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardConfig:
        if abs(self.accuracy_weight + self.format_weight - 1) > 1e-9:
            raise ValueError("accuracy_weight and format_weight must sum to 1")
        return self

    @model_validator(mode="after")
    def _deadline_is_used(self) -> RewardConfig:
        for fault in () if self.processes else self.unused(["deadline"], "processes"):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _processes_can_ask_the_judge(self) -> RewardConfig:
        judge = self.judge
        if not self.processes or not judge.url:
            return self
        for name in ("concurrency", "max_requests", "max_tokens"):
            whole = getattr(judge, name)
            if whole is not None and whole < self.processes:
                raise ValueError(
                    f"judge.{name} ({whole}) is less than processes ({self.processes}), each of which gets a part of "
                    f"it: set processes to {whole} or less, or raise judge.{name}"
                )
        longest = (judge.retries + 1) * judge.timeout
        if self.deadline < longest:
            raise ValueError(
                f"deadline ({self.deadline:g} s) is less than a request to the judge may take, {longest:g} s "
                "((judge.retries + 1) * judge.timeout), so that a slow judge would end its process, and judge.fallback "
                "would never apply: raise deadline, or lower judge.timeout or judge.retries"
            )
        return self

    @model_validator(mode="after")
    def _part_names_differ(self) -> RewardConfig:
        names = [part.name for part in self.parts]
        if len(set(names)) != len(names):
            raise ValueError(f"names of parts must differ, got {names}")
        return self
