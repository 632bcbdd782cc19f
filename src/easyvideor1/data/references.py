"""The check of a row's reference, which is not made twice of what has not changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1 import rewards
from easyvideor1.data.passed import PassedChecks, check_key
from easyvideor1.rewards.geometry import Scale


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """``rewards.check_answer`` under one setting of ``coordinates``, with what was ``passed`` at earlier starts."""

    coordinates: Scale | None = None
    passed: PassedChecks | None = None

    def __call__(self, task: str, answer: str, options: tuple[str, ...], extra: Mapping[str, Any]) -> None:
        """Accept the reference of a row, or say what is wrong with it.

        Raises:
            DataError: as ``rewards.check_answer``.
            ColumnError: likewise.
        """
        key = self._key(task, answer, options, extra)
        if self.passed is None or not self.passed.knows(key):
            rewards.check_answer(task, answer, options, row=extra, coordinates=self.coordinates)
            if self.passed is not None:
                self.passed.add(key)

    def _key(self, task: str, answer: str, options: tuple[str, ...], extra: Mapping[str, Any]) -> bytes | None:
        """What decides the check, all of it; ``None`` where that cannot be told."""
        if self.passed is None:
            return None
        try:
            json.dumps(extra)  # refuses dates, bytes and arrays: the text of an array, for one, leaves most of it out
            return check_key("reference", task, answer, options, extra, self.coordinates)
        except (TypeError, ValueError, RecursionError):
            return None
