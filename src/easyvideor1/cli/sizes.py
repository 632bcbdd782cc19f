"""Sizes in bytes as people write them: powers of 1024."""

from __future__ import annotations

import re

from easyvideor1.types import ConfigError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGTP])(?:i?B)?|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``100G``, ``1.5 TiB`` or ``4096``; G, GB and GiB all mean 1024**3.

    Raises:
        ConfigError: it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no size: write it like 500M, 100G or 1.5T")
    number, unit = match.groups()
    return int(float(number) * 1024 ** (0 if unit is None else "KMGTP".index(unit.upper()) + 1))


def size_words(size: float) -> str:
    """A number of bytes with three digits and its unit: ``1.46 GiB``."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1024
    if unit == "B":
        return f"{size:.0f} B"
    digits = 2 if size < 10 else 1 if size < 100 else 0
    return f"{size:.{digits}f} {unit}"
