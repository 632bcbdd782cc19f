"""The specification of a world: all choices in one frozen value, which its manifest records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from easyvideor1.tasks import canonical_task
from easyvideor1.toyworld.encode import DEFAULT_CODECS, IMAGE_SUFFIXES
from easyvideor1.toyworld.scene import COLOURS
from easyvideor1.types import ConfigError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """A world. The same spec gives byte-identical rows and the same pixels.

    Attributes:
        seed: Determines all randomness.
        size: Width and height of the displayed picture, in pixels.
        seconds: Duration of a clip.
        fps: Frames a second.
        train: Clips and images of the training split; likewise ``validation`` and ``test``. No clip is in two.
        questions_per_clip: Rows that each clip serves, each of a different kind.
        image_share: Share of images among the media, as far as the kinds allow.
        kinds: Question kinds (names of ``toyworld.KINDS``); all if empty.
        tasks: Keep only kinds of these task types; all if empty.
        colours: Names of the colours in use, at least four.
        bodies: Least and most shapes in a clip, where the question leaves the number open.
        body_size: Smallest and largest shape, as a share of the shorter side of the picture.
        travel: Shortest and longest way of a moving subject, as a share of the picture's side along it.
        backdrop: ``plain``, ``textured`` (gentle waves of grey) or ``mixed``.
        bare_share: Share of rows whose text lacks the ``<video>`` or ``<image>`` placeholder.
        offline_share: Share of training rows that carry a reasoning trace.
        container: Suffix of clips.
        image_format: Suffix of images.
        codec: FFmpeg encoder; empty takes the usual one of the container.
        crf: Encoding quality, smaller is better.
        gop: Frames between key frames.
        bframes: Consecutive B-frames.
        vfr: Vary the frame rate.
        rotations: Display rotations in degrees that clips take in turn.
    """

    seed: int = 0
    size: tuple[int, int] = (64, 64)
    seconds: float = 2.0
    fps: float = 4.0
    train: int = 256
    validation: int = 64
    test: int = 64
    questions_per_clip: int = 1
    image_share: float = 0.25
    kinds: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    colours: tuple[str, ...] = tuple(COLOURS)
    bodies: tuple[int, int] = (1, 2)
    body_size: tuple[float, float] = (0.25, 0.375)
    travel: tuple[float, float] = (0.4, 0.6)
    backdrop: Literal["plain", "textured", "mixed"] = "plain"
    bare_share: float = 0.1
    offline_share: float = 1.0
    container: str = ".mp4"
    image_format: str = ".png"
    codec: str = ""
    crf: int = 18
    gop: int = 12
    bframes: int = 0
    vfr: bool = False
    rotations: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_numbers(self)
        object.__setattr__(self, "tasks", tuple(canonical_task(task) for task in self.tasks))

    def clips(self, split: str) -> int:
        """Clips and images of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def as_json(self) -> dict[str, Any]:
        """The form kept in the manifest (tuples become lists)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def spec_from_json(data: Mapping[str, Any]) -> WorldSpec:
    """The spec that :meth:`WorldSpec.as_json` wrote.

    Raises:
        ConfigError: a key is unknown, as in a manifest of another version.
    """
    unknown = set(data) - {field.name for field in fields(WorldSpec)}
    if unknown:
        raise ConfigError(f"unknown fields in a world's spec: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return WorldSpec(**values)


def _require(condition: bool, field: str, value: object, need: str) -> None:
    if not condition:
        raise ConfigError(f"WorldSpec.{field} is {value!r}; it must be {need}")


def _check_numbers(spec: WorldSpec) -> None:
    width, height = spec.size
    _require(min(width, height) >= 32, "size", spec.size, "at least 32 x 32 pixels for shapes to be told apart")
    _require(spec.fps > 0, "fps", spec.fps, "above 0")
    _require(round(spec.seconds * spec.fps) >= 4, "seconds", spec.seconds, f"at least 4 frames at {spec.fps} fps")
    for split in SPLITS:
        _require(spec.clips(split) >= 0, split, spec.clips(split), "0 or more")
    _require(spec.questions_per_clip >= 1, "questions_per_clip", spec.questions_per_clip, "1 or more")
    for share in ("image_share", "bare_share", "offline_share"):
        value = getattr(spec, share)
        _require(0 <= value <= 1, share, value, "between 0 and 1")
    low, high = spec.bodies
    most = min(4, len(spec.colours) - 1)
    _require(1 <= low <= high <= most, "bodies", spec.bodies, f"(least, most) between 1 and {most}")
    small, large = spec.body_size
    _require(0.1 <= small <= large <= 0.5, "body_size", spec.body_size, "(smallest, largest) between 0.1 and 0.5")
    short, long = spec.travel
    _require(0.1 <= short <= long <= 0.7, "travel", spec.travel, "(shortest, longest) between 0.1 and 0.7")


def _check_choices(spec: WorldSpec) -> None:
    known = set(spec.colours) <= set(COLOURS) and len(set(spec.colours)) == len(spec.colours) >= 4
    _require(known, "colours", spec.colours, f"four or more different ones of {', '.join(COLOURS)}")
    _require(spec.container in DEFAULT_CODECS, "container", spec.container, f"one of {', '.join(DEFAULT_CODECS)}")
    _require(spec.image_format in IMAGE_SUFFIXES, "image_format", spec.image_format, ", ".join(IMAGE_SUFFIXES))
    _require(spec.backdrop in ("plain", "textured", "mixed"), "backdrop", spec.backdrop, "plain, textured or mixed")
    turns_known = bool(spec.rotations) and set(spec.rotations) <= {0, 90, 180, 270}
    _require(turns_known, "rotations", spec.rotations, "one or more of 0, 90, 180, 270")
