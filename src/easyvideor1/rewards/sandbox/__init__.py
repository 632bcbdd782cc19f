"""Untrusted programs in processes of their own.

``processes`` starts them and is what the package uses. The other files run inside those processes and import only the
standard library: ``runner`` is their script, ``kernel`` takes rights away, ``calls`` and ``objects`` carry calls
between a check and the program, and ``checks`` is what a check sees.
"""

from easyvideor1.rewards.sandbox.processes import (
    Barriers,
    Checked,
    Limits,
    Names,
    ProgramRun,
    SandboxError,
    end_session,
    protection,
    run_checks,
    run_program,
)

__all__ = [
    "Barriers",
    "Checked",
    "Limits",
    "Names",
    "ProgramRun",
    "SandboxError",
    "end_session",
    "protection",
    "run_checks",
    "run_program",
]
