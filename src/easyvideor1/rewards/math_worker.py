"""The helper process of ``easyvideor1.rewards.math``: a script that compares one pair a line until its input ends.

In: ``[reference, predicted]`` as JSON. Out: ``1`` equal, ``0`` not. It first prints ``ready``. Limits: its parent's
deadline, memory here, and an alarm that ends a helper left busy by a parent that died.
Nothing else may be written to standard output, so that is kept aside.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import warnings

from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

_MEMORY = 4 << 30


def _expressions(text: str) -> list[object]:
    configs = (LatexExtractionConfig(), ExprExtractionConfig(), StringExtractionConfig())
    # Bare LaTeX is only recognised between dollars.
    marked = text if "$" in text or "\\(" in text or "\\[" in text or "\\boxed" in text else f"${text}$"
    found = parse(marked, extraction_config=configs, parsing_timeout=None)
    if not found and marked != text:
        found = parse(text, extraction_config=configs, parsing_timeout=None)
    return list(found)


def _equal(reference: str, predicted: str) -> bool:
    gold, answer = _expressions(reference), _expressions(predicted)
    return bool(gold and answer and verify(gold, answer, timeout_seconds=None, raise_on_error=False))


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # The first comparison builds the grammars: it must not count against the deadline of somebody's answer.
    _equal("\\frac{1}{2}", "0.5 + x - x")
    replies.write("ready\n")
    limit = float(sys.argv[1])
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, limit + 1)
        reference, predicted = json.loads(line)
        try:
            equal = _equal(reference, predicted)
        except Exception:  # noqa: BLE001  (sympy raises anything on odd input: then equality is not known)
            equal = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(f"{int(equal)}\n")


if __name__ == "__main__":
    main()
