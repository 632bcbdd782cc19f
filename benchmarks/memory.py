"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def extra_memory(work: Callable[[], object]) -> int:
    """Most bytes resident during ``work`` beyond those before it, as the kernel counts them.

    Linux only: there, the highest value so far can be set back. What was freed before but is still held for reuse is
    given back first, as far as the C library does it.

    Raises:
        RuntimeError: the machine does not run Linux.
    """
    if not sys.platform.startswith("linux"):
        raise RuntimeError("peak memory is read from /proc, which this system does not have")
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    value = next(line for line in lines if line.startswith(f"{field}:"))
    return int(value.split()[1]) * 1024


def allocator_peak(work: Callable[[], object]) -> int:
    """Most bytes that torch's allocator of the CPU has given out during ``work`` beyond those before it.

    The profiler reports every allocation and release; what libraries allocate without torch is not among them.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
