"""What the code does now against what is recorded: a training run, prompts, plans, scores, advantages and losses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from .compare import differences, read, told
from .made_with import differences as other_origin
from .made_with import environment
from .make import AREAS, FILES
from .parting import until_they_part

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
#: Records of which a message shows a difference.
SHOWN = 8


@pytest.fixture(scope="module")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of files made now, of the areas that are tested, and what their making said.

    In a process of its own: torch must not have been loaded before it is told which kernels to take.
    """
    out = tmp_path_factory.mktemp("golden")
    wanted = {item.callspec.params["area"] for item in request.session.items if _compares(item)}
    command = [sys.executable, "-m", "tests.golden.make", "--out", str(out), *sorted(wanted)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    return out, done.stderr


def _compares(item: Any) -> bool:
    return getattr(item, "originalname", "") == test_nothing_has_changed.__name__


@pytest.mark.parametrize("area", AREAS)
def test_nothing_has_changed(
    area: str, fresh: tuple[Path, str], record_property: Callable[[str, object], None]
) -> None:
    out, said = fresh
    path = FILES / f"{area}.json.gz"
    name = path.relative_to(ROOT).as_posix()
    assert path.is_file(), f"{name} is not there: python -m tests.golden.make {area}"
    if not (out / path.name).is_file():
        pytest.fail(f"python -m tests.golden.make {area} failed:\n{said[-4000:]}", pytrace=False)
    (theirs, recorded), (mine, found) = read(path), read(out / path.name)
    how, recorded, found, tolerance = _how(area, theirs, mine, recorded, found)
    record_property("golden", f"{name}: {how}")  # shown by tests/conftest.py
    different = list(differences(recorded, found, tolerance))
    if different:
        places = "1 place differs" if len(different) == 1 else f"{len(different)} places differ"
        message = [
            f"{name}: {places} from what the code does now ({how}).",
            told(different, SHOWN),
            "If nobody meant to change this, it is a fault in the code. If it was intended, record it with",
            f"    python -m tests.golden.make {area}",
            "and commit the file, with the reason in the message of the commit.",
        ]
        pytest.fail("\n".join(message), pytrace=False)


def _how(area: str, theirs: Mapping[str, str], mine: Mapping[str, str], recorded: Any, found: Any) -> tuple[Any, ...]:
    """How two contents are compared, in words, and as contents and tolerance."""
    other = other_origin(theirs, mine)
    if not other:
        return "compared exactly: made with the same versions and arithmetic", recorded, found, None
    if AREAS[area] is None:
        return f"compared exactly, as always, though made otherwise: {'; '.join(other)}", recorded, found, None
    note = ""
    if area == "training":
        recorded, found, note = until_they_part(recorded, found)
    how = f"floats compared {AREAS[area]}, all else exactly: {'; '.join(other)}{'; ' if note else ''}{note}"
    return how, recorded, found, AREAS[area]


def test_every_file_is_small_and_has_a_maker() -> None:
    files = {path.name: path.stat().st_size for path in FILES.iterdir()}
    assert set(files) == {f"{area}.json.gz" for area in AREAS}
    assert sum(files.values()) < 500_000, files
