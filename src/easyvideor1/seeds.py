"""Seeds by name: everything random is a function of the run's seed and of what it is for."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and a purpose, for example ``(seed, "rollout", stage, step, sample id)``.

    Stable across processes and Python versions, which ``hash()`` is not.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
