"""Small generated media for the tests of this room: every frame is distinct and can be told by its grey level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from easyvideor1 import video
from easyvideor1.config.schema import VideoBudget
from easyvideor1.types import Geometry, MediaPlan

GEOMETRY = Geometry(patch_size=16, merge_size=2, temporal_patch_size=2)
BUDGET = VideoBudget(fps=4, min_frames=2, max_frames=8, min_pixels=1024, max_pixels=64 * 64)

_REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "videos"


def reference_video(name: str) -> Path:
    """A real file; skips the test where the reference material is absent."""
    path = _REFERENCE / name
    if not path.exists():
        pytest.skip(f"needs ../shared/reference/videos/{name} beside the repository")
    return path


def picture(index: int, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """Frame ``index``: a grey level of its own, a gradient across, and a red block in the top left corner."""
    base = 20 + (index * 37) % 180
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = (base + np.linspace(0, 40, width))[None, :, None]
    image[: height // 4, : width // 4] = (230, 20, 20)
    return image


def moving_texture(index: int, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """Frame ``index`` of a picture in which every block moves and changes: a wrong reference shows at once."""
    y, x = np.mgrid[:height, :width]
    texture = np.random.default_rng(5).integers(0, 60, (height, width, 3))
    waves = (
        90 + 60 * np.sin((x + 3 * index) / 7)[..., None] + 40 * np.cos((y - 2 * index) / (5 + index % 11))[..., None]
    )
    return np.clip(waves + np.roll(texture, (index, 2 * index), (0, 1)), 0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    frames: int = 20,
    *,
    size: tuple[int, int] = (64, 64),
    fps: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: int | None = None,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: bool = False,
    muxer: dict[str, str] | None = None,
    draw: Callable[[int, int, int], NDArray[np.uint8]] = picture,
) -> str:
    """Encode ``draw(0..frames-1)``; ``ticks`` are the frames' times in ``time_base`` (constant rate if None)."""
    base = time_base or Fraction(1, fps)
    default = {"bf": "2", "g": "8"} if codec == "libx264" else {}
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options if options is not None else default)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.time_base = base
        stream.codec_context.time_base = base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000) if audio else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(index, *size), format="rgb24")
            frame.pts = ticks[index] if ticks is not None else index
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _mux_silence(container, sound)
    return str(path)


def write_audio(path: Path) -> str:
    """A file with sound and nothing to see."""
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=16000))
    return str(path)


def reference_frames(path: str) -> list[NDArray[np.uint8]]:
    """All frames as the library decodes them from the start, upright size not applied."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def damage(path: str, packets: list[int]) -> None:
    """Overwrite the data of some packets, in the order in which they are stored."""
    with av.open(path) as container:
        entries = container.streams.video[0].index_entries
        places = [(entries[i].pos, entries[i].size) for i in packets]
    data = bytearray(Path(path).read_bytes())
    for begin, size in places:
        data[begin : begin + size] = b"\xff" * size
    Path(path).write_bytes(data)


def plan_clip(
    path: str, budget: VideoBudget = BUDGET, start: float | None = None, end: float | None = None
) -> MediaPlan:
    return video.plan(video.probe(path), budget, GEOMETRY, start=start, end=end)


def _mux_silence(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    for k in range(10):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, k * 1024, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
