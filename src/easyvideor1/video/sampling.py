"""Which frames of a clip are read, for every rule of ``VideoBudget.rule``.

``total`` is the number of frames of the clip; ``first`` and ``last`` are its first and last frame in the video. A rule
of another library treats the clip as a video of its own, as that library does when it receives only these frames.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np

from easyvideor1.config.schema import VideoBudget
from easyvideor1.types import MediaError, MediaInfo

#: Timestamps within this distance of the border of a clip, in seconds, count as inside.
CLIP_TOLERANCE = 1e-6

#: 0, 1, 2, ...: arithmetic on slices is cheaper than a new range.
_RAMP = np.arange(4096, dtype=np.float64)

#: Width of the vectors in which torch's CPU kernels fill a range, and the stride after which they go one by one.
_LANES = 8
_STRIDE = 2 * _LANES


def clip(info: MediaInfo, start: float | None, end: float | None) -> tuple[int, int]:
    """First and last frame index (inclusive) of a clip in seconds; at least one frame.

    Raises:
        MediaError: ``clip``.
    """
    begin = 0.0 if start is None else float(start)
    finish = math.inf if end is None else float(end)
    outside = begin > info.duration + CLIP_TOLERANCE or finish < info.timestamps[0] - CLIP_TOLERANCE
    if outside or not begin <= finish:
        raise MediaError(
            f"{info.path}: the clip from {start} to {end} s lies outside the video, which lasts from "
            f"{info.timestamps[0]:g} to {info.duration:.3f} s",
            path=info.path,
            reason="clip",
        )
    first = bisect_left(info.timestamps, begin - CLIP_TOLERANCE)
    last = bisect_right(info.timestamps, finish + CLIP_TOLERANCE) - 1
    if first > last:
        first = last = max(bisect_right(info.timestamps, begin + CLIP_TOLERANCE) - 1, 0)
    return first, last


def clip_seconds(info: MediaInfo, start: float | None, end: float | None) -> tuple[float, float]:
    """Start and end of a clip in seconds: those that were asked for, the end no later than that of the video."""
    return start or 0.0, info.duration if end is None else min(end, info.duration)


def sample(rule: str, info: MediaInfo, budget: VideoBudget, first: int, last: int, multiple: int) -> tuple[int, ...]:
    """Indices of the frames to read, ascending, before the last one is repeated to fill a temporal step.

    Args:
        rule: ``qwen``, ``hf-qwen2``, ``hf-qwen3``, ``uniform`` or ``uniform-time``.
        info: the video.
        budget: its limits.
        first: first frame of the clip.
        last: last frame of the clip.
        multiple: frames per temporal step.
    """
    total = last - first + 1
    if rule == "hf-qwen3":
        return _linspace_double(first, last, qwen3_count(budget, total, info.fps))
    if rule == "hf-qwen2":
        return _arange(first, total, qwen2_count(budget, total, info.fps, multiple))
    count = frame_count(budget, total, info.fps, multiple)
    if rule == "qwen":
        return _linspace(first, last, count)
    return _middles(first, total, count) if rule == "uniform" else _middles_in_time(info, first, last, count)


def frame_count(budget: VideoBudget, total: int, fps: float, multiple: int) -> int:
    """Number of frames to read of ``total`` at ``fps``: a multiple of ``multiple``, or all if there are fewer.

    ``smart_nframes`` of qwen-vl-utils 0.0.14. Where that raises an error (fewer frames than ``multiple``, or a fixed
    number above ``total``), this function uses the frames of the clip.
    """
    if budget.frames is not None:
        return _fixed_count(budget.frames, total, multiple)
    lowest = math.ceil(budget.min_frames / multiple) * multiple
    highest = math.floor(budget.max_frames / multiple) * multiple or budget.max_frames
    wanted = math.floor(min(max(total / fps * budget.fps, lowest), highest, total))
    return wanted // multiple * multiple or max(wanted, 1)


def qwen2_count(budget: VideoBudget, total: int, fps: float, multiple: int) -> int:
    """``Qwen2VLVideoProcessor.sample_frames`` of transformers, without errors in the same way as ``frame_count``.

    Unlike qwen-vl-utils it does not round ``min_frames`` up.
    """
    if budget.frames is not None:
        return _fixed_count(budget.frames, total, multiple)
    highest = min(budget.max_frames, total) // multiple * multiple or min(budget.max_frames, total)
    wanted = math.floor(min(max(total / fps * budget.fps, budget.min_frames), highest))
    return wanted // multiple * multiple or max(wanted, 1)


def qwen3_count(budget: VideoBudget, total: int, fps: float) -> int:
    """``Qwen3VLVideoProcessor.sample_frames`` of transformers: any number of frames, even or odd.

    A fixed number of frames stays as it is: above ``total``, frames repeat.
    """
    if budget.frames is not None:
        return budget.frames
    return min(max(int(total / fps * budget.fps), budget.min_frames), budget.max_frames, total)


def _fixed_count(frames: int, total: int, multiple: int) -> int:
    wanted = min(round(frames / multiple) * multiple or min(frames, multiple - 1), total)
    return wanted // multiple * multiple or max(wanted, 1)


def _linspace(first: int, last: int, count: int) -> tuple[int, ...]:
    """``count`` indices from ``first`` to ``last``, rounded half to even, in single precision.

    qwen-vl-utils uses ``torch.linspace``, whose float32 arithmetic (one rounding per value, mirrored at the middle)
    decides near ties; this is the same arithmetic. Products are exact in float64, so each value is rounded once.
    """
    if count == 1:
        return (first,)
    step = float(np.float32(last - first) / np.float32(count - 1))
    half = count // 2
    ramp = _ramp(count)
    values = np.empty(count, dtype=np.float32)
    np.add(ramp[:half] * step, first, out=values[:half], casting="same_kind")
    np.subtract(last, ramp[count - 1 - half :: -1] * step, out=values[half:], casting="same_kind")
    return tuple(np.rint(values, out=values).astype(np.int64).tolist())


def _linspace_double(first: int, last: int, count: int) -> tuple[int, ...]:
    """``count`` indices from ``first`` to ``last``, rounded half to even, in double precision."""
    return tuple((first + np.rint(np.linspace(0, last - first, count)).astype(np.int64)).tolist())


def _arange(first: int, total: int, count: int) -> tuple[int, ...]:
    """The frame at the start of each of ``count`` equal parts of ``total``, computed in single precision.

    The processor truncates ``torch.arange(0, total, total / count)``. Its kernel rounds the first value of every vector
    to float32 and adds the steps to it, which decides near ties; this is the same arithmetic. If the division rounds
    down, ``arange`` gives one extra value, ``total``, which is not a frame and is dropped.
    """
    step = total / count
    ramp = _ramp(count)
    values = (ramp * step).astype(np.float32)
    whole = count // _STRIDE * _STRIDE
    if whole:
        heads = np.repeat(values[:whole:_LANES].astype(np.float64), _LANES)
        values[:whole] = heads + ramp[:whole] % _LANES * step
    return tuple((first + values.astype(np.int64)).tolist())


def _middles(first: int, total: int, count: int) -> tuple[int, ...]:
    """The frame in the middle of each of ``count`` equal parts of ``total`` frames."""
    return tuple(first + (2 * k + 1) * total // (2 * count) for k in range(count))


def _middles_in_time(info: MediaInfo, first: int, last: int, count: int) -> tuple[int, ...]:
    """The frames on screen in the middle of each of ``count`` equally long parts of the clip, by true times."""
    if count == last - first + 1:
        return tuple(range(first, last + 1))
    begin = info.timestamps[first]
    finish = info.timestamps[last + 1] if last + 1 < info.frame_count else info.duration
    length = (finish - begin) / count
    chosen: list[int] = []
    for k in range(count):
        shown = bisect_right(info.timestamps, begin + (k + 0.5) * length, first, last + 1) - 1
        # A long frame is taken once; the next parts take later frames and leave enough for the parts after them.
        lowest = chosen[-1] + 1 if chosen else first
        chosen.append(min(max(shown, lowest), last - (count - 1 - k)))
    return tuple(chosen)


def _ramp(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return _RAMP[:count] if count <= len(_RAMP) else np.arange(count, dtype=np.float64)
