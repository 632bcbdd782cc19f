"""The command line ``evr1``: one file per verb.

These files import nothing heavy at module level, so that ``evr1 --help`` is fast. Functions import torch and the other
packages when they need them.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from easyvideor1.cli.app import app

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run ``evr1`` and exit.

    The exit status is 0 on success, 1 when a check failed, 2 for an error that the message explains, 3 when work
    stopped for an external cause and can resume once that is fixed, and 130 after Ctrl-C.
    """
    # torch and transformers make a million objects that stay. Looking through them for cycles again and again takes a
    # quarter of the time of their import, and once more two seconds when the process ends, with which they go anyway.
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)
    # Before torch is loaded: on a busy machine MKL would use fewer threads, and sums would round differently.
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in words:
        # It is an option of evr1 itself, but people append it to the command that just failed.
        words = ["--debug", *(word for word in words if word != "--debug")]
    app(words, prog_name="evr1")
