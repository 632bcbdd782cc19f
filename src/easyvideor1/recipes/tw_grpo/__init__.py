"""The test questions of TW-GRPO's recipe: those of its toy world, every one of them inverted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from easyvideor1.config.data import DataConfig, SourceConfig
from easyvideor1.data import load_source, write_rows
from easyvideor1.data.inversion import inverted
from easyvideor1.seeds import derive_seed
from easyvideor1.types import DataError


def write_inverted_test(root: Path) -> None:
    """Write ``world/test-inverted.jsonl`` beside the rows that it is made of.

    Raises:
        DataError: a question cannot be inverted, so the test would be a smaller one than the recipe says.
    """
    world = root / "world"
    samples = load_source(SourceConfig(path=str(world / "test.jsonl")), DataConfig()).samples
    found = [inverted(sample, np.random.default_rng(derive_seed(27, "invert", sample.id))) for sample in samples]
    kept = [sample for sample in found if sample is not None]
    if len(kept) < len(samples):
        left = next(sample for sample, other in zip(samples, found, strict=True) if other is None)
        raise DataError(
            f"{world / 'test.jsonl'}: {len(samples) - len(kept)} of {len(samples)} questions cannot be inverted, as "
            f"{left.id} ({left.question!r}); give the world kinds of multiple-choice questions that can"
        )
    write_rows(world / "test-inverted.jsonl", kept)
