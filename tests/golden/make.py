"""Makes the golden files:  python -m tests.golden.make [--out DIRECTORY] [AREA ...]

From the root of the repository. Without areas it makes all of them; without a directory it replaces the files that the
tests compare with, which is right when a change was meant to change them, and only then.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .compare import Tolerance, write
from .made_with import environment, made_with

FILES = Path(__file__).parent / "files"

#: What is recorded, and how far its floats may lie apart on a machine that computes otherwise; None: not at all.
#: README.md beside this file says how the numbers were found.
AREAS: dict[str, Tolerance | None] = {
    "training": Tolerance(1e-5, 1e-5),
    "prompts": None,
    "plans": None,
    "scores": Tolerance(1e-12, 1e-12),
    "algorithms": Tolerance(1e-12, 1e-12),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make", description="Make golden files.")
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(AREAS)}; all if none is named")
    parser.add_argument("--out", type=Path, default=FILES, help="directory of the files (default: the recorded ones)")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.areas) - set(AREAS):
        parser.error(f"no area is called {', '.join(sorted(unknown))}: choose of {', '.join(AREAS)}")
    if environment() != dict(os.environ):
        # Torch reads it when it is loaded: it has to be there from the beginning.
        command = [sys.executable, "-m", "tests.golden.make", *(sys.argv[1:] if arguments is None else arguments)]
        raise SystemExit(subprocess.run(command, env=environment(), check=False).returncode)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        for area in chosen.areas or AREAS:
            place = Path(work) / area
            place.mkdir()
            content = importlib.import_module(f"{__package__}.{area}").make(place)
            write(chosen.out / f"{area}.json.gz", made_with(), content)
            print(f"{chosen.out / area}.json.gz", flush=True)


if __name__ == "__main__":
    main()
