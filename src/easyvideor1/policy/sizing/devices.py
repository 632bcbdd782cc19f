"""What devices can do: public peak figures of GPUs, or a short measurement of this machine's processor."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from easyvideor1.types import ConfigError

#: Share of a GPU's peak arithmetic that training reaches. An assumption; measured once: 0.19 to 0.26 for an update of
#: the 2B shape (docs/performance.md).
GPU_UTILISATION = 0.25
#: The same of what a processor reaches in one large matrix product: layers have small operations between them.
CPU_UTILISATION = 0.6
#: Share of a device's memory bandwidth that a step of decoding reaches. An assumption.
BANDWIDTH_UTILISATION = 0.6
#: Share of a GPU's memory that is left to CUDA's context, libraries and fragments of the allocator. An assumption.
RESERVED = 0.08

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """A device: bytes of memory, and operations and bytes per second at their peak.

    ``utilisation`` is the share of the arithmetic that a step is expected to reach, ``source`` where the figures are
    from.
    """

    name: str
    memory: int
    float32: float
    bfloat16: float
    bandwidth: float
    utilisation: float = GPU_UTILISATION
    on_cpu: bool = False
    source: str = "vendor's data sheet"

    def rate(self, dtype: str) -> float:
        """Expected operations per second."""
        return (self.bfloat16 if dtype == "bfloat16" else self.float32) * self.utilisation

    @property
    def usable(self) -> int:
        """Bytes that tensors may take."""
        return self.memory if self.on_cpu else int(self.memory * (1 - RESERVED))


def _gpu(name: str, gib: float, float32: float, bfloat16: float, bandwidth: float) -> Device:
    return Device(name, int(gib * GIB), float32 * 1e12, bfloat16 * 1e12, bandwidth * 1e12)


#: From the vendors' data sheets: GiB of memory, dense TFLOP/s in float32 (without TF32, which is off by default) and
#: bfloat16, and TB/s of memory.
GPUS = {
    device.name.lower(): device
    for device in (
        _gpu("A100-40GB", 40, 19.5, 312, 1.555),
        _gpu("A100-80GB", 80, 19.5, 312, 2.039),
        _gpu("H100-80GB", 80, 67, 989, 3.35),
        _gpu("H20-96GB", 96, 44, 148, 4.0),
        _gpu("H200-141GB", 140, 67, 989, 4.8),
        _gpu("B200-180GB", 180, 75, 2250, 7.7),
        _gpu("L4-24GB", 24, 30.3, 121, 0.3),
        _gpu("L40S-48GB", 48, 91.6, 362, 0.864),
        _gpu("A10-24GB", 24, 31.2, 125, 0.6),
        _gpu("RTX4090-24GB", 24, 82.6, 165, 1.008),
    )
}


def named_device(name: str) -> Device:
    """A device of the table, by its name or the beginning of it.

    Raises:
        ConfigError: there is none, or several.
    """
    found = [device for key, device in GPUS.items() if key.startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    what = "several devices begin so" if found else "there is no such device"
    listed = ", ".join(device.name for device in found or GPUS.values())
    raise ConfigError(f"--device {name}: {what}; write one of {listed}, or cpu")


def this_device(device: torch.device, memory: int | None = None) -> Device:
    """The device that a run would use here.

    Args:
        device: see ``chosen_device``.
        memory: in place of the one that is there.

    Raises:
        ConfigError: a GPU that is not in the table.
    """
    if device.type != "cuda":
        return this_processor(memory)
    properties = torch.cuda.get_device_properties(device)
    name = properties.name.lower().replace(" ", "")
    there = int(properties.total_memory)
    known = [one for key, one in GPUS.items() if key.partition("-")[0] in name]
    if not known:
        raise ConfigError(f"the throughput of {properties.name} is not known; name a device like it with --device")
    nearest = min(known, key=lambda one: abs(one.memory - there))
    return replace(nearest, name=properties.name, memory=memory or there)


def this_processor(memory: int | None = None) -> Device:
    """This machine's processor, measured for about a second, with all of its memory."""
    rates = {dtype: _products_per_second(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return Device(
        name="cpu",
        memory=memory or host_memory(),
        float32=rates[torch.float32],
        bfloat16=rates[torch.bfloat16],
        bandwidth=_bytes_per_second(),
        utilisation=CPU_UTILISATION,
        on_cpu=True,
        source="measured here: one matrix product and one copy",
    )


def host_memory() -> int:
    """Bytes of memory of this machine, or what its container is limited to."""
    import os
    from contextlib import suppress
    from pathlib import Path

    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return found


def _products_per_second(dtype: torch.dtype, size: int = 768, seconds: float = 0.3) -> float:
    left, right = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    left @ right
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds or not count:
        left @ right
        count += 1
    return 2 * size**3 * count / passed


def _bytes_per_second(size: int = 1 << 25, seconds: float = 0.2) -> float:
    data = torch.ones(size // 4)
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds or not count:
        data.clone()
        count += 1
    return 2 * size * count / passed
