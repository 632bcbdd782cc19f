"""Seeds by name: everything random is a function of the run's seed and of what it is for."""

from __future__ import annotations

import hashlib
import json


def derive_seed(*parts: int | str, bits: int = 63) -> int:
    """A seed from the run's seed and a purpose, for example ``(seed, "rollout", stage, step, sample id)``.

    Stable across processes and Python versions, which ``hash()`` is not. The parts are hashed as a JSON list, so that
    different lists have different texts: ``(1, "a", "b")``, ``(1, "ab")`` and ``("1", "a", "b")`` are three seeds.

    Args:
        parts: whole numbers and texts.
        bits: size of the result; 63 fits every generator that takes a signed 64-bit number.
    """
    text = json.dumps([part if isinstance(part, str) else int(part) for part in parts])
    digest = hashlib.blake2b(text.encode(), digest_size=-(-bits // 8)).digest()
    return int.from_bytes(digest, "little") & ((1 << bits) - 1)
