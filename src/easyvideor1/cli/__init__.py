"""The command line ``evr1``: one file per verb.

The files of the verbs import nothing heavy at their top, so that ``evr1 --help`` is quick: torch and the rooms are
imported inside the functions that need them.
"""

from __future__ import annotations

import os
import sys

from easyvideor1.cli.app import app

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run ``evr1`` and leave the process.

    The exit status is 0 when the verb did its work, 1 when a check failed, 2 for a mistake that the message explains,
    3 when work stopped for a cause that has to be mended before it can go on, and 130 after Ctrl-C.
    """
    # Before torch is loaded: under load, MKL would take fewer threads, and sums would round differently.
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in words:
        # It belongs to evr1 itself, but people add it at the end of the command that just failed.
        words = ["--debug", *(word for word in words if word != "--debug")]
    app(words, prog_name="evr1")
