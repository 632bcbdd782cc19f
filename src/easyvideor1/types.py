"""The data classes that packages exchange, and the errors for users.

They are frozen dataclasses of the standard library and numpy, so any package, process or test can use them without
importing torch. Tensors begin in ``easyvideor1.families``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MediaKind = Literal["image", "video"]
Modality = Literal["text", "image", "video"]
Origin = Literal["online", "offline"]
FinishReason = Literal["stop", "length", "offline"]


class EasyVideoError(Exception):
    """Base of every error whose message is meant for the user: what is wrong, where, and what to do next.

    ``exit_status`` is the exit status of ``evr1``.
    """

    exit_status = 2


class StoppedError(EasyVideoError):
    """Work stopped for a cause outside the policy. Finished work is kept, and can resume once the cause is fixed."""

    exit_status = 3


class ConfigError(EasyVideoError):
    """The configuration is wrong; raised before anything is loaded or written."""


class DataError(EasyVideoError):
    """A row or a data file is wrong; the message names file, line, field and remedy."""


class TurnError(DataError):
    """The prompt of a further turn cannot be made: a fault of one sample. The message names its row and the turn."""


class RequestFailed(EasyVideoError):  # noqa: N818 (what happened to it, and no mistake of the user's)
    """An engine lost a request twice, or it ran longer than ``rollout.deadline``: a fault of one sample."""


class MediaError(EasyVideoError):
    """A media file cannot be probed or decoded; ``reason`` is the short label in the health ledger."""

    def __init__(self, message: str, *, path: str = "", reason: str = "unreadable") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes decode: the error must keep its fields when it returns from one.
        return (_rebuild_media_error, (str(self), self.path, self.reason))


def _rebuild_media_error(message: str, path: str, reason: str) -> MediaError:
    return MediaError(message, path=path, reason=reason)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a model family cuts pixels into tokens.

    A frame of ``H x W`` pixels becomes ``(H / patch_size) * (W / patch_size)`` patches, ``merge_size ** 2`` patches one
    token, and ``temporal_patch_size`` consecutive frames one temporal step.
    """

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2

    @property
    def factor(self) -> int:
        """Both sides of a resized frame are multiples of this many pixels."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """Changes of a source or a row to the budget of its own media; ``None`` keeps the value of the run.

    The names are those of ``config.ImageBudget`` (``rule`` and the pixels of one picture) and ``config.VideoBudget``;
    ``config.media`` applies a change to a budget.
    """

    rule: str | None = None
    fps: float | None = None
    frames: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class EffectFile:
    """A file that an effect reads: its content (``sha256``, hex) decides pixels, its absolute path does not."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Effect:
    """A named change of pixels (``easyvideor1.video.effects``): options (canonical JSON) and files decide it alone."""

    name: str
    options: str = "{}"
    files: tuple[EffectFile, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaRef:
    """A media file of a row: absolute path, the clip in seconds (videos only), and the change to the run's budget.

    ``effects`` change its pixels, in order. An image with ``still`` is the first or last planned frame of a video.
    """

    kind: MediaKind
    path: str
    start: float | None = None
    end: float | None = None
    budget: BudgetChange | None = None
    effects: tuple[Effect, ...] = ()
    still: Literal["", "first", "last"] = ""


@dataclass(frozen=True, slots=True)
class OfflineTrajectory:
    """A response of another policy; ``logprobs`` are that policy's, if known; ``before`` those of earlier turns."""

    text: str
    logprobs: tuple[float, ...] | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One training or evaluation example. Made once, by ``easyvideor1.data.rows``.

    ``question`` holds exactly one ``<image>`` or ``<video>`` placeholder per entry of ``media``, in the same order.
    ``task`` is a canonical name of ``easyvideor1.tasks``. ``answer`` is the reference as text (JSON for structured
    types). ``extra`` keeps columns that no field above took, ``where`` is ``file:line``, ``as_read`` what was prepared.
    """

    id: str
    question: str
    task: str
    answer: str
    media: tuple[MediaRef, ...] = ()
    options: tuple[str, ...] = ()
    source: str = ""
    offline: tuple[OfflineTrajectory, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    as_read: Sample | None = field(default=None, compare=False, repr=False)

    @property
    def modality(self) -> Modality:
        """``video`` with any video, else ``image`` with any image, else ``text``: what ``data_type`` says of a row."""
        kinds = {ref.kind for ref in self.media}
        return "video" if "video" in kinds else "image" if kinds else "text"


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The result of probing a media file; no pixel is decoded.

    ``fingerprint`` depends on the content alone. ``width`` and ``height`` are after rotation, in pixels. ``timestamps``
    are the true presentation times of all frames in seconds, starting at 0 (``(0.0,)`` for an image).
    """

    path: str
    kind: MediaKind
    fingerprint: str
    codec: str
    width: int
    height: int
    rotation: int = 0
    fps: float = 0.0
    duration: float = 0.0
    timestamps: tuple[float, ...] = (0.0,)

    @property
    def frame_count(self) -> int:
        return len(self.timestamps)


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """Which frames are read, at which size, and how many tokens they become; made before any decoding.

    ``timestamps`` are seconds in the source, one per entry of ``frame_indices``. ``grid`` is ``(t, h, w)`` in patches;
    ``tokens`` is ``t * h * w / merge_size ** 2``. ``digest`` identifies content and plan; it is the key in the store.
    With ``effects`` frames are made from those of ``source``, which the store keeps (``video/effects``). With a
    ``part`` they are taken from another plan, with or without effects (``video/part.py``).
    """

    kind: MediaKind
    fingerprint: str
    frame_indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    height: int
    width: int
    grid: tuple[int, int, int]
    tokens: int
    source_fps: float
    sample_fps: float
    digest: str
    part: PlanPart | None = None
    effects: tuple[Effect, ...] = ()
    source: MediaPlan | None = None


@dataclass(frozen=True, slots=True)
class PlanPart:
    """Which frames of ``whole``, no part itself, a plan shows: ``places`` among them. The store serves it from the
    entry of the whole, or of its source, so that nothing is decoded again."""

    whole: MediaPlan
    places: tuple[int, ...]


#: Changes how a sample is asked once the plans of its media are known: subtitles of the frames, other frames.
Show = Callable[[Sample, tuple[MediaPlan, ...]], tuple[Sample, tuple[MediaPlan, ...]]]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Decoded pixels with their plan. ``pixels`` is uint8 of shape ``(F, H, W, 3)``, RGB."""

    pixels: NDArray[np.uint8]
    plan: MediaPlan


@dataclass(frozen=True, slots=True)
class VisualSpan:
    """``length`` visual tokens starting at ``start`` of a prompt belong to entry ``media`` of its plans."""

    media: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Token ids with all visual tokens expanded, and the plans of these tokens.

    ``token_ids`` is int64 of shape ``(T,)``. ``text`` is the user message, for people, logs and rewards; engines get
    the ids, so that nothing is tokenised twice. ``opens_thinking`` means that the chat template ends inside an open
    ``<think>``, as those of reasoning models do, so that a response begins inside its thinking.
    """

    token_ids: NDArray[np.int64]
    media: tuple[MediaRef, ...] = ()
    plans: tuple[MediaPlan, ...] = ()
    spans: tuple[VisualSpan, ...] = ()
    text: str = ""
    opens_thinking: bool = False

    def __len__(self) -> int:
        return int(self.token_ids.shape[0])

    def followed_by(self, token_ids: NDArray[np.int64]) -> Prompt:
        """The prompt with more text behind it, by ids: a response, which ``Family.extend`` takes up."""
        return replace(self, token_ids=np.concatenate([self.token_ids, token_ids]))


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One response of the model to one prompt.

    ``response_ids`` is int64 ``(T,)`` and ends with the stop token when ``finish`` is ``"stop"``. ``logprobs`` are the
    engine's, float32 ``(T,)``, or ``None`` when unknown. ``response_mask`` is bool ``(T,)``: the tokens to train on.
    ``versions`` are those of the weights that drew each token, int64 ``(T,)``, or ``None`` when unknown.
    """

    prompt: Prompt
    response_ids: NDArray[np.int64]
    response_mask: NDArray[np.bool_]
    logprobs: NDArray[np.float32] | None
    finish: FinishReason
    text: str
    versions: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A response as rewards see it: its text, and facts that the text does not show.

    ``finish`` is how it ended (``None`` or ``"offline"``: unknown). A response that was cut at the length limit has no
    answer unless its answer tag is closed. ``opens_thinking`` is that of the prompt; ``asks_tag`` means that the prompt
    asks for an ``<answer>`` tag. ``trajectory`` has all turns, if the response is the last turn of a trajectory.
    """

    text: str
    finish: FinishReason | None = None
    opens_thinking: bool = False
    asks_tag: bool = False
    trajectory: Trajectory | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The turns of one response to one sample, in order, at least one. ``origin`` is ``online`` for the trained policy.

    A further turn's prompt either continues the turn before, and then begins with its prompt and its response, or is
    fresh: a prompt of its own, which holds of the turns before only what its strategy writes into it.
    """

    turns: tuple[Turn, ...]
    origin: Origin = "online"

    @property
    def prompt(self) -> Prompt:
        """The first turn's prompt: the sample's question."""
        return self.turns[0].prompt

    @property
    def last(self) -> Turn:
        """The last turn, whose response is scored."""
        return self.turns[-1]

    @property
    def text(self) -> str:
        """The last turn's response."""
        return self.last.text

    @property
    def finish(self) -> FinishReason:
        """How the last turn ended."""
        return self.last.finish

    @property
    def response_tokens(self) -> int:
        """The number of response tokens of all turns."""
        return sum(len(turn.response_ids) for turn in self.turns)

    @property
    def has_logprobs(self) -> bool:
        """Whether the log-probs of every turn are known."""
        return all(turn.logprobs is not None for turn in self.turns)

    @property
    def completion(self) -> Completion:
        """The last turn's response as rewards read it; a prompt that continues others has their texts in its own."""
        asks_tag = "<answer>" in self.last.prompt.text
        return Completion(self.text, self.finish, self.last.prompt.opens_thinking, asks_tag, self)


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one response.

    ``accuracy``, ``format`` and ``total`` lie in [0, 1]; ``parts`` are further named floats. ``parsed`` is the parsed
    answer, and ``found`` the kind of place where it was found (``rewards.types.Found``; empty for custom rewards). A
    response that could not be scored has ``applicable=False`` and a ``reason``, never a silent 0. A scored one has a
    reason if its answer could not be parsed or compared. ``turns`` are rewards of turns, read by advantages of turns.
    """

    accuracy: float
    format: float
    total: float
    parts: Mapping[str, float] = field(default_factory=dict)
    parsed: str = ""
    applicable: bool = True
    reason: str = ""
    found: str = ""
    turns: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One sample and its G trajectories, kept together from rollout to loss; ``scores`` is empty until scored.

    ``baseline`` is the reward of the greedy response to the same prompt (ReMax); ``None`` if it was not requested, or
    could not be scored. ``fault`` says why a group has no trajectories, unless its media could not be read: the engine
    did not answer (``request_failed``), say, or a group of an earlier stage cannot be made again (``stored_failed``).
    ``pairs`` are the places of better and worse trajectories; if ``None``, an objective makes its own from rewards.
    """

    sample: Sample
    trajectories: tuple[Trajectory, ...]
    scores: tuple[Score, ...] = ()
    baseline: float | None = None
    fault: str = ""
    request_failed: bool = False
    stored_failed: bool = False
    pairs: tuple[tuple[int, int], ...] | None = None
