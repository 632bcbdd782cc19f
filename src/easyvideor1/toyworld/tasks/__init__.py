"""Question kinds, one file per family; importing this package registers them all."""

from easyvideor1.toyworld.tasks import boolean, choice, code, grounding, numbers, preference, words
from easyvideor1.toyworld.tasks.kind import KINDS, PROBLEM_TYPES, Kind, Question

__all__ = [
    "KINDS",
    "PROBLEM_TYPES",
    "Kind",
    "Question",
    "boolean",
    "choice",
    "code",
    "grounding",
    "numbers",
    "preference",
    "words",
]
